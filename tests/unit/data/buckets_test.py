"""Batches of like length: the least padding that so many shapes allow."""

import itertools

import numpy as np
import pytest

from prompt_tuning.data.buckets import batches_by_length, bucket_lengths


def _padded(needed, chosen):
  return sum(min(s for s in chosen if s >= length) for length in needed)


def _least(needed, num_buckets):
  """By trying all sets of lengths."""
  values = sorted(set(needed))
  sizes = range(1, min(num_buckets, len(values)) + 1)
  sets = itertools.chain(*(itertools.combinations(values, n) for n in sizes))
  return min(_padded(needed, s) for s in sets if s[-1] == values[-1])


@pytest.mark.parametrize("num_buckets", [1, 2, 3, 5, 20])
@pytest.mark.parametrize("seed", range(4))
def test_no_other_lengths_pad_less(seed, num_buckets):
  rng = np.random.default_rng(seed)
  needed = rng.integers(1, 12, size=30).tolist()
  chosen = bucket_lengths(needed, num_buckets=num_buckets)
  assert chosen == sorted(set(chosen))
  assert len(chosen) <= num_buckets
  assert _padded(needed, chosen) == _least(needed, num_buckets)


def test_lengths_of_one_batch_and_of_none():
  assert bucket_lengths([7], num_buckets=4) == [7]
  assert bucket_lengths([], num_buckets=4) == []
  assert batches_by_length([], batch_size=2, num_buckets=2, max_length=9) == []


@pytest.mark.parametrize("num_buckets", [2, 3])
def test_every_example_once_where_it_fits(num_buckets):
  rng = np.random.default_rng(0)
  lengths = rng.integers(1, 61, size=50).tolist()
  batches = batches_by_length(
    lengths, batch_size=8, num_buckets=num_buckets, max_length=60
  )
  numbers = [batch.tolist() for batch, _ in batches]
  assert sorted(itertools.chain(*numbers)) == list(range(50))
  # No more batches than without, and the last one is the shortest.
  assert [len(batch) for batch in numbers] == [8] * 6 + [2]
  taken = [length for _, length in batches]
  assert taken == sorted(taken, reverse=True)
  assert len(set(taken)) == num_buckets
  for batch, length in zip(numbers, taken, strict=True):
    assert max(lengths[number] for number in batch) <= length <= 60


def test_equal_lengths_stay_in_order():
  (first, length), (second, _) = batches_by_length(
    [3, 5, 3, 5, 3], batch_size=3, num_buckets=2, max_length=99
  )
  assert (first.tolist(), second.tolist()) == ([1, 3, 0], [2, 4])
  assert length == 8  # Rounded up, for shapes that data sets share.
