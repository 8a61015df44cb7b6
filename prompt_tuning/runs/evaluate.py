"""Evaluation of a backbone, with or without a tuned prompt."""

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence

import jax
from absl import logging

from prompt_tuning import paths
from prompt_tuning.backbone import Backbone
from prompt_tuning.checkpoints.locate import checkpoint_step
from prompt_tuning.data.features import FeatureLengths
from prompt_tuning.evaluate.ensemble import (
  EnsembleEvaluation,
  check_num_prompts,
)
from prompt_tuning.model import t5
from prompt_tuning.prompts import artifact
from prompt_tuning.prompts.spec import PromptSpec
from prompt_tuning.runs import preflight
from prompt_tuning.runs.abstract import answering_need
from prompt_tuning.runs.arguments import Evaluation
from prompt_tuning.runs.hardware import ALL_DEVICES, Hardware
from prompt_tuning.runs.network import Network, build_network
from prompt_tuning.runs.tuned import read_tuned, with_tuned
from prompt_tuning.train import mesh as mesh_lib
from prompt_tuning.types import Params

PromptFile = str | Sequence[str] | None
"""A tuned prompt, several that make a bank, or none."""


def evaluate(
  *,
  output_dir: str,
  backbone: Backbone,
  feature_lengths: Mapping[str, int],
  evaluations: Sequence[Evaluation],
  prompt_file: PromptFile = None,
  allow_missing_card: bool = False,
  tuned_dir: str | None = None,
  hardware: Hardware = ALL_DEVICES,
) -> dict[str, float]:
  """Evaluates, and writes `metrics.json` and predictions.

  Args:
    output_dir: Where to write.
    backbone: The frozen model, or one that was tuned.
    feature_lengths: TASK_FEATURE_LENGTHS, tokens of inputs and targets.
    evaluations: What to measure.
    prompt_file: A tuned prompt, or several, which make a bank; None for the
      bare model.
    allow_missing_card: Whether to take a prompt without a card for a prefix of
      this backbone.
    tuned_dir: TUNED_DIR, the MODEL_DIR of a run that trained a method, or any
      part of the network; None for none. It has its own prompt.
    hardware: How it lies on the devices.

  Returns:
    Metrics by `<task>/<metric>`.

  Raises:
    ValueError: If the prompt belongs to another backbone, or nothing is to be
      evaluated.
  """
  lengths = check(backbone, feature_lengths, evaluations, prompt_file)
  is_first = jax.process_index() == 0
  if is_first:
    paths.make_writable_dir(output_dir)
  network, step = load_network(
    backbone,
    prompt_file,
    allow_missing_card=allow_missing_card,
    tuned_dir=tuned_dir,
    in_parts=hardware.may_cut,
  )
  num_prompts = network.model.num_prompts
  network, params = on_devices(
    network,
    hardware,
    lengths=lengths,
    batch_size=max(_rows(each, num_prompts) for each in evaluations),
  )
  results: dict[str, float] = {}
  for evaluation in evaluations:
    measure = evaluation.prepare(
      network.model,
      vocabulary=backbone.vocabulary,
      lengths=lengths,
      layout=network.layout,
      output_dir=output_dir,
    )
    results.update(measure(params, step))
  if is_first:
    path = paths.as_path(output_dir) / "metrics.json"
    paths.write_text(path, json.dumps(results, indent=2) + "\n")
  for name, value in results.items():
    logging.info("%s: %.4g", name, value)
  return results


def check(
  backbone: Backbone,
  feature_lengths: Mapping[str, int],
  evaluations: Sequence[Evaluation],
  prompt_file: PromptFile = None,
) -> FeatureLengths:
  """Checks the arguments of `evaluate` before weights and examples are read.

  Raises:
    ValueError: Nothing is to be evaluated, or it is not there or does not fit.
  """
  if not evaluations:
    raise ValueError("There is nothing to evaluate: `evaluations` is empty.")
  lengths = FeatureLengths.from_mapping(feature_lengths)
  preflight.check_evaluations(evaluations, backbone=backbone, lengths=lengths)
  if any(isinstance(each, EnsembleEvaluation) for each in evaluations):
    saved = load_prompt(backbone, prompt_file or None, allow_missing_card=True)
    check_num_prompts(0 if saved is None else _num_prompts(saved))
  return lengths


def _num_prompts(saved: artifact.SavedPrompt) -> int:
  return len(saved.array) if saved.array.ndim == 3 else 1


def _rows(evaluation: Evaluation, num_prompts: int) -> int:
  """Returns the rows of a batch; evaluations of a user's own need not say."""
  if isinstance(evaluation, EnsembleEvaluation):
    return evaluation.rows(num_prompts)
  return getattr(evaluation, "batch_size", 1)


def on_devices(
  network: Network,
  hardware: Hardware,
  *,
  lengths: FeatureLengths,
  batch_size: int,
) -> tuple[Network, Params]:
  """Returns the network as it runs on the devices, and its parameters there.

  The network returned has none: on the host they would be a second copy.

  Args:
    network: The network, its parameters on the host or to be read.
    hardware: How it is to lie on the devices.
    lengths: Tokens of inputs and targets.
    batch_size: B, of the largest batch; it need not divide.

  Raises:
    ValueError: If the mesh does not use the devices, or a parameter does not
      divide over it.
  """
  rules = hardware.axis_rules
  need = functools.partial(
    answering_need,
    network,
    lengths=lengths,
    batch_size=batch_size,
    rules=rules,
  )
  mesh = hardware.mesh(lambda: need)
  axes = t5.logical_axes(network.model)
  shardings = mesh_lib.param_shardings(
    network.params, axes, mesh=mesh, rules=rules
  )
  placed = mesh_lib.place(network.params, shardings)
  network = dataclasses.replace(network, params={})
  return network.on(mesh, rules), placed


def load_network(
  backbone: Backbone,
  prompt_file: PromptFile,
  *,
  allow_missing_card: bool = False,
  tuned_dir: str | None = None,
  in_parts: bool = False,
) -> tuple[Network, int]:
  """Returns a backbone with what was tuned in place, and the step it is of.

  That is the prompt's, or the run's; of a bare model its checkpoint's, 0 if
  that has none. In parts, its weights are read only when they are placed.

  Raises:
    ValueError: If the prompt has another width, what was tuned belongs to
      another backbone, several prompts do not make a bank, or both a prompt and
      a run are given.
  """
  tuned = read_tuned(tuned_dir, config=backbone.config, prompt_file=prompt_file)
  if tuned is not None:
    network = build_network(
      backbone,
      tuned.prompt,
      rng=jax.random.key(0),
      method=tuned.method,
      in_parts=in_parts,
    )
    return with_tuned(network, tuned), tuned.step
  saved = load_prompt(
    backbone, prompt_file, allow_missing_card=allow_missing_card
  )
  if saved is None or prompt_file is None:
    network = build_network(
      backbone, None, rng=jax.random.key(0), in_parts=in_parts
    )
    assert backbone.checkpoint is not None  # It was read.
    return network, checkpoint_step(backbone.checkpoint) or 0
  network = build_network(
    backbone,
    PromptSpec.of_saved(saved),
    rng=jax.random.key(0),
    in_parts=in_parts,
  )
  source = ", ".join(_files(prompt_file))
  artifact.check_backbone(saved, network.fingerprint, source=source)
  tuned_in = saved.card.backbone_dtype if saved.card else ""
  if tuned_in and tuned_in != network.dtype:
    logging.warning(
      "%s was tuned on this backbone in %s; here it is in %s.",
      source,
      tuned_in,
      network.dtype,
    )
  network.params["prompt"]["embedding"] = saved.array
  return network, saved.card.step if saved.card else 0


def load_prompt(
  backbone: Backbone,
  prompt_file: PromptFile,
  *,
  allow_missing_card: bool = False,
) -> artifact.SavedPrompt | None:
  """Returns a saved prompt of the backbone's width; None for the bare model.

  Raises:
    ValueError: If it has another width, or no card and may not lack it; or
      several do not make a bank.
  """
  if prompt_file is None:
    return None
  files = _files(prompt_file)
  saved = [
    artifact.load_prompt(
      file,
      expected_width=backbone.config.embed_dim,
      allow_missing_card=allow_missing_card,
    )
    for file in files
  ]
  if len(saved) == 1:
    return saved[0]
  return artifact.stack_prompts(saved, sources=files)


def _files(prompt_file: str | Sequence[str]) -> list[str]:
  files = [prompt_file] if isinstance(prompt_file, str) else list(prompt_file)
  if not files:
    raise ValueError(
      "PROMPT_FILE names no file; None stands for the bare model."
    )
  return files
