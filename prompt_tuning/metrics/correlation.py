"""Metrics of tasks whose answer is a number, such as STS-B's similarity.

All are correlations, in percent. Where one side is the same number throughout
there is none to speak of; SciPy then says NaN, which would spoil every mean,
and these say 0.
"""

import math
from collections.abc import Sequence

from prompt_tuning.metrics.classification import paired


def pearson(
  targets: Sequence[float], predictions: Sequence[float]
) -> dict[str, float]:
  """Returns Pearson's correlation of the numbers, named `pearson_corrcoef`.

  Args:
    targets: Finite numbers.
    predictions: One finite number for each target.

  Raises:
    ValueError: If there is nothing to compare, the lengths differ, or a number
      is not finite.
  """
  _check(targets, predictions)
  return {"pearson_corrcoef": 100.0 * _correlation(targets, predictions)}


def spearman(
  targets: Sequence[float], predictions: Sequence[float]
) -> dict[str, float]:
  """Returns the correlation of the ranks, named `spearman_corrcoef`.

  Equal numbers share the mean of their ranks.

  Args:
    targets: Finite numbers.
    predictions: One finite number for each target.

  Raises:
    ValueError: As `pearson`.
  """
  _check(targets, predictions)
  correlation = _correlation(_ranks(targets), _ranks(predictions))
  return {"spearman_corrcoef": 100.0 * correlation}


def _check(targets: Sequence[float], predictions: Sequence[float]) -> None:
  for index, pair in enumerate(paired(targets, predictions)):
    if not all(map(math.isfinite, pair)):
      raise ValueError(
        f"example {index}: target and prediction must be finite numbers, got "
        f"{pair}; give predictions that are none a number of their own"
      )


def _correlation(first: Sequence[float], second: Sequence[float]) -> float:
  """Returns Pearson's correlation as a fraction."""
  x, y = _centred(first), _centred(second)
  scale = math.sqrt(_dot(x, x)) * math.sqrt(_dot(y, y))
  if not scale:
    return 0.0
  return max(-1.0, min(1.0, _dot(x, y) / scale))


def _centred(numbers: Sequence[float]) -> list[float]:
  if min(numbers) == max(numbers):
    return [0.0] * len(numbers)  # Their mean need not be equal to them.
  mean = math.fsum(numbers) / len(numbers)
  return [number - mean for number in numbers]


def _ranks(numbers: Sequence[float]) -> list[float]:
  """Returns ranks from 0, of equal numbers the mean of theirs."""
  order = sorted(range(len(numbers)), key=numbers.__getitem__)
  ranks = [0.0] * len(numbers)
  start = 0
  while start < len(order):
    end = start
    while end < len(order) and numbers[order[end]] == numbers[order[start]]:
      end += 1
    for index in order[start:end]:
      ranks[index] = (start + end - 1) / 2
    start = end
  return ranks


def _dot(first: Sequence[float], second: Sequence[float]) -> float:
  return math.fsum(a * b for a, b in zip(first, second, strict=True))
