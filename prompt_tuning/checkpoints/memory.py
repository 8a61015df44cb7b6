"""What is freed while a checkpoint is read goes back to the system at once.

TensorStore decodes chunks of some MiB on threads of its own. What it frees of
them glibc keeps, for each thread as much as twice the largest: by the end of a
model of 318 MiB that was half as much again (`benchmarks.loading`), and the
process kept it for as long as it ran.
"""

import contextlib
import ctypes
import functools
import os
import platform
from collections.abc import Callable, Iterator

# The parameters of mallopt, and what glibc comes to set of itself at the most.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST_MMAP_THRESHOLD = 32 * 2**20
_BLOCK_BYTES = 2**20


@contextlib.contextmanager
def returned_when_freed() -> Iterator[None]:
  """Within it, what is of a MiB or more is no part of the heap.

  Afterwards the heap takes what it would have taken in a process that had been
  running for long. Where the C library is another one, or the environment says
  what it is to do (MALLOC_..., GLIBC_TUNABLES), nothing changes.
  """
  mallopt = _mallopt()
  if mallopt is None:
    yield
    return
  mallopt(_MMAP_THRESHOLD, _BLOCK_BYTES)
  try:
    yield
  finally:
    mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
    mallopt(_TRIM_THRESHOLD, 2 * _LARGEST_MMAP_THRESHOLD)


@functools.cache
def _mallopt() -> Callable[[int, int], int] | None:
  if platform.libc_ver()[0] != "glibc":
    return None
  told = "GLIBC_TUNABLES" in os.environ or any(
    name.startswith("MALLOC_") for name in os.environ
  )
  return None if told else ctypes.CDLL(None).mallopt
