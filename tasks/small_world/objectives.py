"""Prefix language modelling of short documents."""

import numpy as np

from prompt_tuning.types import EOS_ID

_SENTENCE_ENDS = (".", "?", ":")


def sentence_end_ids(vocabulary) -> tuple[int, ...]:
  """Returns the token ids that end a sentence or announce an answer.

  Args:
    vocabulary: What encodes the corpus (`data.vocabularies.Vocabulary`).
  """
  return tuple(vocabulary.encode(mark)[-1] for mark in _SENTENCE_ENDS)


def sentence_prefix_lm(
  ids: np.ndarray,
  rng: np.random.Generator,
  *,
  end_ids: tuple[int, ...],
  targets_length: int,
  border_share: float = 0.6,
) -> dict[str, np.ndarray]:
  """Splits a document in two, often where a sentence ends.

  Differences from LM adaptation (Lester et al., 2021, sec. 3.1), which splits
  at a uniformly random token: documents of the small world are of two or three
  sentences, and a soft prompt is asked for what comes after a whole one, which
  uniform splits would show once in thirty documents. Splits fall late enough
  for the targets to hold all of the continuation.

  Args:
    ids: [n] tokens of one document, n >= 2.
    rng: Source of the point, which leaves at least one token on either side.
    end_ids: Tokens after which a sentence border lies.
    targets_length: T, most tokens of the targets, end of sequence included.
    border_share: Fraction of documents that are split at a border; the others,
      and those without a border, are split anywhere.

  Returns:
    int32 `inputs` and `targets`, each with the end of sequence appended.

  Raises:
    ValueError: There are fewer than two tokens, or no room for a target.
  """
  ids = np.asarray(ids)
  if ids.ndim != 1 or ids.size < 2:
    raise ValueError(
      "prefix language modelling needs at least 2 tokens in one dimension, got "
      f"shape {ids.shape}"
    )
  if targets_length < 2:
    raise ValueError(
      f"targets_length must be at least 2 tokens, got {targets_length}"
    )
  first = max(1, ids.size - targets_length + 1)
  borders = 1 + np.flatnonzero(np.isin(ids[:-1], end_ids))
  borders = borders[borders >= first]
  if borders.size and rng.random() < border_share:
    split = int(borders[rng.integers(borders.size)])
  else:
    split = int(rng.integers(first, ids.size))
  return {
    "inputs": np.append(ids[:split], EOS_ID).astype(np.int32),
    "targets": np.append(ids[split:], EOS_ID).astype(np.int32),
  }
