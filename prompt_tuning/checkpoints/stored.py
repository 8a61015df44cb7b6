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

_BLOCK_BYTES = 64 * 2**20


@dataclasses.dataclass(frozen=True, eq=False)
class Stored:
  """One array, not read yet.

  It reads anew whenever it is asked, and keeps nothing. As an argument of
  numpy's it is read whole.

  Attributes:
    shape: Its shape.
    dtype: Its type.
    read: Returns the part within an `Index`.
  """

  shape: tuple[int, ...]
  dtype: np.dtype
  read: Callable[[Index], np.ndarray]

  @classmethod
  def of(cls, array: np.ndarray) -> "Stored":
    """Returns an array that is in memory as one that is read."""
    return cls(array.shape, array.dtype, lambda index: array[index])

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
    return (self.at(number, axis=0) for number in range(len(self)))

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

  def points(self, flat: np.ndarray) -> np.ndarray:
    """Returns single values; no more than a block is in memory at a time.

    Args:
      flat: Their places in C order, ascending.
    """
    if not self.ndim:
      return np.asarray(self)[None][flat]
    width = math.prod(self.shape[1:])
    rows = max(1, _BLOCK_BYTES // max(1, width * self.dtype.itemsize))
    found = []
    for start in range(0, len(self), rows):
      stop = min(start + rows, len(self))
      inside = flat[(flat >= start * width) & (flat < stop * width)]
      if inside.size:
        block = self[start:stop].reshape(-1)
        found.append(block[inside - start * width])
    return np.concatenate(found) if found else np.empty(0, self.dtype)

  def astype(self, dtype: Any, copy: bool = True) -> "Stored":
    """Returns the array in another type."""
    del copy
    wanted = np.dtype(dtype)
    return dataclasses.replace(
      self,
      dtype=wanted,
      read=lambda index: self.read(index).astype(wanted, copy=False),
    )

  def transposed(self) -> "Stored":
    """Returns the array with its axes the other way round."""
    return dataclasses.replace(
      self,
      shape=self.shape[::-1],
      read=lambda index: self.read(index[::-1]).T,
    )

  def at(self, number: int, *, axis: int) -> "Stored":
    """Returns the array at one place of an axis, which is gone."""
    here = slice(number, number + 1)
    return dataclasses.replace(
      self,
      shape=self.shape[:axis] + self.shape[axis + 1 :],
      read=lambda index: self.read(
        (*index[:axis], here, *index[axis:])
      ).squeeze(axis),
    )

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

    shape = (*self.shape[:axis], outer * inner, *self.shape[axis + 2 :])
    return dataclasses.replace(self, shape=shape, read=read)


def index_all(count: int) -> Index:
  """Returns the index that leaves so many axes whole."""
  return (slice(None),) * count


def stacked(parts: Sequence[Stored]) -> Stored:
  """Returns arrays of one shape as one, on a new first axis."""
  first = parts[0]

  def read(index: Index) -> np.ndarray:
    wanted = parts[index[0]]
    sizes = (axis.stop - axis.start for axis in index)
    whole = np.empty([max(0, size) for size in sizes], first.dtype)
    for row, part in zip(whole, wanted, strict=True):
      row[...] = part.read(index[1:])
    return whole

  return Stored((len(parts), *first.shape), first.dtype, read)
