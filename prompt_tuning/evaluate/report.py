"""What an evaluation found, as text for a terminal or a file."""

import dataclasses
from collections.abc import Mapping, Sequence

from prompt_tuning.metrics.classification import (
  Label,
  majority_label,
  prediction_spread,
)

_MISSING = "-"
_GAP = "  "


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
  """One line of a result table.

  Attributes:
    name: What was evaluated, such as "prompt-tuned".
    metrics: Figures by name, in percent.
    parameters_trained: How many numbers were trained to get there.
  """

  name: str
  metrics: Mapping[str, float]
  parameters_trained: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prediction:
  """One example as it is shown to a reader.

  Attributes:
    inputs: The text that the model read.
    target: The answer that was wanted.
    prediction: The answer that came.
  """

  inputs: str
  target: str
  prediction: str


def majority_result(
  train_targets: Sequence[Label],
  targets: Sequence[Label],
  *,
  metric_fn,
) -> Result:
  """Returns the result of always giving the training data's commonest answer.

  Args:
    train_targets: Answers of the training data.
    targets: Answers of the evaluated data.
    metric_fn: `(targets, predictions) -> {name: percent}`.

  Raises:
    ValueError: If there are no targets.
  """
  predictions = [majority_label(train_targets)] * len(targets)
  return Result(name="majority class", metrics=metric_fn(targets, predictions))


def result_table(
  results: Sequence[Result], *, total_parameters: int | None = None
) -> str:
  """Returns a table with a line for each result and a column for each metric.

  Args:
    results: In the order in which they are shown.
    total_parameters: Size of the backbone; if given, the trained parameters
      are also shown as a share of it.

  Raises:
    ValueError: If there are no results.
  """
  if not results:
    raise ValueError("result_table: there are no results to show.")
  names = list(dict.fromkeys(name for r in results for name in r.metrics))
  lines = [["", *names, "parameters trained"]]
  for result in results:
    figures = [_figure(result.metrics.get(name)) for name in names]
    trained = _parameters(result.parameters_trained, total_parameters)
    lines.append([result.name, *figures, trained])
  return _aligned(lines)


def prediction_samples(
  predictions: Sequence[Prediction], *, limit: int = 5, width: int = 80
) -> str:
  """Returns the first few predictions, wrong ones marked.

  Args:
    predictions: All predictions, in any order.
    limit: How many are shown.
    width: Length of a line in characters; a longer input loses its middle.
  """
  blocks = []
  for shown in predictions[:limit]:
    right = shown.prediction == shown.target
    verdict = "right" if right else f"wrong, should be {shown.target!r}"
    text = _shortened(" ".join(shown.inputs.split()), width)
    blocks.append(f"{text}\n  -> {shown.prediction!r} ({verdict})")
  return "\n".join(blocks)


def prediction_histogram(
  targets: Sequence[Label], predictions: Sequence[Label], *, limit: int = 10
) -> str:
  """Returns how often each answer was given and wanted, and any collapse.

  Args:
    targets: The answers that were wanted.
    predictions: The answers that came.
    limit: How many different answers are listed.

  Raises:
    ValueError: If there is nothing to compare, or the lengths differ.
  """
  spread = prediction_spread(targets, predictions)
  wanted = prediction_spread(targets, targets).counts
  answers = list(dict.fromkeys([*spread.counts, *wanted]))
  lines = [["answer", "predicted", "true"]]
  for answer in answers[:limit]:
    given = f"{spread.counts.get(answer, 0):,}"
    lines.append([str(answer), given, f"{wanted.get(answer, 0):,}"])
  text = _aligned(lines)
  if len(answers) > limit:
    text += f"\n... and {len(answers) - limit:,} other answers"
  if spread.collapsed:
    text += (
      f"\nWARNING: {spread.top_share:.1f} % of the predictions are "
      f"{str(spread.top)!r} although the targets differ. The model ignores its "
      "input; its accuracy is the share of that answer in the data, not a "
      "result."
    )
  return text


def _figure(value: float | None) -> str:
  return _MISSING if value is None else f"{value:.1f}"


def _parameters(trained: int, total: int | None) -> str:
  if not total or not trained:
    return f"{trained:,}"
  return f"{trained:,} ({100.0 * trained / total:.3g} %)"


def _shortened(text: str, width: int) -> str:
  if len(text) <= width:
    return text
  half = (width - 5) // 2
  return f"{text[:half]} ... {text[-half:]}"


def _aligned(lines: Sequence[Sequence[str]]) -> str:
  """Returns columns as wide as need be: the first to the left, others right."""
  widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
  rows = []
  for first, *others in lines:
    cells = [first.ljust(widths[0])]
    cells += [c.rjust(w) for c, w in zip(others, widths[1:], strict=True)]
    rows.append(_GAP.join(cells).rstrip())
  return "\n".join(rows)
