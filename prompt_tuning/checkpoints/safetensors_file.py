"""Safetensors files, of which only the bytes that are asked for are read.

A file is the length of its header in eight bytes, the header, and all values.
The header is JSON and says of each array its type, its shape and where among
the values it is.

Differences from the package safetensors: nothing is mapped into memory, where
it would count as memory of this process; and a file may be on gs://.
"""

import json
import math
import os
from collections.abc import Mapping
from typing import IO, Any

import jax.numpy as jnp
import numpy as np

from prompt_tuning import paths
from prompt_tuning.checkpoints import values
from prompt_tuning.checkpoints.stored import Stored

# The types that models of the family were published in, and their names here.
_TYPES = {"F64": "float64", "F32": "float32", "F16": "float16"}
_TYPES |= {"BF16": "bfloat16"}
_LENGTH_BYTES = 8
_METADATA = "__metadata__"


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
    raise values.broken(path, error) from error


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
  return values.open_values(
    path,
    name,
    shape=tuple(entry["shape"]),
    dtype=_numpy_type(entry["dtype"]),
    first=start + entry["data_offsets"][0],
    size=size,
  )
