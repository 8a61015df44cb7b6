"""What a run would do, without weights and without reading its data.

Each function here has the name and the arguments of the run that it describes.
It refuses what shows without weights and folders, and computes everything else
on shapes, so that XXL can be looked at on a laptop. Nothing is written.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from prompt_tuning.backbone import Backbone
from prompt_tuning.data.batches import check_shapes
from prompt_tuning.evaluate.ensemble import (
  EnsembleEvaluation,
  of_all_prompts,
)
from prompt_tuning.evaluate.predictors import Predictor
from prompt_tuning.evaluate.tasks import TaskEvaluation
from prompt_tuning.prompts.spec import PromptSpec
from prompt_tuning.runs import evaluate as evaluate_lib
from prompt_tuning.runs import infer as infer_lib
from prompt_tuning.runs import train as train_lib
from prompt_tuning.runs import train_jointly as joint_lib
from prompt_tuning.runs.abstract import (
  AbstractRun,
  abstract_batch,
  abstract_key,
  abstract_keys,
  abstract_mesh,
  num_bytes,
)
from prompt_tuning.runs.hardware import Hardware
from prompt_tuning.runs.network import Network, abstract_network
from prompt_tuning.runs.tuned import read_tuned
from prompt_tuning.train import mesh as mesh_lib
from prompt_tuning.train import partition
from prompt_tuning.train.held_out import HeldOutLoss
from prompt_tuning.train.step import batch_loss
from prompt_tuning.types import enum_member

_ROW = "{:<24}{:>16}{:>20}"


def train(**given: Any) -> str:
  """Returns the parameter table and one step by shape evaluation, as text.

  Args:
    **given: See `runs.train.train`. This machine need not have the devices of
      the hardware.

  Raises:
    ValueError: As the run itself would, of what can be known without weights
      and data.
  """
  a = train_lib.with_defaults(given)
  train_lib.check(a)
  run = AbstractRun(a)
  mesh = _mesh(a.hardware, run)
  run.check_mesh(mesh)
  after, metrics = jax.eval_shape(
    run.train_step(), run.state, run.frozen, run.batch, abstract_key()
  )
  params = partition.merge(run.state.trainable, run.frozen)
  lines = [
    partition.describe(params, a.trainable),
    *_batch_lines("one batch", run.batch),
    f"frozen parameters: {_bytes(run.frozen)}",
    f"trainable parameters: {_bytes(after.trainable)}",
    f"optimizer state: {_bytes(after.opt_state)}",
    f"metrics: {', '.join(sorted(metrics))}",
    *_mesh_lines(run, mesh),
  ]
  return "\n".join(lines) + "\n"


def train_jointly(runs: Mapping[str, Mapping[str, Any]]) -> str:
  """Returns the runs of a job and the first of them by shapes, as text.

  Args:
    runs: See `runs.train_jointly.train_jointly`.

  Raises:
    ValueError: As the job itself would, of what can be known without weights
      and data; the run is named.
  """
  arguments = {
    name: train_lib.with_defaults(given) for name, given in runs.items()
  }
  joint_lib.check(arguments)
  lines = [f"{len(runs)} runs over one backbone:"]
  for name, each in arguments.items():
    joint_lib.check_alone(name, each)
    lines.append(f"  {name}: {each.inputs.name}, in {each.model_dir}")
  name, first = next(iter(runs.items()))
  return "\n".join([*lines, "", f"{name}:", train(**first)])


def evaluate(
  *,
  backbone: Backbone,
  feature_lengths: Mapping[str, int],
  evaluations: Sequence[train_lib.Evaluation],
  prompt_file: evaluate_lib.PromptFile = None,
  allow_missing_card: bool = False,
  tuned_dir: str | None = None,
  **unused: Any,
) -> str:
  """Returns the parameters and one batch of each evaluation by shapes, as text.

  Args:
    backbone: See `runs.evaluate.evaluate` for this and the others.
    feature_lengths: TASK_FEATURE_LENGTHS.
    evaluations: What is measured.
    prompt_file: A tuned prompt, which is read: it is small.
    allow_missing_card: Whether to take a prompt without a card.
    tuned_dir: See `runs.evaluate.evaluate`; of it the description is read.
    **unused: What else a run is configured with, which decides no shape.

  Raises:
    ValueError: As the run itself would, of what can be known without weights
      and data.
  """
  del unused
  lengths = evaluate_lib.check(
    backbone, feature_lengths, evaluations, prompt_file
  )
  network, lines = _frozen(backbone, prompt_file, allow_missing_card, tuned_dir)
  for evaluation in evaluations:
    match evaluation:
      case TaskEvaluation():
        title = f"one batch of task {evaluation.task}"
        answer = evaluation.predictor.build(
          network.model, vocabulary=backbone.vocabulary, lengths=lengths
        )
        batch = abstract_batch(network, lengths, evaluation.batch_size)
        lines += _answered(title, answer, network, batch, "predictions")
      case EnsembleEvaluation():
        title = f"one batch of task {evaluation.each.task}, of all prompts"
        answer = of_all_prompts(
          evaluation.each.predictor.build(
            network.model, vocabulary=backbone.vocabulary, lengths=lengths
          ),
          network.model,
        )
        batch = abstract_batch(network, lengths, evaluation.batch_size)
        lines += _answered(title, answer, network, batch, "predictions")
      case HeldOutLoss():
        names = " and of ".join(part.name for part in evaluation.parts)
        title = f"one batch of {names}"
        batch = abstract_batch(network, lengths, evaluation.batch_size)
        lines += _answered(title, _loss_fn(network), network, batch, "loss")
      case _:
        lines.append(f"not known by its shapes: {type(evaluation).__name__}")
  return "\n".join(lines) + "\n"


def infer(
  *,
  backbone: Backbone,
  inputs: infer_lib.Texts,
  feature_lengths: Mapping[str, int],
  batch_size: int,
  predictor: Predictor,
  length_buckets: int = 1,
  mode: infer_lib.Mode | str = infer_lib.Mode.PREDICT,
  prompt_file: str | None = None,
  allow_missing_card: bool = False,
  tuned_dir: str | None = None,
  **unused: Any,
) -> str:
  """Returns the parameters and one batch by shapes, as text.

  Args:
    backbone: See `runs.infer.infer` for this and the others.
    inputs: What to predict for; of a file the first line is read.
    feature_lengths: TASK_FEATURE_LENGTHS.
    batch_size: B.
    predictor: How answers are found.
    length_buckets: How many encoder lengths batches have; the longest is shown.
    mode: What is written of each.
    prompt_file: A tuned prompt, which is read: it is small.
    allow_missing_card: Whether to take a prompt without a card.
    tuned_dir: See `runs.evaluate.evaluate`; of it the description is read.
    **unused: What else a run is configured with, which decides no shape.

  Raises:
    ValueError: As the run itself would, of what can be known without weights
      and data.
  """
  del unused
  mode = enum_member(infer_lib.Mode, mode, name="INFER_MODE")
  check_shapes(batch_size=batch_size, length_buckets=length_buckets)
  lengths = infer_lib.check(backbone, inputs, feature_lengths, mode, predictor)
  network, lines = _frozen(backbone, prompt_file, allow_missing_card, tuned_dir)
  answer = infer_lib.answer_fn(
    network.model,
    vocabulary=backbone.vocabulary,
    lengths=lengths,
    predictor=predictor,
    mode=mode,
  )
  lines += _answered(
    "one batch",
    answer,
    network,
    abstract_batch(network, lengths, batch_size),
    _WRITTEN[mode],
  )
  return "\n".join(lines) + "\n"


_WRITTEN = {
  infer_lib.Mode.PREDICT: "predictions",
  infer_lib.Mode.SCORE: "scores",
  infer_lib.Mode.CLASSIFY: "probabilities",
}


def _frozen(
  backbone: Backbone,
  prompt_file: evaluate_lib.PromptFile,
  allow_missing_card: bool,
  tuned_dir: str | None,
) -> tuple[Network, list[str]]:
  """Returns a network of which nothing is trained, and a table of it."""
  saved = evaluate_lib.load_prompt(
    backbone, prompt_file, allow_missing_card=allow_missing_card
  )
  tuned = read_tuned(tuned_dir, config=backbone.config, prompt_file=prompt_file)
  if tuned is not None:
    network = abstract_network(backbone, tuned.prompt, method=tuned.method)
  else:
    network = abstract_network(
      backbone, None if saved is None else PromptSpec.of_saved(saved)
    )
  lines = [_ROW.format("subtree", "frozen", "bytes")]
  for name, part in [
    *sorted(network.params.items()),
    ("total", network.params),
  ]:
    lines.append(_ROW.format(name, f"{_count(part):,}", f"{num_bytes(part):,}"))
  lines.append("trainable: nothing")
  if tuned is not None:
    known = tuned.backbone or "that nothing names"
    lines.append(f"tuned: {tuned.source}, on the backbone {known}")
  if saved is not None:
    shape = list(saved.array.shape)
    lines.append(f"prompt: {saved.array.dtype}{shape} from {prompt_file}")
    if saved.card is not None:
      # Whether it is this backbone does not show without weights.
      lines.append(
        f"  tuned on {saved.card.task or 'a task without a name'}, step "
        f"{saved.card.step}, with the backbone {saved.card.backbone}"
      )
  return network, [*lines, ""]


def _loss_fn(network: Network) -> Callable[..., Any]:
  return lambda params, batch, rngs: batch_loss(network.model, params, batch)


def _answered(
  title: str,
  answer: Callable[..., Any],
  network: Network,
  batch: Mapping[str, jax.ShapeDtypeStruct],
  what: str,
) -> list[str]:
  """Describes one batch and what comes out for it."""
  rows, _ = batch["encoder_input_tokens"].shape
  answers = jax.eval_shape(answer, network.params, batch, abstract_keys(rows))
  shapes = ", ".join(map(_shape, jax.tree.leaves(answers)))
  return [
    *_batch_lines(title, batch),
    f"{what}: {shapes}, {_bytes(answers)}",
  ]


def _batch_lines(
  title: str, batch: Mapping[str, jax.ShapeDtypeStruct]
) -> list[str]:
  features = [f"  {name}: {_shape(x)}" for name, x in batch.items()]
  return [f"{title}: {_bytes(batch)}", *features]


def _mesh(hardware: Hardware, run: AbstractRun) -> Any:
  """Returns the mesh of a run, an abstract one if it takes more devices."""
  asked = max(hardware.data, 1) * hardware.sequence
  shape = hardware.shape(
    lambda: run.need,
    rows=run.rows,
    num_devices=max(jax.device_count(), asked),
  )
  data = 1 if shape.data == -1 else shape.data
  is_number = min(data, shape.sequence, shape.model) > 0
  if is_number and data * shape.sequence * shape.model > jax.device_count():
    return abstract_mesh(dataclasses.replace(shape, data=data))
  return shape.on()


def _mesh_lines(run: AbstractRun, mesh: Any) -> list[str]:
  """Describes what lies on each device."""
  lines = [
    f"on each of {mesh.size} devices ({mesh_lib.describe(mesh)}): "
    f"{run.held_bytes(mesh):,} bytes of parameters and optimizer state"
  ]
  if mesh.size > jax.device_count():
    lines.append(
      f"this machine has only {jax.device_count()} of the {mesh.size} devices: "
      "here the run would be refused"
    )
  return lines


def _shape(leaf: Any) -> str:
  return f"{leaf.dtype}{list(leaf.shape)}"


def _count(tree: Any) -> int:
  return sum(int(np.prod(x.shape)) for x in jax.tree.leaves(tree))


def _bytes(tree: Any) -> str:
  return f"{num_bytes(tree):,} bytes"
