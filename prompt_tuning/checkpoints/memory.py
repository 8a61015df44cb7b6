"""What is freed while a checkpoint is read goes back to the system at once.

TensorStore decodes chunks of some MiB on threads of its own. What it frees of
them glibc keeps, for each thread as much as twice the largest: by the end of a
model of 318 MiB that was half as much again (`benchmarks.loading`), and the
process kept it for as long as it ran. To have it back takes up to a third more
time to read the compressed chunks.
"""

import contextlib
import ctypes
import functools
import os
import platform
import threading
from collections.abc import Callable, Iterator

# The parameters of mallopt, and what glibc comes to set of itself at the most.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST_MMAP_THRESHOLD = 32 * 2**20
_BLOCK_BYTES = 2**20
# What the environment says of the same.
_TOLD = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")
_TUNABLES = ("glibc.malloc.mmap_threshold", "glibc.malloc.trim_threshold")

_lock = threading.Lock()
_num_within = 0


@contextlib.contextmanager
def returned_when_freed() -> Iterator[None]:
  """Within it, in any thread, what is of a MiB or more is no part of the heap.

  Afterwards the heap takes what glibc would have come to in a process that
  frees large blocks, for good: it does not adapt itself any more. Where the C
  library is another one, or the environment sets these thresholds, nothing
  changes.
  """
  global _num_within
  mallopt = _mallopt()
  if mallopt is None:
    yield
    return
  with _lock:
    _num_within += 1
    mallopt(_MMAP_THRESHOLD, _BLOCK_BYTES)
  try:
    yield
  finally:
    with _lock:
      _num_within -= 1
      if not _num_within:
        mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
        mallopt(_TRIM_THRESHOLD, 2 * _LARGEST_MMAP_THRESHOLD)


@functools.cache
def _mallopt() -> Callable[[int, int], int] | None:
  tunables = os.environ.get("GLIBC_TUNABLES", "")
  is_told = any(name in os.environ for name in _TOLD) or any(
    name in tunables for name in _TUNABLES
  )
  if is_told or platform.libc_ver()[0] != "glibc":
    return None
  return ctypes.CDLL(None).mallopt
