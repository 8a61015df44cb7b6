"""Predictions for texts that need no labels."""

import dataclasses
import enum
import functools
import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import jax
import numpy as np
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
from prompt_tuning.evaluate.predictors import (
  Predict,
  Predictor,
  RankClassification,
)
from prompt_tuning.model.scoring import sequence_log_likelihood
from prompt_tuning.model.t5 import T5
from prompt_tuning.runs import preflight
from prompt_tuning.runs.answer_parts import AnswerParts
from prompt_tuning.runs.evaluate import load_network, on_devices
from prompt_tuning.runs.hardware import ALL_DEVICES, Hardware
from prompt_tuning.runs.network import Network
from prompt_tuning.types import Array, Batch, Float, Params, enum_member

_LINES_OF_PART = 16384


class Mode(enum.Enum):
  """What is written for every input."""

  PREDICT = "predict"
  SCORE = "score"
  CLASSIFY = "classify"


class Texts(Protocol):
  """A finite list of examples, such as `FileInputs` or `TaskInputs`."""

  def examples(self, vocabulary: Vocabulary) -> Sequence[Example]:
    """Returns the examples, tokenised when they are asked for or before."""
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

  Of many inputs the lines are kept in parts until all are there: the run given
  again goes on where it was interrupted.

  Args:
    output_file: Where to; it appears when it is complete.
    backbone: The frozen model.
    inputs: What to predict for.
    feature_lengths: TASK_FEATURE_LENGTHS, tokens of inputs and targets.
    batch_size: B.
    predictor: How answers are found.
    length_buckets: How many encoder lengths batches have: a function is
      compiled for each. See `data.batches.evaluation_batches`.
    mode: Predict an answer; score the target that the input has, by the sum of
      its tokens' log-likelihoods, in nats; or classify, which tells the label
      that rank classification finds likeliest, how likely among the labels it
      is (`confidence`), and how likely each.
    prompt_file: A tuned prompt; None for the bare model.
    allow_missing_card: See `runs.evaluate.evaluate`.
    tuned_dir: See `runs.evaluate.evaluate`.
    seed: For predictors that draw; what they draw for an input depends on it
      and on the input's number.
    hardware: How it lies on the devices.

  Raises:
    ValueError: If the prompt belongs to another backbone, an input is empty or
      malformed, it is to classify and the predictor ranks no labels, or parts
      of another run are in the way; nothing is written then.
  """
  mode = enum_member(Mode, mode, name="INFER_MODE")
  check_shapes(batch_size=batch_size, length_buckets=length_buckets)
  lengths = check(backbone, inputs, feature_lengths, mode, predictor)
  is_first = jax.process_index() == 0
  if is_first:
    paths.check_writable_file(output_file)
  network, step = load_network(
    backbone,
    prompt_file,
    allow_missing_card=allow_missing_card,
    tuned_dir=tuned_dir,
    in_parts=hardware.may_cut,
  )
  examples = inputs.examples(backbone.vocabulary)
  builder = FeatureBuilder(
    lengths,
    vocab_size=backbone.config.vocab_size,
    layout=network.layout,
    num_prompts=network.model.num_prompts,
  )
  # Before anything is predicted, which an empty line would throw away.
  digest = _Digest()
  builder.check(digest.watch(examples))
  if is_first:
    paths.make_writable_dir(paths.as_path(output_file).parent)
  parts = AnswerParts(
    output_file,
    {
      "backbone": network.identity,
      "tuned": tuned_dir and f"{tuned_dir}, step {step}",
      "prompt": _prompt_digest(network),
      "inputs": digest.hex,
      "feature_lengths": dataclasses.asdict(lengths),
      "batch_size": batch_size,
      "length_buckets": length_buckets,
      "mode": mode.value,
      "predictor": repr(predictor),
      "seed": seed,
    },
    num_lines=len(examples),
  )
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
  batches_of_part = max(1, _LINES_OF_PART // batch_size)
  batches = evaluation_batches(
    examples,
    builder,
    batch_size=batch_size,
    length_buckets=length_buckets,
    skip=parts.num_parts * batches_of_part,
  )
  answered = over_devices.answers(answer, params, batches, seed=seed)
  while part := list(itertools.islice(answered, batches_of_part)):
    lines = {}
    for batch, answers in part:
      for index, value in batch.by_example(answers.tolist()):
        text = examples[index].get("inputs_pretokenized")
        found = _found(value, mode, backbone.vocabulary, predictor)
        lines[index] = json.dumps({"inputs": text, **found}, ensure_ascii=False)
    parts.add(lines)
  parts.finish()
  logging.info(
    "Wrote %d lines to %s. %s", len(examples), output_file, builder.summary()
  )


class _Digest:
  """A digest of examples that are looked at one by one."""

  def __init__(self):
    self._sha = hashlib.sha256()

  def watch(self, examples: Iterable[Example]) -> Iterator[Example]:
    """Passes examples on."""
    for example in examples:
      for key in ("inputs", "targets", "prompt_index"):
        value = np.asarray(example.get(key, ()), np.int32)
        self._sha.update(f"{value.size};".encode() + value.tobytes())
      # It is written beside the answer.
      self._sha.update(f"{example.get('inputs_pretokenized')};".encode())
      yield example

  @property
  def hex(self) -> str:
    """What came by, in short."""
    return self._sha.hexdigest()[:16]


def _prompt_digest(network: Network) -> str | None:
  """Returns a digest of the prompt, which no backbone's fingerprint has."""
  module = network.model.prompt
  if module is None:
    return None
  array = np.asarray(network.params["prompt"]["embedding"])
  text = f"{array.shape};{network.layout};{module.attention}"
  return hashlib.sha256(text.encode() + array.tobytes()).hexdigest()[:16]


def _found(
  value: Any, mode: Mode, vocabulary: Vocabulary, predictor: Predictor
) -> dict[str, Any]:
  """Returns what is written of an answer."""
  if mode is Mode.PREDICT:
    return {mode.value: vocabulary.decode(value)}
  if mode is Mode.SCORE:
    return {mode.value: value}
  assert isinstance(predictor, RankClassification)
  likely = dict(zip(predictor.labels, value, strict=True))
  label = max(likely, key=likely.__getitem__)
  return {
    "label": label,
    "confidence": likely[label],
    "probabilities": likely,
  }


def check(
  backbone: Backbone,
  inputs: Texts,
  feature_lengths: Mapping[str, int],
  mode: Mode,
  predictor: Predictor,
) -> FeatureLengths:
  """Checks the arguments of `infer` before weights and inputs are read.

  Raises:
    ValueError: There are no targets to score or no labels to rank, or what is
      to be read is not there or does not fit.
  """
  if mode is Mode.CLASSIFY and not isinstance(predictor, RankClassification):
    raise ValueError(
      f"INFER_MODE is 'classify', but the predictor {predictor} ranks no "
      "labels; give decoding/rank.gin and CLASS_LABELS"
    )
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
    mode: Whether answers are token ids [B, T], the scores [B] of targets, or
      the probabilities [B, C] of labels.
  """
  if mode is Mode.PREDICT:
    return predictor.build(model, vocabulary=vocabulary, lengths=lengths)
  if mode is Mode.CLASSIFY:
    assert isinstance(predictor, RankClassification)
    rank = predictor.classifier(model, vocabulary=vocabulary).rank
    return lambda params, batch, rngs: jax.nn.softmax(
      rank(params, batch).scores, axis=-1
    )
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
