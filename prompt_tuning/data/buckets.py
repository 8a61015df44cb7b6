"""Few shapes for batches of many lengths.

Examples are sorted by length, so that those of a batch are alike, and batches
are padded to one of a few lengths: a function is compiled for each. There are
as many batches as without, and only the last, shortest one is not full.
"""

from collections.abc import Sequence

import numpy as np

# What a length is rounded up to: accelerators compute on tiles anyway, and
# shapes that several data sets share are compiled once.
_MULTIPLE = 8


def batches_by_length(
  lengths: Sequence[int],
  *,
  batch_size: int,
  num_buckets: int,
  max_length: int,
) -> list[tuple[np.ndarray, int]]:
  """Groups examples of like length.

  Args:
    lengths: Tokens of each example.
    batch_size: B.
    num_buckets: How many lengths of batches there may be.
    max_length: Which none is longer than.

  Returns:
    For each batch the numbers of its examples, at most B, and its length in
    tokens. The longest come first, so that what does not fit into memory fails
    at once; examples of the same length stay in their order.
  """
  order = np.argsort(-np.asarray(lengths, np.int64), kind="stable")
  batches = [
    order[first : first + batch_size]
    for first in range(0, len(order), batch_size)
  ]
  needed = [
    min(-(-lengths[batch[0]] // _MULTIPLE) * _MULTIPLE, max_length)
    for batch in batches
  ]
  chosen = bucket_lengths(needed, num_buckets=num_buckets)
  taken = np.asarray(chosen)[np.searchsorted(chosen, needed)].tolist()
  return list(zip(batches, taken, strict=True))


def bucket_lengths(needed: Sequence[int], *, num_buckets: int) -> list[int]:
  """Returns the lengths to which batches are padded with the least padding.

  Of all sets S of at most `num_buckets` lengths it is the one with the smallest
  sum over batches b of min {s in S : s >= needed[b]}. With the distinct lengths
  v_1 < ... < v_D, and C_j batches of at most v_j, the least sum up to v_j with
  k lengths is

    W(k, j) = min over i < j of W(k - 1, i) + v_j (C_j - C_i),  W(k, 0) = 0.

  Args:
    needed: The longest row of each batch, in tokens.
    num_buckets: How many lengths there may be.

  Returns:
    Ascending; the last is the longest of all.
  """
  values, counts = np.unique(np.asarray(needed, np.int64), return_counts=True)
  num_values = len(values)
  up_to = np.concatenate([[0], np.cumsum(counts)])
  # Tokens of the batches i < b <= j when they are padded to v_j, [i, j].
  padded = np.concatenate([[0], values]) * (up_to[None, :] - up_to[:, None])
  padded = np.where(np.tri(num_values + 1, dtype=bool), np.inf, padded)
  least = np.where(np.arange(num_values + 1) > 0, np.inf, 0.0)
  cut_at = []
  for _ in range(min(num_buckets, num_values)):
    sums = least[:, None] + padded
    cut_at.append(np.argmin(sums, axis=0))
    least = np.append(0.0, np.min(sums, axis=0)[1:])
  chosen, last = [], num_values
  for before in reversed(cut_at):
    if last == 0:
      break
    chosen.append(int(values[last - 1]))
    last = int(before[last])
  return chosen[::-1]
