"""Trees of arrays in one msgpack file, as Flax writes them, not read yet.

Flax's own reader has the file in memory, and every array a second time;
msgpack's reads through every array in order to skip it. Here the tree is
walked, and an array is the place where its values begin. The form is msgpack's,
with an extension of Flax's (`flax.serialization`): an array is a msgpack of its
shape, its type and its values.
"""

import math
import os
from typing import IO, Any

import jax.numpy as jnp
import numpy as np
from flax import serialization

from prompt_tuning import paths
from prompt_tuning.checkpoints import values
from prompt_tuning.checkpoints.stored import Index, Places, Stored, row_blocks

# By the first byte of what they begin: bytes that the length has, ...
_MAPS = {0xDE: 2, 0xDF: 4}
_LISTS = {0xDC: 2, 0xDD: 4}
_EXTENSIONS = {0xC7: 1, 0xC8: 2, 0xC9: 4}
_TEXTS = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}
# ... and that it is of itself: none, booleans, numbers; extensions.
_VALUES = {0xC0: 0, 0xC2: 0, 0xC3: 0, 0xCA: 4, 0xCB: 8}
_VALUES |= {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8}
_VALUES |= {0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}
_FIXED_EXTENSIONS = {0xD4: 1, 0xD5: 2, 0xD6: 4, 0xD7: 8, 0xD8: 16}
# What an array is to Flax, and a scalar of numpy's: an extension of this kind,
# three things in it, and the last of them bytes.
_ARRAY, _SCALAR, _THREE = 1, 3, 0x93
_BYTES = {0xC4: 1, 0xC5: 2, 0xC6: 4}
_TYPES = ("bfloat16", "float16", "float32", "float64", "bool")
_TYPES += tuple(
  f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)
)
# Less than this is read with the tree.
_SMALL_BYTES = 2**12
# A larger array than a GiB is there in pieces, under this mark.
_IN_PIECES = "__msgpack_chunked_array__"
# What Flax and numpy raise of what is no such file.
_DAMAGED = (OSError, ValueError, TypeError, LookupError, RecursionError)


def open_msgpack(path: paths.PathLike) -> Any:
  """Opens a file.

  Args:
    path: Of the file.

  Returns:
    What is in it; arrays of more than a few KiB are `Stored`.

  Raises:
    ValueError: It is missing, truncated, corrupt, or no msgpack file. Arrays
      raise it too, when they are read.
  """
  try:
    with paths.open_file(path, "rb") as file:
      reader = _Reader(path, file)
      content = reader.node("")
      if file.tell() != reader.size:
        raise ValueError(f"it ends at byte {file.tell():,} of {reader.size:,}")
  except _DAMAGED as error:
    raise values.broken(path, error) from error
  return content


class _Reader:
  """What reads a file once from its start, and skips large arrays.

  Attributes:
    size: Bytes of the file.
  """

  def __init__(self, path: paths.PathLike, file: IO[bytes]):
    self._path, self._file = path, file
    self.size = file.seek(0, os.SEEK_END)
    file.seek(0)

  def node(self, name: str) -> Any:
    """Returns what comes next, which has this name."""
    first = self._take(1)
    [tag] = first
    if tag in _MAPS or 0x80 <= tag < 0x90:
      count = self._number(_MAPS[tag]) if tag in _MAPS else tag - 0x80
      return self._map(count, name)
    if tag in _LISTS or 0x90 <= tag < 0xA0:
      count = self._number(_LISTS[tag]) if tag in _LISTS else tag - 0x90
      return [self.node(f"{name}/{number}") for number in range(count)]
    if tag in _FIXED_EXTENSIONS:
      return self._extension(_FIXED_EXTENSIONS[tag], name)
    if tag in _EXTENSIONS:
      return self._extension(self._number(_EXTENSIONS[tag]), name)
    if 0xA0 <= tag < 0xC0:
      return _decoded(first + self._take(tag - 0xA0))
    if tag in _TEXTS:
      length = self._take(_TEXTS[tag])
      return _decoded(first + length + self._take(_big_endian(length)))
    if tag in _VALUES or tag < 0x80 or tag >= 0xE0:
      return _decoded(first + self._take(_VALUES.get(tag, 0)))
    raise ValueError(f"nothing begins with the byte {tag:#x}")

  def _map(self, count: int, name: str) -> Any:
    found = {}
    for _ in range(count):
      key = self.node(name)
      if isinstance(key, bytes):
        key = key.decode()
      found[key] = self.node(f"{name}/{key}" if name else str(key))
    return _of_pieces(found) if _IN_PIECES in found else found

  def _extension(self, length: int, name: str) -> Any:
    [kind], start = self._take(1), self._file.tell()
    stop = start + length
    if stop > self.size:
      raise ValueError(
        f"{name} is said to end at byte {stop:,}, the file has {self.size:,}"
      )
    if kind not in (_ARRAY, _SCALAR):
      raise ValueError(f"{name} is neither an array nor a scalar")
    shape, dtype = self._array_header(name)
    begin = self._file.tell()
    if begin + math.prod(shape) * dtype.itemsize != stop:
      raise ValueError(
        f"{name} {list(shape)} of {dtype} has not the {stop - begin:,} bytes "
        "that it is said to have"
      )
    if kind == _SCALAR or length < _SMALL_BYTES:
      array = np.frombuffer(self._take(stop - begin), dtype).reshape(shape)
      return array[()] if kind == _SCALAR else array
    self._file.seek(stop)
    return values.open_values(
      self._path, name, shape=shape, dtype=dtype, first=begin, size=self.size
    )

  def _array_header(self, name: str) -> tuple[tuple[int, ...], np.dtype]:
    """Returns shape and type of an array, of which its values come next."""
    [tag] = self._take(1)
    if tag != _THREE:
      raise ValueError(f"{name} is not shape, type and values")
    shape, dtype = self.node(name), self.node(name)
    if isinstance(dtype, bytes):  # As msgpack before version 1 wrote text.
      dtype = dtype.decode()
    if dtype not in _TYPES:
      raise ValueError(f"{name} is of the type {dtype!r:.50}")
    if not all(type(side) is int and side >= 0 for side in shape):
      raise ValueError(f"{name} has the shape {shape!r:.50}")
    [tag] = self._take(1)
    if tag not in _BYTES:
      raise ValueError(f"the values of {name} are no bytes")
    self._number(_BYTES[tag])
    return tuple(shape), np.dtype(jnp.dtype(dtype))

  def _number(self, num_bytes: int) -> int:
    return _big_endian(self._take(num_bytes))

  def _take(self, num_bytes: int) -> bytes:
    taken = self._file.read(num_bytes)
    if len(taken) < num_bytes:
      raise ValueError(f"it ends within a value, at byte {self.size:,}")
    return taken


def _decoded(packed: bytes) -> Any:
  return serialization.msgpack_restore(packed)


def _big_endian(number: bytes) -> int:
  return int.from_bytes(number, "big")


def _of_pieces(found: dict[str, Any]) -> Stored:
  """Returns an array that is there in pieces, flat ones."""
  shape = _in_order(found["shape"])
  pieces = [
    piece if isinstance(piece, Stored) else Stored.of(np.asarray(piece))
    for piece in _in_order(found["chunks"])
  ]
  ends = np.cumsum([piece.size for piece in pieces])
  if ends[-1] != math.prod(shape):
    raise ValueError(f"the pieces of an array {list(shape)} are not its values")
  dtype, row = pieces[0].dtype, math.prod(shape[1:])
  if {piece.dtype for piece in pieces} != {dtype}:
    raise ValueError(f"the pieces of an array {list(shape)} differ in type")

  def rows(start: int, stop: int) -> np.ndarray:
    flat = np.empty((stop - start) * row, dtype)
    for piece, end in zip(pieces, ends.tolist(), strict=True):
      begin = end - piece.size
      low, high = max(start * row, begin), min(stop * row, end)
      if low < high:
        into = slice(low - start * row, high - start * row)
        flat[into] = piece[low - begin : high - begin]
    return flat.reshape(-1, *shape[1:])

  def read(index: Index) -> np.ndarray:
    sizes = [max(0, axis.stop - axis.start) for axis in index]
    part = np.empty(sizes, dtype)
    # Whole rows are read, a block of them at a time.
    for [block] in row_blocks((sizes[0], *shape[1:]), dtype.itemsize):
      first = index[0].start
      read_on = rows(first + block.start, first + block.stop)
      part[block] = read_on[(slice(None), *index[1:])]
    return part

  def pick(places: Places) -> np.ndarray:
    flat = np.ravel_multi_index(places, shape)
    within = np.searchsorted(ends, flat, side="right")
    picked = np.empty(flat.shape, dtype)
    for number in np.unique(within):
      here, piece = within == number, pieces[number]
      picked[here] = piece.pick((flat[here] - ends[number] + piece.size,))
    return picked

  return Stored(shape, dtype, read, pick)


def _in_order(numbered: dict[str, Any]) -> tuple[Any, ...]:
  return tuple(numbered[str(number)] for number in range(len(numbered)))
