"""Metrics of tasks whose answer is a label.

A metric takes targets and predictions of equal length, of any hashable type,
and returns figures in percent under the names that T5 gives them. A prediction
that is no label at all is an error of the model and is counted as one; it is
never dropped.
"""

import collections
import dataclasses
import math
from collections.abc import Hashable, Iterable, Sequence

Label = Hashable
_NO_LABEL = object()


def accuracy(
  targets: Sequence[Label], predictions: Sequence[Label]
) -> dict[str, float]:
  """Returns the share of predictions that equal their target, in percent.

  Raises:
    ValueError: If there is nothing to compare, or the lengths differ.
  """
  pairs = paired(targets, predictions)
  correct = sum(bool(target == prediction) for target, prediction in pairs)
  return {"accuracy": 100.0 * correct / len(pairs)}


def f1(
  targets: Sequence[Label],
  predictions: Sequence[Label],
  *,
  positive_label: Label = 1,
) -> dict[str, float]:
  """Returns the F1 of one label against all else, in percent.

  An invalid prediction is one that did not say the positive label. Without any
  positive target or prediction the F1 is 0.

  Args:
    targets: True labels.
    predictions: What the model said.
    positive_label: The label whose F1 it is.

  Raises:
    ValueError: If there is nothing to compare, or the lengths differ.
  """
  pairs = paired(targets, predictions)
  return {"f1": 100.0 * _label_f1(pairs, positive_label)}


def f1_with_invalid(
  targets: Sequence[Label],
  predictions: Sequence[Label],
  *,
  positive_label: Label = 1,
  negative_label: Label = 0,
) -> dict[str, float]:
  """Returns the binary F1, with invalid predictions taken as the wrong label.

  Unlike in `f1`, an invalid prediction on a negative example lowers the
  precision, as in T5's evaluation of MRPC and QQP.

  Args:
    targets: True labels, each one of the two.
    predictions: What the model said.
    positive_label: The label whose F1 it is.
    negative_label: The other label.

  Raises:
    ValueError: If there is nothing to compare, the lengths differ, or a target
      is neither of the two labels.
  """
  labels = (positive_label, negative_label)
  pairs = paired(targets, predictions)
  check_targets(targets, labels)
  opposite = {positive_label: negative_label, negative_label: positive_label}
  pairs = [
    (target, prediction if prediction in labels else opposite[target])
    for target, prediction in pairs
  ]
  return {"f1": 100.0 * _label_f1(pairs, positive_label)}


def macro_f1(
  targets: Sequence[Label],
  predictions: Sequence[Label],
  *,
  labels: Iterable[Label],
) -> dict[str, float]:
  """Returns the unweighted mean of the F1 of every label, in percent.

  A label that occurs in neither targets nor predictions counts as 0, as in
  scikit-learn and so in T5. The result is named `mean_<C>class_f1`.

  Args:
    targets: True labels.
    predictions: What the model said.
    labels: All labels of the task, C of them.

  Raises:
    ValueError: If there is nothing to compare, the lengths differ, or a target
      is not among the labels.
  """
  labels = tuple(labels)
  pairs = paired(targets, predictions)
  check_targets(targets, labels)
  mean = sum(_label_f1(pairs, label) for label in labels) / len(labels)
  return {f"mean_{len(labels)}class_f1": 100.0 * mean}


def matthews(
  targets: Sequence[Label],
  predictions: Sequence[Label],
  *,
  labels: Iterable[Label] | None = None,
) -> dict[str, float]:
  """Returns the Matthews correlation in percent, named `matthews_corrcoef`.

  Of more than two labels it is Gorodkin's (2004). It is 0 where all targets or
  all predictions are the same, as in scikit-learn and so in T5.

  Args:
    targets: True labels.
    predictions: What the model said.
    labels: All labels of the task; whatever else is said counts as one label
      more, as in T5. None takes every prediction for a label.

  Raises:
    ValueError: If there is nothing to compare, or the lengths differ.
  """
  if labels is not None:
    known = frozenset(labels)
    predictions = [each if each in known else _NO_LABEL for each in predictions]
  pairs = paired(targets, predictions)
  said = collections.Counter(predictions)
  there = collections.Counter(targets)
  hits = sum(bool(target == prediction) for target, prediction in pairs)
  size = len(pairs)
  covariance = hits * size - sum(there[label] * said[label] for label in there)
  spread = math.sqrt(
    (size**2 - sum(count**2 for count in there.values()))
    * (size**2 - sum(count**2 for count in said.values()))
  )
  return {"matthews_corrcoef": 100.0 * covariance / spread if spread else 0.0}


@dataclasses.dataclass(frozen=True)
class Spread:
  """How predictions spread over what was predicted.

  Attributes:
    counts: Number of examples by prediction, the most frequent first.
    collapsed: Whether one prediction was given to all but a few examples
      although the targets differ: the model ignores its input.
  """

  counts: dict[Label, int]
  collapsed: bool

  @property
  def top(self) -> Label:
    """The most frequent prediction."""
    return next(iter(self.counts))

  @property
  def top_share(self) -> float:
    """The share of examples that got the most frequent prediction, percent."""
    return 100.0 * self.counts[self.top] / sum(self.counts.values())


def prediction_spread(
  targets: Sequence[Label],
  predictions: Sequence[Label],
  *,
  collapse_share: float = 99.0,
) -> Spread:
  """Counts predictions and tells whether they collapsed onto one.

  A collapsed prompt often scores the majority class's accuracy to the digit,
  which reads like a result.

  Args:
    targets: True labels; if nearly all are the same, nothing has collapsed.
    predictions: What the model said.
    collapse_share: Percent of examples from which one prediction is a collapse.

  Raises:
    ValueError: If there is nothing to compare, or the lengths differ.
  """
  paired(targets, predictions)
  counts = dict(collections.Counter(predictions).most_common())
  enough = collapse_share / 100.0 * len(predictions)
  top_target = max(collections.Counter(targets).values())
  collapsed = max(counts.values()) >= enough and top_target < enough
  return Spread(counts=counts, collapsed=collapsed)


def majority_label(targets: Sequence[Label]) -> Label:
  """Returns the most frequent label, the earliest of those that tie.

  Raises:
    ValueError: If there are no targets.
  """
  if not len(targets):
    raise ValueError("majority_label: there are no targets.")
  return collections.Counter(targets).most_common(1)[0][0]


def paired(targets: Sequence, predictions: Sequence) -> list[tuple]:
  """Returns targets beside their predictions.

  Raises:
    ValueError: If there is nothing to compare, or the lengths differ.
  """
  if len(targets) != len(predictions):
    raise ValueError(
      "targets and predictions must have the same length, got "
      f"{len(targets)} targets and {len(predictions)} predictions."
    )
  if not len(targets):
    raise ValueError(
      "there are no targets to evaluate: the split or the filter that made "
      "them is empty."
    )
  return list(zip(targets, predictions, strict=True))


def check_targets(targets: Sequence[Label], labels: Sequence[Label]) -> None:
  """Raises a ValueError that names the first target that is not a label."""
  for index, target in enumerate(targets):
    if target not in labels:
      raise ValueError(
        f"target {index} is {target!r}, which is none of the labels "
        f"{list(labels)!r}; give all labels of the task."
      )


def _label_f1(pairs: Sequence[tuple], label: Label) -> float:
  """Returns the F1 of one label as a fraction."""
  hits = sum(bool(t == label and p == label) for t, p in pairs)
  said = sum(bool(p == label) for _, p in pairs)
  there = sum(bool(t == label) for t, _ in pairs)
  return 2.0 * hits / (said + there) if said + there else 0.0
