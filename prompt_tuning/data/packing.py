"""Several examples in a row, so that little is computed for padding.

A packed batch holds the examples that an unpacked one would hold, each with
soft prompt, positions and segment of its own, so that the same loss comes out;
only dropout, which is drawn once a row, falls elsewhere.
Besides the features of `data.features` it has `encoder_segment_ids`,
`encoder_positions`, `decoder_segment_ids` and `decoder_positions`; segments
count from 1 in every row, 0 is padding.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from prompt_tuning.data import features as features_lib


@dataclasses.dataclass(frozen=True, kw_only=True)
class Packing:
  """How the rows of packed batches are shaped.

  Numbers of rows and target lengths are rounded up, so that few shapes occur:
  a step is compiled for each.

  Attributes:
    row_length: Encoder tokens of a row, slots included.
    rows_multiple: What the number of rows must divide by.
    targets_multiple: What the decoder tokens of a row divide by.
  """

  row_length: int
  rows_multiple: int = 1
  targets_multiple: int = 8


class PackedFeatureBuilder(features_lib.FeatureBuilder):
  """Lays examples out one after another in as few rows as they need.

  Of a bank whose slots do not stand in rows, each row holds examples of one
  prompt.

  Attributes:
    packing: How rows are shaped.
  """

  def __init__(self, *args, packing: Packing, **kwargs):
    """Sets the shapes.

    Args:
      *args: As of `FeatureBuilder`.
      packing: How rows are shaped.
      **kwargs: As of `FeatureBuilder`.

    Raises:
      ValueError: A row is shorter than an example may be.
    """
    super().__init__(*args, **kwargs)
    self.packing = packing
    if packing.row_length < self.encoder_length:
      raise ValueError(
        f"PACKED_LENGTH is {packing.row_length} tokens, but one example may "
        f"have {self.encoder_length} (inputs {self.lengths.inputs}, slots and "
        f"template {self.encoder_length - self.lengths.inputs}); raise it, or "
        "shorten TASK_FEATURE_LENGTHS."
      )

  def batch(
    self,
    examples: Sequence[features_lib.Example],
    *,
    num_rows: int | None = None,
    indices: Sequence[int] | None = None,
  ) -> features_lib.Features:
    """Builds one batch of as many rows as the examples need.

    Args:
      examples: Tokenised examples.
      num_rows: Not looked at.
      indices: Numbers that name the examples in errors; by default their order.

    Raises:
      ValueError: As of `FeatureBuilder.batch`.
    """
    del num_rows
    laid_out = self.lay_out(examples, indices=indices)
    rows = _fill(
      laid_out,
      capacity=self.packing.row_length,
      is_apart=self.names_prompts,
    )
    rows += [[] for _ in range(-len(rows) % self.packing.rows_multiple)]
    rows = rows or [[] for _ in range(self.packing.rows_multiple)]
    targets_length = max(
      (sum(each.targets.size for each in row) for row in rows), default=0
    )
    features = _encoder_features(rows, self.packing.row_length)
    features |= _decoder_features(
      rows, _round_up(max(targets_length, 1), self.packing.targets_multiple)
    )
    if self.names_prompts:
      features["prompt_index"] = np.asarray(
        [row[0].prompt_index if row else 0 for row in rows], np.int32
      )
    return features


def _fill(
  laid_out: Sequence[features_lib.LaidOut], *, capacity: int, is_apart: bool
) -> list[list[features_lib.LaidOut]]:
  """Puts each example, longest first, into the first row with room for it."""
  rows: list[list[features_lib.LaidOut]] = []
  room: list[int] = []
  for each in sorted(laid_out, key=lambda one: -one.tokens.size):
    for index, row in enumerate(rows):
      fits = each.tokens.size <= room[index]
      if fits and (not is_apart or row[0].prompt_index == each.prompt_index):
        break
    else:
      index = len(rows)
      rows.append([])
      room.append(capacity)
    rows[index].append(each)
    room[index] -= each.tokens.size
  return rows


def _encoder_features(
  rows: Sequence[Sequence[features_lib.LaidOut]], length: int
) -> features_lib.Features:
  tokens, segments, positions = np.zeros((3, len(rows), length), np.int32)
  for index, row in enumerate(rows):
    first = 0
    for segment, each in enumerate(row, start=1):
      place = slice(first, first + each.tokens.size)
      tokens[index, place] = each.tokens
      segments[index, place] = segment
      positions[index, place] = np.arange(each.tokens.size)
      first = place.stop
  return {
    "encoder_input_tokens": tokens,
    "encoder_segment_ids": segments,
    "encoder_positions": positions,
  }


def _decoder_features(
  rows: Sequence[Sequence[features_lib.LaidOut]], length: int
) -> features_lib.Features:
  read, targets, segments, positions = np.zeros(
    (4, len(rows), length), np.int32
  )
  for index, row in enumerate(rows):
    first = 0
    for segment, each in enumerate(row, start=1):
      place = slice(first, first + each.targets.size)
      targets[index, place] = each.targets
      read[index, place] = features_lib.shift_right(each.targets[None])[0]
      segments[index, place] = segment
      positions[index, place] = np.arange(each.targets.size)
      first = place.stop
  return {
    "decoder_input_tokens": read,
    "decoder_target_tokens": targets,
    "decoder_loss_weights": (segments > 0).astype(np.float32),
    "decoder_segment_ids": segments,
    "decoder_positions": positions,
  }


def _round_up(number: int, multiple: int) -> int:
  return -(-number // multiple) * multiple
