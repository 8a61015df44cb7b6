"""Pre-training objectives: from running text to inputs and targets.

Span corruption is what T5 was pre-trained with, prefix language modelling what
adapts it before prompt tuning (Raffel et al., 2020, sec. 3.1.4 and 3.2.3;
Lester et al., 2021, sec. 3.1). Both are pure functions of the tokens and a
random generator.

Differences from the T5 code: rounding is done in double precision; there are
never more spans than tokens to separate them, which only matters at noise
densities near 1; the lengths of very short texts (below 10 tokens) count the
one token that is always hidden.
"""

import dataclasses

import numpy as np

from prompt_tuning.types import EOS_ID

_MIN_TOKENS = 2


@dataclasses.dataclass(frozen=True)
class CorruptedLengths:
  """The lengths between which span corruption goes, in tokens.

  Attributes:
    raw: Running text, without an end of sequence.
    inputs: Corrupted inputs, end of sequence included.
    targets: Targets, end of sequence included.
  """

  raw: int
  inputs: int
  targets: int


def span_corruption(
  ids: np.ndarray,
  rng: np.random.Generator,
  *,
  vocab_size: int,
  noise_density: float = 0.15,
  mean_span_length: float = 3.0,
  num_sentinels: int = 100,
) -> dict[str, np.ndarray]:
  """Hides random spans behind sentinels; the target says what they hid.

  Inputs are the tokens with every noise span replaced by a sentinel, targets
  every sentinel followed by its span; both end with the end of sequence. The
  k-th sentinel is `vocab_size - 1 - k`.

  Args:
    ids: [n] tokens of running text, n >= 2.
    rng: Source of the spans.
    vocab_size: Ids of the *vocabulary* (32100 for T5), whose topmost are the
      sentinels; not the rows of the embedding table.
    noise_density: Fraction of the tokens to hide.
    mean_span_length: Average length of a noise span, in tokens.
    num_sentinels: Sentinels that the vocabulary has.

  Returns:
    int32 `inputs` and `targets`.

  Raises:
    ValueError: There are fewer than two tokens, or more spans than sentinels.
  """
  ids = _checked(ids, "span corruption")
  noise = random_spans_noise_mask(
    ids.size,
    rng,
    noise_density=noise_density,
    mean_span_length=mean_span_length,
  )
  num_spans = int(noise[0]) + int((noise[1:] & ~noise[:-1]).sum())
  if num_spans > num_sentinels:
    raise ValueError(
      f"span corruption of {ids.size} tokens makes {num_spans} spans and the "
      f"vocabulary has {num_sentinels} sentinels; use shorter chunks, longer "
      "spans or a vocabulary with more extra ids"
    )
  first = vocab_size - 1
  return {
    "inputs": _with_eos(_spans_to_sentinels(ids, noise, first=first)),
    "targets": _with_eos(_spans_to_sentinels(ids, ~noise, first=first)),
  }


def prefix_lm(
  ids: np.ndarray, rng: np.random.Generator
) -> dict[str, np.ndarray]:
  """Splits text at a uniformly random point; the target is the continuation.

  Args:
    ids: [n] tokens of running text, n >= 2.
    rng: Source of the point, which leaves at least one token on either side.

  Returns:
    int32 `inputs` and `targets`, each with the end of sequence appended.

  Raises:
    ValueError: There are fewer than two tokens.
  """
  ids = _checked(ids, "prefix language modelling")
  split = int(rng.integers(1, ids.size))
  return {"inputs": _with_eos(ids[:split]), "targets": _with_eos(ids[split:])}


def random_spans_noise_mask(
  length: int,
  rng: np.random.Generator,
  *,
  noise_density: float = 0.15,
  mean_span_length: float = 3.0,
) -> np.ndarray:
  """Draws which tokens are noise.

  The numbers of noise tokens and of spans follow from the arguments; text and
  noise spans alternate, text first, and all such masks are equally likely.

  Args:
    length: n, tokens of running text, at least 2.
    rng: Source of the span lengths.
    noise_density: Fraction of the tokens to hide, between 0 and 1.
    mean_span_length: Average length of a noise span, in tokens.

  Returns:
    bool [n], true on noise.
  """
  _check_noise(noise_density, mean_span_length)
  num_noise, num_spans = _counts(length, noise_density, mean_span_length)
  lengths = np.empty(2 * num_spans, np.int64)
  lengths[0::2] = _random_composition(length - num_noise, num_spans, rng)
  lengths[1::2] = _random_composition(num_noise, num_spans, rng)
  return np.repeat(np.arange(2 * num_spans) % 2 == 1, lengths)


def lengths_for_span_corruption(
  inputs_length: int,
  *,
  targets_length: int | None = None,
  noise_density: float = 0.15,
  mean_span_length: float = 3.0,
) -> CorruptedLengths:
  """Returns how much running text fills inputs without padding or cutting.

  Args:
    inputs_length: Tokens of the corrupted input, end of sequence included.
    targets_length: Tokens that there is room for in the target, end of sequence
      included; None for as many as it takes.
    noise_density: Fraction of the tokens to hide.
    mean_span_length: Average length of a noise span, in tokens.

  Raises:
    ValueError: No text of two tokens or more fits, or its target does not.
  """
  _check_noise(noise_density, mean_span_length)

  def corrupted(raw: int) -> CorruptedLengths:
    noise, spans = _counts(raw, noise_density, mean_span_length)
    return CorruptedLengths(raw, raw - noise + spans + 1, noise + spans + 1)

  raw = _MIN_TOKENS - 1
  while corrupted(raw + 1).inputs <= inputs_length:
    raw += 1
  if noise_density == 0.5 and corrupted(raw).targets > inputs_length:
    raw -= 1  # As T5 does, so that both sides have the same round length.
  if raw < _MIN_TOKENS:
    raise ValueError(
      f"span corruption needs an inputs length of at least {_MIN_TOKENS + 1} "
      f"tokens, got {inputs_length}"
    )
  fitting = corrupted(raw)
  if targets_length is not None and fitting.targets > targets_length:
    raise ValueError(
      f"TASK_FEATURE_LENGTHS: span corruption of inputs of {inputs_length} "
      f"tokens needs targets of {fitting.targets}, got {targets_length}."
    )
  return fitting


def _counts(
  length: int, noise_density: float, mean_span_length: float
) -> tuple[int, int]:
  """Returns the numbers of noise tokens and of spans, at least one each."""
  num_noise = min(max(round(length * noise_density), 1), length - 1)
  num_spans = round(num_noise / mean_span_length)
  return num_noise, min(max(num_spans, 1), num_noise, length - num_noise)


def _random_composition(
  total: int, parts: int, rng: np.random.Generator
) -> np.ndarray:
  """Splits `total` into `parts` positive summands, all ways equally likely."""
  cuts = 1 + np.sort(rng.permutation(total - 1)[: parts - 1])
  return np.diff(cuts, prepend=0, append=total)


def _spans_to_sentinels(
  ids: np.ndarray, in_span: np.ndarray, *, first: int
) -> np.ndarray:
  """Replaces every run of `in_span` by one sentinel, counting down."""
  starts = in_span.copy()
  starts[1:] &= ~in_span[:-1]
  marked = np.where(starts, first + 1 - np.cumsum(starts), ids)
  return marked[starts | ~in_span]


def _with_eos(ids: np.ndarray) -> np.ndarray:
  return np.append(ids, EOS_ID).astype(np.int32)


def _checked(ids: np.ndarray, objective: str) -> np.ndarray:
  ids = np.asarray(ids)
  if ids.ndim != 1 or ids.size < _MIN_TOKENS:
    raise ValueError(
      f"{objective} needs at least {_MIN_TOKENS} tokens in one dimension, got "
      f"shape {ids.shape}"
    )
  return ids.astype(np.int32)


def _check_noise(noise_density: float, mean_span_length: float) -> None:
  if not 0 < noise_density < 1:
    raise ValueError(
      f"noise_density must lie between 0 and 1, got {noise_density!r}"
    )
  if not mean_span_length >= 1:
    raise ValueError(
      f"mean_span_length must be at least 1 token, got {mean_span_length!r}"
    )
