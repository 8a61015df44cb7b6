"""Soft tokens beside the words of the vocabulary (Lester et al., 2021, sec. 7).

Neighbours are nearest by cosine. Prompts leave the shell on which embeddings
lie, so that distances would tell their norms alone.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from prompt_tuning.types import Float, Int


@dataclasses.dataclass(frozen=True)
class Neighbors:
  """The pieces that each soft token is nearest to.

  Attributes:
    ids: [P, count] token ids, the nearest first.
    similarities: [P, count] their cosines.
  """

  ids: np.ndarray
  similarities: np.ndarray

  def clusters(self) -> dict[int, list[int]]:
    """Returns the soft tokens by the piece that is nearest to them.

    Those with most soft tokens first.
    """
    found: dict[int, list[int]] = {}
    for position, nearest in enumerate(self.ids[:, 0].tolist()):
      found.setdefault(nearest, []).append(position)
    return dict(sorted(found.items(), key=lambda item: -len(item[1])))


@dataclasses.dataclass(frozen=True)
class LabelRank:
  """How near a prompt comes to a word.

  Attributes:
    rank: 1 where a piece of the word is the nearest of all to a soft token.
    position: That soft token.
    similarity: Their cosine.
  """

  rank: int
  position: int
  similarity: float


@dataclasses.dataclass(frozen=True)
class Norms:
  """Euclidean norms.

  Attributes:
    least: The smallest.
    median: The median.
    most: The largest.
  """

  least: float
  median: float
  most: float


def find_neighbors(
  prompt: Float[np.ndarray, "P D"],
  table: Float[np.ndarray, "V D"],
  *,
  count: int,
  ids: Int[np.ndarray, " M"],
) -> Neighbors:
  """Returns the nearest pieces of each soft token.

  Args:
    prompt: The soft tokens.
    table: The embedding table.
    count: Pieces of each, at most M.
    ids: Those rows of the table that are words.
  """
  similarities = _cosines(prompt, table, ids)
  order = np.argsort(-similarities, axis=1, kind="stable")[:, :count]
  return Neighbors(
    np.asarray(ids)[order], np.take_along_axis(similarities, order, axis=1)
  )


def label_ranks(
  prompt: Float[np.ndarray, "P D"],
  table: Float[np.ndarray, "V D"],
  labels: Mapping[str, Sequence[int]],
  *,
  ids: Int[np.ndarray, " M"],
) -> dict[str, LabelRank]:
  """Returns how near the prompt comes to each label.

  Args:
    prompt: The soft tokens.
    table: The embedding table.
    labels: The pieces of each label; the one that comes nearest counts.
    ids: Those rows of the table that are words.

  Raises:
    ValueError: A label has no piece among `ids`.
  """
  similarities = _cosines(prompt, table, ids)
  places = {int(each): place for place, each in enumerate(np.asarray(ids))}
  # Rank 1 + how many pieces are nearer to the same soft token.
  ranks = np.empty(similarities.shape, np.int64)
  order = np.argsort(-similarities, axis=1, kind="stable")
  numbers = np.broadcast_to(np.arange(1, order.shape[1] + 1), order.shape)
  np.put_along_axis(ranks, order, numbers, axis=1)
  result = {}
  for label, pieces in labels.items():
    known = [places[piece] for piece in pieces if piece in places]
    if not known:
      raise ValueError(f"the label {label!r} has no piece of the vocabulary")
    own = ranks[:, known]
    position, column = np.unravel_index(int(np.argmin(own)), own.shape)
    result[label] = LabelRank(
      rank=int(own[position, column]),
      position=int(position),
      similarity=float(similarities[position, known[column]]),
    )
  return result


def norms(vectors: Float[np.ndarray, "M D"]) -> Norms:
  """Returns the norms of vectors."""
  each = np.linalg.norm(np.asarray(vectors, np.float32), axis=-1)
  return Norms(float(each.min()), float(np.median(each)), float(each.max()))


def _cosines(prompt, table, ids) -> np.ndarray:
  """Returns [P, M]."""
  return _unit(prompt) @ _unit(np.asarray(table)[np.asarray(ids)]).T


def _unit(vectors) -> np.ndarray:
  vectors = np.asarray(vectors, np.float32)
  length = np.linalg.norm(vectors, axis=-1, keepdims=True)
  # A row of zeros, as a padding token's may be, is near to nothing.
  return vectors / np.maximum(length, np.finfo(np.float32).tiny)
