"""Tokenised examples to the arrays that a model takes.

A tokenised example is a mapping with `inputs` and `targets`, one-dimensional
token ids that end with the end of sequence where the task adds one, and, where
there is a bank, `prompt_index`, the prompt that its slots name. A batch is

* `encoder_input_tokens` [B, L]: inputs with the slots in place;
* `decoder_input_tokens` [B, T]: targets shifted right behind a 0;
* `decoder_target_tokens` [B, T];
* `decoder_loss_weights` [B, T]: 1 on targets, 0 on padding;
* `prompt_index` [B], where there is a bank whose slots do not stand in rows,

int32 but for the float32 weights, padded with 0 on the right.
"""

import copy
import dataclasses
import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from prompt_tuning.prompts import layout as layout_lib
from prompt_tuning.types import EOS_ID

Example = Mapping[str, Any]
WHOLE = "whole"
"""A field that says, where it is true, that inputs may not be cut."""
Features = dict[str, np.ndarray]

_KEYS = ("inputs", "targets")


class BatchIterator(Protocol):
  """Batches that can be left and continued.

  Restoring a state and continuing gives exactly the batches of a run that was
  never interrupted.
  """

  def __iter__(self) -> Iterator[Features]:
    """Returns itself."""
    ...

  def __next__(self) -> Features:
    """Returns the next batch."""
    ...

  def state(self) -> dict[str, Any]:
    """Returns where the next batch stands, JSON-able."""
    ...

  def restore(self, state: Mapping[str, Any]) -> None:
    """Continues from a position that `state` returned."""
    ...


@dataclasses.dataclass(frozen=True)
class FeatureLengths:
  """How many of an example's own tokens a row holds.

  Slots and the fixed words of a template come on top, as in T5X, so that a
  longer prompt does not shorten the input.

  Attributes:
    inputs: Tokens of the input, end of sequence included.
    targets: T, tokens of the target, end of sequence included.
  """

  inputs: int
  targets: int

  def __post_init__(self):
    for name in _KEYS:
      length = getattr(self, name)
      is_integer = isinstance(length, int) and not isinstance(length, bool)
      if not is_integer or length < 1:
        raise ValueError(
          f"TASK_FEATURE_LENGTHS[{name!r}] must be a positive integer of "
          f"tokens, got {length!r}"
        )

  @classmethod
  def from_mapping(cls, lengths: Mapping[str, int]) -> "FeatureLengths":
    """Reads TASK_FEATURE_LENGTHS, `{"inputs": 512, "targets": 8}`.

    Raises:
      ValueError: A key is unknown or missing, or a length is not a positive
        integer.
    """
    expected = 'expected {"inputs": <tokens>, "targets": <tokens>}'
    if not isinstance(lengths, Mapping):
      raise ValueError(f"TASK_FEATURE_LENGTHS is {lengths!r}; {expected}")
    unknown = [str(key) for key in lengths if key not in _KEYS]
    missing = [key for key in _KEYS if key not in lengths]
    if unknown or missing:
      raise ValueError(
        f"TASK_FEATURE_LENGTHS has unknown keys {unknown} and lacks {missing}"
        f"{_suggest(unknown)}; {expected}, got {dict(lengths)}"
      )
    return cls(inputs=lengths["inputs"], targets=lengths["targets"])

  def fitting(
    self, examples: Iterable[Example], *, num_added: int = 0, multiple: int = 1
  ) -> "FeatureLengths":
    """Returns lengths at which as much is cut as at these, and no row is empty.

    Padding changes no result, so that rows need be no longer than the longest
    example.

    Args:
      examples: All that there are.
      num_added: Slots and words of a template, on top of the inputs.
      multiple: Of which the row of the encoder is to be, if it gets shorter.

    Raises:
      ValueError: There are no examples.
    """
    sizes = [(len(e["inputs"]), len(e["targets"])) for e in examples]
    if not sizes:
      raise ValueError("cannot measure feature lengths: there are no examples")
    inputs, targets = (max(column) for column in zip(*sizes, strict=True))
    inputs += -(inputs + num_added) % multiple
    return FeatureLengths(
      inputs=max(1, min(inputs, self.inputs)),
      targets=max(1, min(targets, self.targets)),
    )


@dataclasses.dataclass
class CutCounter:
  """What truncation took from one feature.

  Attributes:
    feature: "inputs" or "targets".
    length: Tokens that fit.
    examples: Examples seen; one that is seen again counts again.
    examples_cut: Examples that lost tokens.
    tokens_cut: Tokens lost.
    longest: Tokens of the longest example seen.
  """

  feature: str
  length: int
  examples: int = 0
  examples_cut: int = 0
  tokens_cut: int = 0
  longest: int = 0

  def count(self, tokens: int, *, tokens_cut: int) -> None:
    """Adds one example of `tokens` tokens."""
    self.examples += 1
    self.examples_cut += tokens_cut > 0
    self.tokens_cut += tokens_cut
    self.longest = max(self.longest, tokens)

  def summary(self) -> str:
    """Returns one line for the log."""
    seen = (
      f"{self.feature}: longest of {self.examples} examples {self.longest} "
      f"tokens where {self.length} fit"
    )
    if not self.examples_cut:
      return f"{seen}; nothing cut"
    percent = 100 * self.examples_cut / self.examples
    return (
      f"{seen}; cut {self.examples_cut} examples ({percent:.1f} %) by "
      f"{self.tokens_cut} tokens in all"
    )


@dataclasses.dataclass(frozen=True)
class LaidOut:
  """One example as it goes into a row.

  Attributes:
    tokens: Encoder tokens, slots in place, int32.
    targets: Decoder targets, int32.
    prompt_index: The prompt that it takes.
  """

  tokens: np.ndarray
  targets: np.ndarray
  prompt_index: int


class FeatureBuilder:
  """Lays tokenised examples out as the features of a batch.

  Attributes:
    lengths: How many of an example's own tokens fit.
    layout: Where slots stand.
    vocab_size: Rows of the embedding table; slots start there.
    num_prompts: N, prompts of the bank.
    input_cuts: What was cut from inputs so far.
    target_cuts: What was cut from targets so far.
  """

  def __init__(
    self,
    lengths: FeatureLengths,
    *,
    vocab_size: int,
    layout: layout_lib.Layout | None = None,
    num_prompts: int = 1,
    truncate_targets: bool = False,
  ):
    """Sets the shapes.

    Args:
      lengths: How many of an example's own tokens fit.
      vocab_size: Rows of the embedding table (`T5Config.vocab_size`).
      layout: Where slots stand; by default there are none, as for a prompt
        that attends to itself alone and is computed apart.
      num_prompts: N, prompts of the bank; `prompt_index` must be below it.
      truncate_targets: Cut long targets, keeping their end of sequence. Only
        language-model objectives want this: a cut verbalizer is another word.
    """
    self.lengths = lengths
    self.layout = layout_lib.prefix(0) if layout is None else layout
    self.vocab_size = vocab_size
    self.num_prompts = num_prompts
    self._truncate_targets = truncate_targets
    self.input_cuts = CutCounter("inputs", lengths.inputs)
    self.target_cuts = CutCounter("targets", lengths.targets)

  @property
  def encoder_length(self) -> int:
    """L, tokens of an encoder row: inputs, slots and template words."""
    return self.lengths.inputs + self.layout.num_added

  @property
  def names_prompts(self) -> bool:
    """Whether a batch says which prompt each row reads: no slot does."""
    return self.num_prompts > 1 and self.layout.num_slots == 0

  def summary(self) -> str:
    """Returns one line that says what was cut so far."""
    return f"{self.input_cuts.summary()}; {self.target_cuts.summary()}"

  def check(self, examples: Iterable[Example]) -> str:
    """Goes through examples ahead of a run; returns what would be cut.

    So that a target that does not fit is found before the first step, not after
    a thousand. The counters of the builder itself do not change.

    Raises:
      ValueError: As `batch`.
    """
    trial = copy.copy(self)
    trial.input_cuts = CutCounter("inputs", self.lengths.inputs)
    trial.target_cuts = CutCounter("targets", self.lengths.targets)
    for index, example in enumerate(examples):
      name = _name(example, index)
      trial._inputs(example, name)
      trial._targets(example, name)
    return trial.summary()

  def batch(
    self,
    examples: Sequence[Example],
    *,
    num_rows: int | None = None,
    indices: Sequence[int] | None = None,
  ) -> Features:
    """Builds one batch.

    Args:
      examples: Tokenised examples.
      num_rows: B; rows beyond the examples are all padding with loss weight 0.
        By default as many as there are examples.
      indices: Numbers that name the examples in errors; by default rows.

    Raises:
      ValueError: An example lacks a feature, is empty, holds ids outside the
        embedding table, has targets that do not fit, or names no prompt that
        the bank has.
    """
    num_rows = len(examples) if num_rows is None else num_rows
    if len(examples) > num_rows:
      raise ValueError(f"{len(examples)} examples exceed {num_rows} rows")
    encoder = np.zeros((num_rows, self.encoder_length), np.int32)
    targets = np.zeros((num_rows, self.lengths.targets), np.int32)
    weights = np.zeros(targets.shape, np.float32)
    prompts = np.zeros(num_rows, np.int32)
    for row, each in enumerate(self.lay_out(examples, indices=indices)):
      encoder[row, : each.tokens.size] = each.tokens
      targets[row, : each.targets.size] = each.targets
      weights[row, : each.targets.size] = 1
      prompts[row] = each.prompt_index
    features = {
      "encoder_input_tokens": encoder,
      "decoder_input_tokens": shift_right(targets),
      "decoder_target_tokens": targets,
      "decoder_loss_weights": weights,
    }
    return features | ({"prompt_index": prompts} if self.names_prompts else {})

  def lay_out(
    self, examples: Sequence[Example], *, indices: Sequence[int] | None = None
  ) -> list[LaidOut]:
    """Returns what each example puts into a row, and counts what it cuts.

    Args:
      examples: Tokenised examples.
      indices: Numbers that name the examples in errors; by default their order.

    Raises:
      ValueError: As `batch`.
    """
    indices = range(len(examples)) if indices is None else indices
    laid_out = []
    for index, example in zip(indices, examples, strict=True):
      name = _name(example, index)
      laid_out.append(
        LaidOut(
          tokens=self._inputs(example, name),
          targets=self._targets(example, name),
          prompt_index=self._prompt_index(example, name),
        )
      )
    return laid_out

  def encoder_tokens(self, example: Example, index: int) -> int:
    """Returns how many tokens of an encoder row an example takes.

    Args:
      example: A tokenised example.
      index: The number that names it in errors.

    Raises:
      ValueError: It has no inputs.
    """
    ids = _feature(example, "inputs", _name(example, index))
    return self.layout.row_tokens(ids.size, max_inputs=self.lengths.inputs)

  def _inputs(self, example: Example, name: str) -> np.ndarray:
    """Returns the encoder row of one example."""
    ids = _feature(example, "inputs", name)
    row = self.layout.place(
      ids,
      max_length=self.encoder_length,
      vocab_size=self.vocab_size,
      prompt_index=self._prompt_index(example, name),
      name=name,
    )
    if row.tokens_cut and example.get(WHOLE):
      raise ValueError(
        f"{name}: the row of a pattern has {len(ids)} tokens, and "
        f"TASK_FEATURE_LENGTHS allows {self.lengths.inputs}: its answer slot "
        "may be among what would be cut. Raise the inputs length, or give the "
        "pattern as few max_tokens"
      )
    self.input_cuts.count(len(ids), tokens_cut=row.tokens_cut)
    return row.tokens

  def _prompt_index(self, example: Example, name: str) -> int:
    """Returns the prompt of one example; without a bank there is only one."""
    if self.num_prompts > 1 and "prompt_index" not in example:
      raise ValueError(
        f"{name} does not say which of the bank's {self.num_prompts} prompts "
        "it takes; give it a number as `prompt_index` (for a file, name the "
        "field in PROMPT_INDEX_FIELD)"
      )
    prompt_index = int(example.get("prompt_index", 0))
    if not 0 <= prompt_index < self.num_prompts:
      raise ValueError(
        f"{name}: prompt_index {prompt_index} is outside the bank of "
        f"{self.num_prompts} prompts"
      )
    return prompt_index

  def _targets(self, example: Example, name: str) -> np.ndarray:
    """Returns the target tokens of one example."""
    ids = _feature(example, "targets", name)
    if not ids.size or ids.min() < 0 or ids.max() >= self.vocab_size:
      raise ValueError(
        f"{name}: targets must be at least one token id below the model's "
        f"{self.vocab_size} embeddings, got {ids.tolist()}"
      )
    excess = max(0, ids.size - self.lengths.targets)
    if excess and not self._truncate_targets:
      raise ValueError(
        f"{name}: the target has {ids.size} tokens and TASK_FEATURE_LENGTHS "
        f"allows {self.lengths.targets}; raise the targets length (a target is "
        "never cut unless truncate_targets is set)"
      )
    self.target_cuts.count(ids.size, tokens_cut=excess)
    kept = ids[: ids.size - excess].copy()
    if excess and ids[-1] == EOS_ID:
      kept[-1] = EOS_ID
    return kept


def shift_right(targets: np.ndarray) -> np.ndarray:
  """Returns decoder inputs: a 0, then all targets but the last.

  Args:
    targets: [B, T].

  Returns:
    [B, T], of the same type.
  """
  shifted = np.zeros_like(targets)
  shifted[:, 1:] = targets[:, :-1]
  return shifted


def _feature(example: Example, key: str, name: str) -> np.ndarray:
  if key not in example:
    raise ValueError(f"{name} has no feature {key!r}; it has {sorted(example)}")
  ids = np.asarray(example[key])
  if ids.ndim != 1 or not (ids.size == 0 or ids.dtype.kind in "iu"):
    raise ValueError(
      f"{name}: {key} must be a list of token ids, got {ids.dtype} of shape "
      f"{ids.shape}; tokenise the example first"
    )
  return ids.astype(np.int32)


def _name(example: Example, index: int) -> str:
  text = example.get("inputs_pretokenized")
  if isinstance(text, bytes):  # As TensorFlow gives it.
    text = text.decode("utf-8", errors="replace")
  return f"example {index}" if text is None else f"example {index} ({text!r})"


def _suggest(unknown: Sequence[str]) -> str:
  near = [m for key in unknown for m in difflib.get_close_matches(key, _KEYS)]
  return f" (did you mean {', '.join(map(repr, near))}?)" if near else ""
