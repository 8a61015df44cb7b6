"""Batches of a stream for training, and of a list for evaluation."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from prompt_tuning.data import buckets, streams
from prompt_tuning.data import features as features_lib


class Batches:
  """Training batches of an example stream; a `BatchIterator`.

  Batch k holds examples k * batch_size and following. Of several processes each
  reads its own rows of it, so that the whole batch does not depend on their
  number. Where an epoch ends within a batch, the next one fills it up; only the
  very end of a finite stream is left out if it does not fill a batch.

  Attributes:
    builder: Lays the examples out.
    card: All that decides the examples, see `ExampleStream.card`.
    examples_seen: Where the next batch stands.
  """

  def __init__(
    self,
    stream: streams.ExampleStream,
    builder: features_lib.FeatureBuilder,
    *,
    batch_size: int,
    rows: Sequence[int] | None = None,
  ):
    """Starts at the first example.

    Args:
      stream: The examples.
      builder: Lays them out; it counts what it cuts.
      batch_size: B, rows of the batch of all processes together.
      rows: Those that this process reads; all by default.

    Raises:
      ValueError: `batch_size` is not positive, or a row is not in the batch.
    """
    _check_batch_size(batch_size)
    self._rows = range(batch_size) if rows is None else rows
    if not self._rows or not set(self._rows) <= set(range(batch_size)):
      raise ValueError(
        f"rows of a batch of {batch_size} are from 0 to {batch_size - 1}, got "
        f"{list(self._rows)}"
      )
    self._stream = stream
    self.card = stream.card()
    self._batch_size = batch_size
    self.builder = builder
    self.examples_seen = 0

  def __iter__(self) -> Iterator[features_lib.Features]:
    return self

  def __next__(self) -> features_lib.Features:
    first = self.examples_seen
    end = self._stream.length
    if end is not None and first + self._batch_size > end:
      raise StopIteration
    numbers = [first + row for row in self._rows]
    batch = self.builder.batch(
      [self._stream.example(number) for number in numbers], indices=numbers
    )
    self.examples_seen += self._batch_size
    return batch

  def state(self) -> dict[str, Any]:
    """Returns where the next batch stands, JSON-able.

    The position counts examples, so a run may continue with another batch size
    or number of processes.
    """
    return {"examples_seen": self.examples_seen, "stream": self.card}

  def restore(self, state: Mapping[str, Any]) -> None:
    """Continues from a position that `state` returned.

    Raises:
      ValueError: The state was taken from other data or another seed.
    """
    if set(state) != {"examples_seen", "stream"}:
      raise ValueError(
        "a data position has the keys 'examples_seen' and 'stream', got "
        f"{sorted(state)}"
      )
    differences = _differences(state["stream"], self.card)
    if differences:
      raise ValueError(
        "the saved data position belongs to other data: "
        + "; ".join(differences)
        + "; restore the data and seed of the run, or start a new one"
      )
    self.examples_seen = int(state["examples_seen"])


@dataclasses.dataclass(frozen=True)
class EvaluationBatch:
  """One batch of a list of examples.

  Attributes:
    features: As of training; rows without an example are padding.
    is_real: bool [B], false on rows without an example.
    indices: int64 [B], each row's example in the list, -1 for none.
  """

  features: features_lib.Features
  is_real: np.ndarray
  indices: np.ndarray

  def by_example(self, rows: Iterable[Any]) -> Iterator[tuple[int, Any]]:
    """Yields each example's number with its row of what a batch gave.

    Args:
      rows: B of anything.
    """
    for index, row in zip(self.indices.tolist(), rows, strict=True):
      if index >= 0:
        yield index, row


def evaluation_batches(
  examples: Sequence[features_lib.Example],
  builder: features_lib.FeatureBuilder,
  *,
  batch_size: int,
  length_buckets: int = 1,
  skip: int = 0,
) -> Iterator[EvaluationBatch]:
  """Yields every example once, in batches of few shapes.

  Args:
    examples: Tokenised examples.
    builder: Lays them out.
    batch_size: B.
    length_buckets: How many encoder lengths there may be. 1 keeps the examples
      in order and pads to the builder's length; more sorts them by length and
      pads as little as so many shapes allow, see `data.buckets`.
    skip: How many batches are left out, the first ones.

  Yields:
    Batches, the last filled up with padding.

  Raises:
    ValueError: `batch_size` or `length_buckets` is not positive.
  """
  check_shapes(batch_size=batch_size, length_buckets=length_buckets)
  grouped = _grouped(
    examples, builder, batch_size=batch_size, length_buckets=length_buckets
  )
  for present, length in grouped[skip:]:
    features = builder.batch(
      [examples[index] for index in present],
      num_rows=batch_size,
      indices=present,
    )
    # Behind the longest example of the batch there is only padding.
    tokens = features["encoder_input_tokens"][:, :length]
    indices = np.full(batch_size, -1, np.int64)
    indices[: len(present)] = present
    yield EvaluationBatch(
      features | {"encoder_input_tokens": tokens}, indices >= 0, indices
    )


def check_shapes(*, batch_size: int, length_buckets: int) -> None:
  """Raises a ValueError if a number that shapes batches is not positive."""
  _check_batch_size(batch_size)
  if length_buckets < 1:
    raise ValueError(
      f"LENGTH_BUCKETS {length_buckets} must be positive; 1 pads all batches "
      "to TASK_FEATURE_LENGTHS."
    )


def _grouped(
  examples: Sequence[features_lib.Example],
  builder: features_lib.FeatureBuilder,
  *,
  batch_size: int,
  length_buckets: int,
) -> list[tuple[list[int], int]]:
  """Returns the examples of each batch, and its encoder length."""
  if length_buckets == 1:
    numbers = range(len(examples))
    return [
      (list(numbers[first : first + batch_size]), builder.encoder_length)
      for first in numbers[::batch_size]
    ]
  grouped = buckets.batches_by_length(
    [builder.encoder_tokens(e, index) for index, e in enumerate(examples)],
    batch_size=batch_size,
    num_buckets=length_buckets,
    max_length=builder.encoder_length,
  )
  return [(numbers.tolist(), length) for numbers, length in grouped]


def padding_batch(
  builder: features_lib.FeatureBuilder, *, batch_size: int
) -> features_lib.Features:
  """Returns a batch without examples, of the shape that every batch has.

  Args:
    builder: Lays examples out.
    batch_size: B.

  Raises:
    ValueError: `batch_size` is not positive.
  """
  _check_batch_size(batch_size)
  return builder.batch([], num_rows=batch_size)


def _check_batch_size(batch_size: int) -> None:
  if batch_size < 1:
    raise ValueError(f"BATCH_SIZE {batch_size} must be positive.")


def _differences(saved: Any, now: Any, path: str = "") -> list[str]:
  """Says where two JSON-able values differ."""
  if isinstance(saved, Mapping) and isinstance(now, Mapping):
    return [
      line
      for key in sorted({*saved, *now})
      for line in _differences(
        saved.get(key), now.get(key), f"{path}/{key}" if path else key
      )
    ]
  return [] if saved == now else [f"{path} was {saved!r} and is {now!r}"]
