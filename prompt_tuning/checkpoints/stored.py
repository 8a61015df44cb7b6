"""Arrays of a checkpoint that are read where they are needed, part by part.

A model that is cut over many devices is on none of its hosts as a whole: what a
host reads of each array are the parts for its own devices. So a checkpoint is
opened as arrays that know shape and type, and read what is asked of them.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

Index = tuple[slice, ...]
"""A slice for each axis, its bounds numbers and its step 1."""

Places = tuple[np.ndarray, ...]
"""Where single values are: for each axis their numbers along it."""

BLOCK_BYTES = 64 * 2**20
"""As much is read at once of what is looked through and not kept."""


@dataclasses.dataclass(frozen=True, eq=False)
class Stored:
  """One array, not read yet.

  It reads anew whenever it is asked, and keeps nothing. As an argument of
  numpy's it is read whole.

  Attributes:
    shape: Its shape.
    dtype: Its type.
    read: Returns the part within an `Index`.
    pick: Returns the values at `Places`, for which it need not have a part in
      memory that holds them all.
  """

  shape: tuple[int, ...]
  dtype: np.dtype
  read: Callable[[Index], np.ndarray]
  pick: Callable[[Places], np.ndarray]

  @classmethod
  def of(cls, array: np.ndarray) -> "Stored":
    """Returns an array that is in memory as one that is read."""
    get = array.__getitem__
    return cls(array.shape, array.dtype, get, get)

  @property
  def ndim(self) -> int:
    """The number of axes."""
    return len(self.shape)

  @property
  def size(self) -> int:
    """The number of values."""
    return math.prod(self.shape)

  @property
  def nbytes(self) -> int:
    """Bytes of all values."""
    return self.size * self.dtype.itemsize

  def __len__(self) -> int:
    return self.shape[0]

  def __iter__(self) -> Iterator["Stored"]:
    return iter(self.layers(axis=0))

  def __getitem__(self, index: slice | tuple[slice, ...]) -> np.ndarray:
    """Reads a part.

    Args:
      index: Slices without a step, of the first axes or of all.
    """
    given = index if isinstance(index, tuple) else (index,)
    given += (slice(None),) * (self.ndim - len(given))
    bounds = [
      axis.indices(size)[:2]
      for axis, size in zip(given, self.shape, strict=True)
    ]
    return self.read(tuple(slice(*each) for each in bounds))

  def __array__(
    self, dtype: Any = None, copy: bool | None = None
  ) -> np.ndarray:
    del copy  # What is read is nobody else's.
    array = self[()]
    return array if dtype is None else array.astype(dtype, copy=False)

  def equals(self, other: "Stored") -> bool:
    """Returns whether all values are the same; a block at a time is read."""
    if self.shape != other.shape:
      return False
    blocks = row_blocks(self.shape, self.dtype.itemsize)
    return all(np.array_equal(self[block], other[block]) for block in blocks)

  def astype(self, dtype: Any, copy: bool = True) -> "Stored":
    """Returns the array in another type."""
    del copy
    wanted = np.dtype(dtype)
    return dataclasses.replace(
      self,
      dtype=wanted,
      read=lambda index: self.read(index).astype(wanted, copy=False),
      pick=lambda places: self.pick(places).astype(wanted, copy=False),
    )

  def transposed(self) -> "Stored":
    """Returns the array with its axes the other way round."""
    return dataclasses.replace(
      self,
      shape=self.shape[::-1],
      read=lambda index: self.read(index[::-1]).T,
      pick=lambda places: self.pick(places[::-1]),
    )

  def layers(self, *, axis: int) -> list["Stored"]:
    """Returns the arrays along an axis, which is gone.

    A chunk of a stored array holds some of many layers. So a part is read of
    all layers at once, and kept until each was asked for the same part: asked
    one after another, they are read once.
    """
    together = _Together(self, axis)
    return [together.layer(number) for number in range(self.shape[axis])]

  def joined(self, axis: int) -> "Stored":
    """Returns the array with an axis and the one behind it as one."""
    outer, inner = self.shape[axis : axis + 2]

    def read(index: Index) -> np.ndarray:
      start, stop = index[axis].start, index[axis].stop
      # Whole rows of the inner axis are read, and cut.
      first, last = start // inner, max(start // inner, -(-stop // inner))
      own = (slice(first, last), slice(0, inner))
      part = self.read((*index[:axis], *own, *index[axis + 1 :]))
      num_joined = (last - first) * inner
      shape = (*part.shape[:axis], num_joined, *part.shape[axis + 2 :])
      cut = slice(start - first * inner, stop - first * inner)
      return part.reshape(shape)[(*index_all(axis), cut)]

    def pick(places: Places) -> np.ndarray:
      split = np.divmod(places[axis], inner)
      return self.pick((*places[:axis], *split, *places[axis + 1 :]))

    shape = (*self.shape[:axis], outer * inner, *self.shape[axis + 2 :])
    return dataclasses.replace(self, shape=shape, read=read, pick=pick)


def index_all(count: int) -> Index:
  """Returns the index that leaves so many axes whole."""
  return (slice(None),) * count


def row_blocks(shape: tuple[int, ...], itemsize: int) -> list[Index]:
  """Returns the rows of an array in blocks of at most `BLOCK_BYTES` or a row.

  Args:
    shape: Of the array.
    itemsize: Bytes of a value.
  """
  if not shape:
    return [()]
  row_bytes = max(1, math.prod(shape[1:]) * itemsize)
  rows = max(1, BLOCK_BYTES // row_bytes)
  return [
    (slice(start, min(start + rows, shape[0])),)
    for start in range(0, shape[0], rows)
  ]


def stacked(parts: Sequence[Stored]) -> Stored:
  """Returns arrays of one shape as one, on a new first axis."""
  first = parts[0]

  def read(index: Index) -> np.ndarray:
    sizes = (axis.stop - axis.start for axis in index)
    whole = np.empty([max(0, size) for size in sizes], first.dtype)
    for row, part in zip(whole, parts[index[0]], strict=True):
      row[...] = part.read(index[1:])
    return whole

  def pick(places: Places) -> np.ndarray:
    found = np.empty(places[0].shape, first.dtype)
    for number in np.unique(places[0]):
      here = places[0] == number
      found[here] = parts[number].pick(tuple(p[here] for p in places[1:]))
    return found

  return Stored((len(parts), *first.shape), first.dtype, read, pick)


class _Together:
  """Layers of one array, of which a part is read once for all of them."""

  def __init__(self, array: Stored, axis: int):
    self._array, self._axis = array, axis
    self._asked: Any = None
    self._part = np.empty(0)
    self._waiting: set[int] = set()

  def layer(self, number: int) -> Stored:
    """Returns one of them."""
    shape, axis = self._array.shape, self._axis
    return Stored(
      shape[:axis] + shape[axis + 1 :],
      self._array.dtype,
      lambda index: self._read(number, index),
      lambda places: self._pick(number, places),
    )

  def _read(self, number: int, index: Index) -> np.ndarray:
    every = slice(0, self._array.shape[self._axis])
    around = (*index[: self._axis], every, *index[self._axis :])
    part = self._shared(
      number,
      [(axis.start, axis.stop) for axis in index],
      lambda: self._array.read(around),
    )
    # A copy: the part of the others is to go.
    return part.take(number, self._axis)

  def _pick(self, number: int, places: Places) -> np.ndarray:
    count = self._array.shape[self._axis]
    [size] = places[0].shape
    spread = [np.tile(each, count) for each in places]
    spread.insert(self._axis, np.repeat(np.arange(count), size))
    found = self._shared(
      number,
      [each.tobytes() for each in places],
      lambda: self._array.pick(tuple(spread)).reshape(count, size),
    )
    return found[number]

  def _shared(
    self, number: int, asked: Any, read: Callable[[], np.ndarray]
  ) -> np.ndarray:
    """Returns what was asked for of all layers, read for the first of them."""
    if asked != self._asked:
      self._part = np.empty(0)  # Never two of them.
      self._part, self._asked = read(), asked
      self._waiting = set(range(self._array.shape[self._axis]))
    part = self._part
    self._waiting.discard(number)
    if not self._waiting:
      self._part, self._asked = np.empty(0), None
    return part
