"""Predictions for texts that need no labels."""

import enum
import functools
import json
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
from absl import logging

from prompt_tuning import paths
from prompt_tuning.backbone import Backbone
from prompt_tuning.data.batches import check_shapes, evaluation_batches
from prompt_tuning.data.features import (
  Example,
  FeatureBuilder,
  FeatureLengths,
)
from prompt_tuning.data.inputs import FileInputs
from prompt_tuning.data.vocabularies import Vocabulary
from prompt_tuning.evaluate import over_devices
from prompt_tuning.evaluate.predictors import Predict, Predictor
from prompt_tuning.model.scoring import sequence_log_likelihood
from prompt_tuning.model.t5 import T5
from prompt_tuning.runs import preflight
from prompt_tuning.runs.evaluate import load_network, on_devices
from prompt_tuning.runs.hardware import ALL_DEVICES, Hardware
from prompt_tuning.types import Array, Batch, Float, Params, enum_member


class Mode(enum.Enum):
  """What is written for every input."""

  PREDICT = "predict"
  SCORE = "score"


class Texts(Protocol):
  """A finite list of examples, such as `FileInputs` or `TaskInputs`."""

  def examples(self, vocabulary: Vocabulary) -> list[Example]:
    """Returns the examples, tokenised."""
    ...


def infer(
  *,
  output_file: str,
  backbone: Backbone,
  inputs: Texts,
  feature_lengths: Mapping[str, int],
  batch_size: int,
  predictor: Predictor,
  length_buckets: int = 1,
  mode: Mode | str = Mode.PREDICT,
  prompt_file: str | None = None,
  allow_missing_card: bool = False,
  tuned_dir: str | None = None,
  seed: int = 0,
  hardware: Hardware = ALL_DEVICES,
) -> None:
  """Writes a line of JSON for every input, in the order of the inputs.

  Args:
    output_file: Where to; it appears when it is complete.
    backbone: The frozen model.
    inputs: What to predict for.
    feature_lengths: TASK_FEATURE_LENGTHS, tokens of inputs and targets.
    batch_size: B.
    predictor: How answers are found.
    length_buckets: How many encoder lengths batches have: a function is
      compiled for each. See `data.batches.evaluation_batches`.
    mode: Predict an answer, or score the target that the input has: the sum of
      its tokens' log-likelihoods, in nats.
    prompt_file: A tuned prompt; None for the bare model.
    allow_missing_card: See `runs.evaluate.evaluate`.
    tuned_dir: See `runs.evaluate.evaluate`.
    seed: For predictors that draw; what they draw for an input depends on it
      and on the input's number.
    hardware: How it lies on the devices.

  Raises:
    ValueError: If the prompt belongs to another backbone, or an input is empty
      or malformed; nothing is written then.
  """
  mode = enum_member(Mode, mode, name="INFER_MODE")
  check_shapes(batch_size=batch_size, length_buckets=length_buckets)
  lengths = check(backbone, inputs, feature_lengths, mode)
  is_first = jax.process_index() == 0
  if is_first:
    paths.check_writable_file(output_file)
  network, _ = load_network(
    backbone,
    prompt_file,
    allow_missing_card=allow_missing_card,
    tuned_dir=tuned_dir,
  )
  examples = inputs.examples(backbone.vocabulary)
  builder = FeatureBuilder(
    lengths,
    vocab_size=backbone.config.vocab_size,
    layout=network.layout,
    num_prompts=network.model.num_prompts,
  )
  # Before anything is predicted, which an empty line would throw away.
  builder.check(examples)
  if is_first:
    paths.make_writable_dir(paths.as_path(output_file).parent)
  network, params = on_devices(
    network, hardware, lengths=lengths, batch_size=batch_size
  )
  answer = answer_fn(
    network.model,
    vocabulary=backbone.vocabulary,
    lengths=lengths,
    predictor=predictor,
    mode=mode,
  )
  lines: list[str] = [""] * len(examples)
  batches = evaluation_batches(
    examples, builder, batch_size=batch_size, length_buckets=length_buckets
  )
  for batch, answers in over_devices.answers(
    answer, params, batches, seed=seed
  ):
    for index, value in batch.by_example(answers.tolist()):
      if mode is Mode.PREDICT:
        value = backbone.vocabulary.decode(value)
      text = examples[index].get("inputs_pretokenized")
      lines[index] = json.dumps(
        {"inputs": text, mode.value: value}, ensure_ascii=False
      )
  if is_first:
    paths.write_text(output_file, "".join(f"{line}\n" for line in lines))
  logging.info(
    "Wrote %d lines to %s. %s", len(lines), output_file, builder.summary()
  )


def check(
  backbone: Backbone,
  inputs: Texts,
  feature_lengths: Mapping[str, int],
  mode: Mode,
) -> FeatureLengths:
  """Checks the arguments of `infer` before weights and inputs are read.

  Raises:
    ValueError: There are no targets to score, or what is to be read is not
      there or does not fit.
  """
  has_targets = not isinstance(inputs, FileInputs) or inputs.targets
  if mode is Mode.SCORE and not has_targets:
    raise ValueError(
      "INFER_MODE is 'score', but nothing says which targets to score; set "
      "TARGETS_TEXT, such as '{target}'."
    )
  lengths = FeatureLengths.from_mapping(feature_lengths)
  preflight.check_inputs(inputs, backbone=backbone, lengths=lengths)
  return lengths


def answer_fn(
  model: T5,
  *,
  vocabulary: Vocabulary,
  lengths: FeatureLengths,
  predictor: Predictor,
  mode: Mode,
) -> Predict | Callable[[Params, Batch, Any], Float[Array, " B"]]:
  """Returns `(all parameters, batch, keys) -> answers`, compiled when called.

  Args:
    model: The network, prompt included.
    vocabulary: The model's.
    lengths: Tokens of inputs and targets.
    predictor: How answers are found.
    mode: Whether answers are token ids [B, T] or the scores [B] of targets.
  """
  if mode is Mode.PREDICT:
    return predictor.build(model, vocabulary=vocabulary, lengths=lengths)
  return lambda params, batch, rngs: _score(model, params, batch)


@functools.partial(jax.jit, static_argnums=0)
def _score(model: T5, params: Params, batch: Batch) -> Float[Array, " B"]:
  logits: Any = model.apply(
    {"params": params},
    batch["encoder_input_tokens"],
    batch["decoder_input_tokens"],
    prompt_index=batch.get("prompt_index"),
  )
  return sequence_log_likelihood(
    logits, batch["decoder_target_tokens"], batch["decoder_loss_weights"]
  )
