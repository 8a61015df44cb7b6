"""Safetensors files, of which only the bytes that are asked for are read.

A file is the length of its header in eight bytes, the header, and all values.
The header is JSON and says of each array its type, its shape and where among
the values it is.

Differences from the package safetensors: nothing is mapped into memory, where
it would count as memory of this process; and a file may be on gs://.
"""

import functools
import json
import math
import os
from collections.abc import Iterator, Mapping
from typing import IO, Any, cast

import jax.numpy as jnp
import numpy as np

from prompt_tuning import paths
from prompt_tuning.checkpoints.stored import (
  BLOCK_BYTES,
  Index,
  Places,
  Stored,
)

# The types that models of the family were published in, and their names here.
_TYPES = {"F64": "float64", "F32": "float32", "F16": "float16"}
_TYPES |= {"BF16": "bfloat16"}
_LENGTH_BYTES = 8
_METADATA = "__metadata__"
# Reading on is cheaper than to read anew behind a gap of so many bytes.
_GAP_BYTES, _REMOTE_GAP_BYTES = 16 * 2**10, 4 * 2**20


def open_safetensors(path: paths.PathLike) -> dict[str, Stored]:
  """Opens a file.

  Returns:
    Each array, to be read, by its name.

  Raises:
    ValueError: It is missing, truncated or corrupt, its header contradicts
      itself or the file, or a type is none of weights. Arrays raise it too,
      when they are read.
  """
  try:
    with paths.open_file(path, "rb") as file:
      header, start, size = _read_header(file)
    return {
      name: _open_array(path, name, entry, start=start, size=size)
      for name, entry in _checked(header, size=size - start).items()
    }
  except (OSError, ValueError, RecursionError) as error:
    raise _broken(path, error) from error


def _read_header(file: IO[bytes]) -> tuple[dict[str, Any], int, int]:
  """Returns the header, where the values begin, and the size of the file."""
  size = file.seek(0, os.SEEK_END)
  file.seek(0)
  num_bytes = int.from_bytes(file.read(_LENGTH_BYTES), "little")
  start = _LENGTH_BYTES + num_bytes
  if start > size:
    raise ValueError(
      f"its header is said to have {num_bytes:,} bytes, the file has {size:,}"
    )
  header = json.loads(file.read(num_bytes), object_pairs_hook=_once)
  if not isinstance(header, dict):
    raise ValueError(f"its header is {type(header).__name__}, not an object")
  return header, start, size


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  found = dict(pairs)
  if len(found) != len(pairs):
    raise ValueError("its header names something twice")
  return found


def _checked(
  header: Mapping[str, Any], *, size: int
) -> dict[str, Mapping[str, Any]]:
  """Returns the arrays, if their places are the bytes of the file, each once.

  Args:
    header: As read.
    size: Bytes of all values.

  Raises:
    ValueError: They are not; the array is named.
  """
  arrays = {name: entry for name, entry in header.items() if name != _METADATA}
  for name, entry in arrays.items():
    _check_array(name, entry, size=size)
  in_order = sorted(arrays, key=lambda name: arrays[name]["data_offsets"])
  end, before = 0, "the header"
  for name in in_order:
    start, stop = arrays[name]["data_offsets"]
    if start != end:
      raise ValueError(
        f"{name} is said to begin at byte {start:,} of the values, and "
        f"{before} ends at {end:,}"
      )
    end, before = stop, name
  if end != size:
    raise ValueError(
      f"its header describes {end:,} bytes of values, the file has {size:,}"
    )
  return arrays


def _check_array(name: str, entry: Any, *, size: int) -> None:
  match entry:
    case {"dtype": str(), "shape": [*shape], "data_offsets": [start, stop]}:
      pass
    case _:
      raise ValueError(
        f"{name} has no dtype, shape and data_offsets, but {entry!r:.100}"
      )
  numbers = [*shape, start, stop]
  if not all(type(number) is int and number >= 0 for number in numbers):
    raise ValueError(
      f"the shape and data_offsets of {name} are {shape} and "
      f"{[start, stop]}; they must be numbers from 0"
    )
  if entry["dtype"] not in _TYPES:
    raise ValueError(
      f"{name} is of the type {entry['dtype']}; weights are of "
      f"{', '.join(_TYPES)}"
    )
  num_bytes = math.prod(shape) * _numpy_type(entry["dtype"]).itemsize
  if stop - start != num_bytes:
    raise ValueError(
      f"{name} {shape} of {entry['dtype']} has {num_bytes:,} bytes, and is "
      f"said to be at {start:,} to {stop:,}"
    )
  if stop > size:
    raise ValueError(
      f"{name} is said to end at byte {stop:,} of the values, of which the "
      f"file has {size:,}"
    )


def _numpy_type(name: str) -> np.dtype:
  return np.dtype(jnp.dtype(_TYPES[name]))


def _open_array(
  path: paths.PathLike,
  name: str,
  entry: Mapping[str, Any],
  *,
  start: int,
  size: int,
) -> Stored:
  """Returns one array of a file of `size` bytes, its values from `start` on."""
  shape, dtype = tuple(entry["shape"]), _numpy_type(entry["dtype"])
  first = start + entry["data_offsets"][0]
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
    along = zip(places, strides, strict=True)
    offsets = first + sum(axis * stride for axis, stride in along)
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
    raise _broken(path, reason) from error
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


def _broken(path: paths.PathLike, reason: Any) -> ValueError:
  text = str(reason).split("\n", 1)[0]
  return ValueError(
    f"{os.fspath(path)} cannot be read; it is missing, truncated or corrupt, "
    f"copy it again. ({text})"
  )
