"""Arrays whose values stand in a file as they are, of which parts are read."""

import functools
import math
import os
from collections.abc import Iterator
from typing import Any, cast

import numpy as np

from prompt_tuning import paths
from prompt_tuning.checkpoints.stored import (
  BLOCK_BYTES,
  Index,
  Places,
  Stored,
)

# Reading on is cheaper than to read anew behind a gap of so many bytes.
_GAP_BYTES, _REMOTE_GAP_BYTES = 16 * 2**10, 4 * 2**20


def open_values(
  path: paths.PathLike,
  name: str,
  *,
  shape: tuple[int, ...],
  dtype: np.dtype,
  first: int,
  size: int,
) -> Stored:
  """Returns an array that is read from a file, in C order and little-endian.

  Args:
    path: Of the file.
    name: What to call the array in messages.
    shape: Its shape.
    dtype: Its type.
    first: The byte of the file that it begins at.
    size: Bytes of the file.
  """
  # Bytes from one place to the next along each axis.
  strides = [
    dtype.itemsize * math.prod(shape[axis + 1 :]) for axis in range(len(shape))
  ]
  gather = functools.partial(_gather, path, name, size=size)

  def read(index: Index) -> np.ndarray:
    *outer, inner = index or (slice(0, 1),)
    sizes = [axis.stop - axis.start for axis in index]
    offsets = np.array(first + inner.start * dtype.itemsize)
    for axis, stride in zip(outer, strides, strict=False):
      along = np.arange(axis.start, axis.stop) * stride
      offsets = offsets[..., None] + along
    length = (inner.stop - inner.start) * dtype.itemsize
    return gather(offsets.reshape(-1), length).view(dtype).reshape(sizes)

  def pick(places: Places) -> np.ndarray:
    offsets = np.full(places[0].shape, first)
    for axis, stride in zip(places, strides, strict=True):
      offsets += axis * stride
    order = np.argsort(offsets)
    found = np.empty(len(order), dtype)
    found[order] = gather(offsets[order], dtype.itemsize).view(dtype)[:, 0]
    return found

  return Stored(shape, dtype, read, pick)


def _gather(
  path: paths.PathLike,
  name: str,
  offsets: np.ndarray,
  length: int,
  *,
  size: int,
) -> np.ndarray:
  """Returns runs of bytes, [runs, length].

  Args:
    path: Of the file.
    name: Whose bytes they are.
    offsets: Where each begins, ascending.
    length: Bytes of each.
    size: Of the file when it was opened.

  Raises:
    ValueError: The file is not what it was.
  """
  runs = np.empty((len(offsets), length), np.uint8)
  if not runs.size:
    return runs
  gap = _REMOTE_GAP_BYTES if paths.is_remote(path) else _GAP_BYTES
  try:
    with paths.open_file(path, "rb") as file:
      for group in _neighbours(offsets, length, gap=gap):
        start, stop = offsets[group.start], offsets[group.stop - 1] + length
        file.seek(int(start))
        own = runs[group]
        if stop - start == own.size:
          _fill(file, own.reshape(-1))
          continue
        read_on = np.empty(stop - start, np.uint8)
        _fill(file, read_on)
        for run, offset in zip(own, offsets[group] - start, strict=True):
          run[:] = read_on[offset : offset + length]
  except (OSError, EOFError) as error:
    reason = f"{name} was to be read of the {size:,} bytes it had: {error}"
    raise broken(path, reason) from error
  return runs


def _neighbours(
  offsets: np.ndarray, length: int, *, gap: int
) -> Iterator[slice]:
  """Yields runs in groups that are read in one go, of a block at most."""
  ends = [*np.flatnonzero(np.diff(offsets) > length + gap) + 1, len(offsets)]
  start = 0
  for end in ends:
    while start < end:
      last = offsets[start] + BLOCK_BYTES - length
      within = int(np.searchsorted(offsets, last, side="right"))
      stop = min(end, max(start + 1, within))
      yield slice(start, stop)
      start = stop


def _fill(file: Any, into: np.ndarray) -> None:
  rest: Any = memoryview(cast(Any, into))
  while rest:
    count = file.readinto(rest[:BLOCK_BYTES])
    if not count:
      raise EOFError("the file is shorter now")
    rest = rest[count:]


def broken(path: paths.PathLike, reason: Any) -> ValueError:
  """Returns the error of a file that is not what it should be."""
  text = str(reason).split("\n", 1)[0]
  return ValueError(
    f"{os.fspath(path)} cannot be read; it is missing, truncated or corrupt, "
    f"copy it again. ({text})"
  )
