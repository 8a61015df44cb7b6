import numpy as np

from benchmarks import memory

SIZE = 50_000_000


def test_peak_remembers_what_was_freed_until_it_is_reset():
  memory.reset_peak()
  before = memory.peak()
  np.ones(SIZE, np.uint8)
  assert memory.peak() - before > 0.9 * SIZE
  memory.reset_peak()
  assert memory.peak() - before < 0.5 * SIZE


def test_peak_is_no_less_than_what_is_resident():
  kept = np.ones(SIZE, np.uint8)
  assert memory.resident() > kept.nbytes
  assert memory.peak() >= memory.resident()
