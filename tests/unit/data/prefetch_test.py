"""Prefetched batches: those of the plain iterator, whatever is ready ahead."""

import json
import subprocess
import sys
import threading
import traceback

import numpy as np
import pytest

from prompt_tuning.data import streams
from prompt_tuning.data.batches import Batches
from prompt_tuning.data.features import FeatureBuilder, FeatureLengths
from prompt_tuning.data.prefetch import PrefetchedBatches

DEPTHS = [0, 1, 4]


class Stream(streams.ExamplesInMemory):
  """Seven examples; tells which were asked for, and breaks where it is told."""

  def __init__(self, *, num_epochs=None, breaks_at=None):
    examples = [
      {"inputs": [10 + i] * (i + 1), "targets": [5, 1]} for i in range(7)
    ]
    super().__init__(examples, seed=0, num_epochs=num_epochs)
    self.breaks_at = breaks_at
    self.asked = threading.Condition()
    self.count = 0

  def example(self, number):
    with self.asked:
      self.count = max(self.count, number + 1)
      self.asked.notify_all()
    if number == self.breaks_at:
      raise ValueError(f"example {number} is broken")
    return super().example(number)

  def wait_until(self, count):
    """Waits until so many examples were asked for."""
    with self.asked:
      assert self.asked.wait_for(lambda: self.count >= count, timeout=30)


def plain(stream=None, rows=None):
  builder = FeatureBuilder(FeatureLengths(5, 2), vocab_size=100)
  stream = Stream() if stream is None else stream
  return Batches(stream, builder, batch_size=3, rows=rows)


@pytest.fixture
def prefetched():
  """Makes prefetched batches, and closes them."""
  made = []

  def make(batches=None, *, depth):
    made.append(PrefetchedBatches(batches or plain(), depth=depth))
    return made[-1]

  yield make
  for each in made:
    each.close()
  assert not threads()


def threads():
  return [t for t in threading.enumerate() if t.name == "prefetch"]


def take(batches, count):
  return [next(batches) for _ in range(count)]


def assert_equal(first, second):
  for left, right in zip(first, second, strict=True):
    assert left.keys() == right.keys()
    for name in left:
      np.testing.assert_array_equal(left[name], right[name])


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("rows", [None, [2]])
def test_batches_are_the_plain_ones_in_order(prefetched, depth, rows):
  expected = take(plain(rows=rows), 12)
  assert_equal(take(prefetched(plain(rows=rows), depth=depth), 12), expected)


@pytest.mark.parametrize("depth", DEPTHS)
def test_the_state_is_that_of_what_was_taken(prefetched, depth):
  stream, expected = Stream(), plain()
  batches = prefetched(plain(stream), depth=depth)
  for taken in range(4):
    if taken and depth:
      stream.wait_until(3 * (taken + depth))  # More is ready than was taken.
    assert batches.state() == expected.state()
    next(batches), next(expected)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("steps", [0, 1, 5])
def test_restored_equals_uninterrupted(prefetched, depth, steps):
  expected = take(plain(), steps + 4)
  stopped = prefetched(depth=depth)
  take(stopped, steps)
  state = json.loads(json.dumps(stopped.state()))
  resumed = prefetched(depth=depth)
  resumed.restore(state)
  assert_equal(take(resumed, 4), expected[steps:])


@pytest.mark.parametrize("depth", DEPTHS)
def test_restoring_drops_what_is_ready(prefetched, depth):
  batches = prefetched(depth=depth)
  start = batches.state()
  first = take(batches, 3)
  batches.restore(start)
  assert_equal(take(batches, 3), first)


@pytest.mark.parametrize("depth", DEPTHS)
def test_a_state_of_other_data_is_refused_and_nothing_is_lost(
  prefetched, depth
):
  expected = take(plain(), 3)
  batches = prefetched(depth=depth)
  next(batches)
  with pytest.raises(ValueError, match="belongs to other data"):
    batches.restore(batches.state() | {"stream": {"kind": "other"}})
  assert_equal(take(batches, 2), expected[1:])


@pytest.mark.parametrize("depth", DEPTHS)
def test_an_error_comes_after_the_batches_before_it(prefetched, depth):
  batches = prefetched(plain(Stream(breaks_at=7)), depth=depth)
  assert_equal(take(batches, 2), take(plain(), 2))
  for _ in range(2):  # Whoever asks again is told again.
    with pytest.raises(ValueError, match="example 7 is broken") as caught:
      next(batches)
    frames = traceback.extract_tb(caught.value.__traceback__)
    assert frames[-1].line.startswith("raise ValueError(f")
  assert batches.state()["examples_seen"] == 6


@pytest.mark.parametrize("depth", DEPTHS)
def test_the_data_end_where_they_end(prefetched, depth):
  batches = prefetched(plain(Stream(num_epochs=2)), depth=depth)
  assert_equal(list(batches), take(plain(), 4))
  with pytest.raises(StopIteration):
    next(batches)
  assert batches.state()["examples_seen"] == 12


@pytest.mark.parametrize("depth", DEPTHS)
def test_what_is_counted_as_cut_was_taken(prefetched, depth):
  stream, expected = Stream(), plain()
  batches = prefetched(plain(stream), depth=depth)
  take(batches, 3), take(expected, 3)
  if depth:
    stream.wait_until(3 * (3 + depth))
  assert batches.summary() == expected.builder.summary()
  assert "cut" in batches.summary()
  batches.close()
  assert batches.summary() == expected.builder.summary()
  next(batches), next(expected)
  assert batches.summary() == expected.builder.summary()


def test_no_more_is_read_than_may_wait(prefetched):
  stream = Stream()
  batches = prefetched(plain(stream), depth=2)
  assert not threads()  # Nor before anything is asked for.
  next(batches)
  stream.wait_until(3 * 4)  # One taken, two wait, one is in the making.
  threads()[0].join(timeout=0.2)
  assert stream.count == 3 * 4


def test_closing_ends_the_thread_and_batches_go_on(prefetched):
  batches = prefetched(depth=2)
  first = next(batches)
  batches.close()
  assert not threads()
  batches.close()
  assert_equal([first, next(batches)], take(plain(), 2))


_UNCLOSED = """
import threading
from prompt_tuning.data import batches, features, prefetch, streams
stream = streams.ExamplesInMemory([{"inputs": [5], "targets": [5]}], seed=0)
builder = features.FeatureBuilder(features.FeatureLengths(2, 2), vocab_size=9)
plain = batches.Batches(stream, builder, batch_size=1)
next(prefetch.PrefetchedBatches(plain, depth=1))
assert "prefetch" in [thread.name for thread in threading.enumerate()]
"""


def test_a_process_ends_though_nobody_closed():
  subprocess.run([sys.executable, "-c", _UNCLOSED], check=True, timeout=60)


@pytest.mark.parametrize("depth", [-1, 1.5, True, "2"])
def test_a_depth_that_is_none_is_refused(depth):
  with pytest.raises(ValueError, match="PREFETCH_BATCHES must be 0"):
    PrefetchedBatches(plain(), depth=depth)
