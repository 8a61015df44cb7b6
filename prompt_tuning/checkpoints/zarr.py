"""Single arrays in zarr version 2 folders, as T5X stores them."""

import errno
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from prompt_tuning import paths
from prompt_tuning.checkpoints import memory
from prompt_tuning.checkpoints.stored import (
  BLOCK_BYTES,
  Index,
  Places,
  Stored,
)

GZIP = {"id": "gzip", "level": 1}
_CHUNK_BYTES = 16 * 2**20


def read_array(
  path: paths.PathLike,
  *,
  shape: tuple[int, ...] | None = None,
) -> np.ndarray:
  """Reads one array, whatever its chunks and compressor.

  Args:
    path: The folder that holds `.zarray`.
    shape: The shape that it must have, if known.

  Raises:
    ValueError: If it is missing, truncated, corrupt or of another shape; the
      message names the folder.
  """
  return np.asarray(open_array(path, shape=shape))


def open_array(
  path: paths.PathLike,
  *,
  shape: tuple[int, ...] | None = None,
) -> Stored:
  """Opens one array; see `read_array`."""
  spec = {"driver": "zarr", "kvstore": key_value_store(path)}
  array = open_store(spec, source=os.fspath(path))
  if shape is not None and array.shape != tuple(shape):
    raise ValueError(
      f"The array in {os.fspath(path)} has shape {array.shape}, but the "
      f"checkpoint says {tuple(shape)}; the checkpoint is corrupt."
    )
  return array


def open_store(
  spec: Mapping[str, Any],
  *,
  source: str,
  sparse: bool | None = None,
) -> Stored:
  """Opens the array that a TensorStore specification describes.

  Args:
    spec: Driver and key-value store.
    source: What is read, for messages.
    sparse: Whether chunks full of the fill value may have been left out. By
      default they may if the array states a fill value.

  Returns:
    The array; of what it is asked for it reads the chunks that hold it.

  Raises:
    ValueError: As `read_array`; of what is truncated or corrupt, when it is
      read.
  """
  import tensorstore as ts  # Not needed unless arrays are read or written.

  # Left to itself, TensorStore reads a lost chunk as zeros.
  strict = {**spec, "fill_missing_data_reads": False}
  try:
    store = ts.open(strict, open=True, read=True).result()
    if sparse or (sparse is None and store.fill_value is not None):
      store = ts.open(dict(spec), open=True, read=True).result()
  except (ValueError, OSError) as error:
    raise _broken(source, error) from error
  dtype = np.dtype(store.dtype.numpy_dtype)

  def read(index: Index) -> np.ndarray:
    try:
      with memory.returned_when_freed():
        return np.asarray(store[index].read(order="C").result())
    except (ValueError, OSError) as error:
      raise _broken(source, error) from error

  def pick(places: Places) -> np.ndarray:
    chunk: Any = store.chunk_layout.read_chunk.shape or store.shape
    found = np.empty(places[0].shape, dtype)
    try:
      # All in one go, TensorStore would have all of their chunks in memory.
      with memory.returned_when_freed():
        for some in _by_chunk(places, chunk, itemsize=dtype.itemsize):
          of_some = tuple(axis[some] for axis in places)
          found[some] = store.vindex[of_some].read().result()
    except (ValueError, OSError) as error:
      raise _broken(source, error) from error
    return found

  return Stored(tuple(store.shape), dtype, read, pick)


def _by_chunk(
  places: Places, chunk: Sequence[int], *, itemsize: int
) -> list[np.ndarray]:
  """Returns the numbers of the places in groups of few chunks each.

  Args:
    places: Where the values are.
    chunk: The shape of a chunk.
    itemsize: Bytes of a value.
  """
  of_chunk = np.stack(
    [axis // max(1, size) for axis, size in zip(places, chunk, strict=True)]
  )
  _, numbers = np.unique(of_chunk, axis=1, return_inverse=True)
  num_chunks = max(1, BLOCK_BYTES // max(1, math.prod(chunk) * itemsize))
  groups = numbers.reshape(-1) // num_chunks
  return [np.flatnonzero(groups == group) for group in np.unique(groups)]


def write_array(path: paths.PathLike, array: np.ndarray) -> dict[str, Any]:
  """Writes one array, in chunks of at most about 16 MiB.

  Args:
    path: The folder to make.
    array: The values; bfloat16 stays bfloat16.

  Returns:
    The metadata of T5X's description: chunks, compressor and shape.

  Raises:
    OSError: If the disk is full or the folder cannot be written.
  """
  import tensorstore as ts

  metadata = {
    "chunks": _chunks(array.shape, array.dtype.itemsize),
    "compressor": GZIP,
    "shape": list(array.shape),
  }
  spec = {
    "driver": "zarr",
    "dtype": array.dtype.name,
    "kvstore": key_value_store(path),
    "metadata": metadata,
  }
  try:
    ts.open(spec, create=True).result().write(array).result()
  except ValueError as error:  # TensorStore's form of a failed system call.
    for code in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
      if os.strerror(code) in str(error):
        raise OSError(code, os.strerror(code), os.fspath(path)) from error
    raise
  return metadata


def _chunks(shape: tuple[int, ...], itemsize: int) -> list[int]:
  if not shape:
    return []
  row_bytes = max(1, math.prod(shape[1:]) * itemsize)
  rows = min(shape[0], max(1, _CHUNK_BYTES // row_bytes))
  return [rows, *shape[1:]]


def key_value_store(path: paths.PathLike) -> Any:
  """Returns TensorStore's specification of a local or gs:// folder."""
  path = paths.as_path(path)
  if paths.is_remote(path):
    return f"{os.fspath(path).rstrip('/')}/"
  return {"driver": "file", "path": f"{path.absolute()}/"}


def _broken(source: str, error: Exception) -> ValueError:
  return ValueError(
    f"The array in {source} cannot be read; the checkpoint is incomplete or "
    f"corrupt, copy it again. ({_first_line(error)})"
  )


def _first_line(error: Exception) -> str:
  # The rest repeats the whole specification of the store.
  return str(error).split(" [tensorstore_spec", 1)[0].split("\n", 1)[0]
