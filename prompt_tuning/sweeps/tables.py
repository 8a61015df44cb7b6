"""The results of an experiment as Markdown and CSV."""

import csv
import io
from collections.abc import Callable, Sequence

from prompt_tuning.sweeps.results import Cell, Results


def markdown(results: Results) -> str:
  """Returns a table with a row a cell; of two axes, one with both."""
  return "\n".join(
    [
      results.about,
      "",
      f"{which(results)}: mean and standard deviation over {results.repeats}.",
      "",
      *(_pivot(results) if len(results.axes) == 2 else _rows(results)),
      "",
      *_missing(results),
    ]
  )


def as_csv(results: Results) -> str:
  """Returns a line for every run, those that are missing left empty."""
  file = io.StringIO()
  writer = csv.writer(file, lineterminator="\n")
  writer.writerow(
    [
      *results.axes,
      results.repeats,
      *("best", "best_step", "last", "last_step", "trained", "share"),
      *([results.chooses] if results.chooses else []),
    ]
  )
  for cell in results.cells:
    labels = list(cell.coordinates.values())
    for repeat, run in cell.results.items():
      writer.writerow(
        [
          *(*labels, repeat),
          *(run.best, run.best_step, run.last, run.last_step),
          *(run.trained, run.share),
          *([cell.chosen] if results.chooses else []),
        ]
      )
    for repeat in cell.missing:
      empty = [""] * (7 if results.chooses else 6)
      writer.writerow([*labels, repeat, *empty])
  return file.getvalue()


def which(results: Results) -> str:
  """Says which evaluation of a run the metric is of."""
  is_final = results.metric.startswith("final_eval/")
  evaluation = "of the selected step" if is_final else "the best evaluation"
  chosen = f", at the best {results.chooses}" if results.chooses else ""
  return f"{results.metric}, {evaluation} of each run{chosen}"


def trained_text(cell: Cell) -> str:
  """Returns how many parameters are trained, and their percentage."""
  runs = {(run.trained, run.share) for run in cell.results.values()}
  return "; ".join(
    f"{trained:,} ({share:.3g} %)"
    for trained, share in sorted(runs, key=str)
    if trained is not None and share is not None
  )


def differ_in_parameters(results: Results) -> bool:
  """Returns whether points of the grid train more or fewer parameters."""
  return len({trained_text(cell) for cell in results.cells} - {""}) > 1


def figure_text(cell: Cell) -> str:
  """Returns "mean ± deviation", or what there is of it."""
  if not cell.is_whole:
    total = len(cell.results) + len(cell.missing)
    return f"{len(cell.results)} of {total} runs"
  deviation = cell.deviation()
  mean = cell.mean()
  return number(mean) + (
    "" if deviation is None else f" ± {number(deviation, beside=mean)}"
  )


def number(value: float, *, beside: float | None = None) -> str:
  """Returns a percentage with one digit, what is small with three.

  Args:
    value: The number.
    beside: The number whose digits decide, as of a deviation the mean's.
  """
  is_large = abs(value if beside is None else beside) >= 10
  return f"{value:.1f}" if is_large else f"{value:.3g}"


def _rows(results: Results) -> list[str]:
  columns: dict[str, Callable[[Cell], str]] = {
    name: lambda cell, name=name: cell.coordinates[name]
    for name in results.axes
  }
  if differ_in_parameters(results):
    columns["trained parameters"] = trained_text
  if results.chooses:
    columns[results.chooses] = lambda cell: cell.chosen or ""
  columns[results.metric] = figure_text
  columns["each run"] = lambda cell: ", ".join(
    number(run.best) for run in cell.results.values()
  )
  columns["best step"] = lambda cell: ", ".join(
    str(run.best_step) for run in cell.results.values()
  )
  body = [
    [column(cell) for column in columns.values()] for cell in results.cells
  ]
  return _table(list(columns), body)


def _pivot(results: Results) -> list[str]:
  (down, rows), (across, columns) = results.axes.items()
  by_place = {tuple(cell.coordinates.values()): cell for cell in results.cells}
  body = [
    [row, *(figure_text(by_place[row, column]) for column in columns)]
    for row in rows
  ]
  return _table([down, *(f"{across} {column}" for column in columns)], body)


def _missing(results: Results) -> list[str]:
  if not results.missing:
    return []
  return [
    "**Not whole.** What has not ended, or has no finite value, is in no mean:",
    "",
    *(f"* {line}" for line in results.missing),
    "",
  ]


def _table(head: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
  lines = [head, ["---"] * len(head), *body]
  return [f"| {' | '.join(line)} |" for line in lines]
