"""Metrics over groups of examples that belong together.

MultiRC asks about every answer to a question by itself. Its exact match counts
the questions all of whose answers are judged right, its F1a all answers
(Khashabi et al., 2018). ReCoRD has an example for each right answer to a query,
and counts a query once (Zhang et al., 2018).
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple

from prompt_tuning.metrics import classification
from prompt_tuning.metrics.classification import paired


class Grouped(NamedTuple):
  """A target and the group that it belongs to.

  Attributes:
    group: Whatever tells groups apart.
    value: The target, as another metric takes it.
  """

  group: Hashable
  value: Any


def exact_match(
  targets: Sequence[Grouped], predictions: Sequence[Any]
) -> dict[str, float]:
  """Returns the share of groups that are right throughout, in percent.

  Args:
    targets: Targets with their groups.
    predictions: One for each target.

  Raises:
    ValueError: If there is nothing to compare, or the lengths differ.
  """
  right: dict[Hashable, bool] = {}
  for target, prediction in paired(targets, predictions):
    equal = bool(target.value == prediction)
    right[target.group] = right.get(target.group, True) and equal
  return {"exact_match": 100.0 * sum(right.values()) / len(right)}


def f1_over_all(
  targets: Sequence[Grouped],
  predictions: Sequence[Any],
  *,
  positive_label: Hashable = 1,
  negative_label: Hashable = 0,
) -> dict[str, float]:
  """Returns the binary F1 over all examples, whatever their group, in percent.

  With right answers as the positive label it is MultiRC's F1a. Invalid
  predictions count as in `classification.f1_with_invalid`.

  Args:
    targets: Targets with their groups.
    predictions: One for each target.
    positive_label: The label whose F1 it is.
    negative_label: The other label.

  Raises:
    ValueError: As `classification.f1_with_invalid`.
  """
  return classification.f1_with_invalid(
    [target.value for target in targets],
    predictions,
    positive_label=positive_label,
    negative_label=negative_label,
  )


def once_each(
  metric: Callable[..., Mapping[str, float]],
) -> Callable[..., dict[str, float]]:
  """Returns a metric of the first example of every group.

  Args:
    metric: `(targets, predictions)` of bare values to figures by name.
  """

  def of_firsts(
    targets: Sequence[Grouped], predictions: Sequence[Any]
  ) -> dict[str, float]:
    firsts: dict[Hashable, tuple[Any, Any]] = {}
    for target, prediction in paired(targets, predictions):
      firsts.setdefault(target.group, (target.value, prediction))
    values, answers = zip(*firsts.values(), strict=True)
    return dict(metric(list(values), list(answers)))

  return of_firsts
