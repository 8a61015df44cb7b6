"""What came out of the runs of an experiment."""

import dataclasses
import itertools
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from prompt_tuning import paths
from prompt_tuning.sweeps.jobs import RunRecord

# What `train.run` writes of a run, and says of one that ended by itself.
_ENDED = "ended.json"
_BY_ITSELF = ("finished", "early stopped")
_METRICS = "metrics.jsonl"
_EVALUATIONS = "training_eval/"


@dataclasses.dataclass(frozen=True)
class RunResult:
  """One run that has ended.

  Attributes:
    best: The metric at the best of its evaluations, by which the paper selects
      a checkpoint on the development set (Lester et al., 2021, sec. A.2).
    best_step: Where that was; the first, if several are as good.
    last: The metric at the last evaluation.
    last_step: Where that was.
  """

  best: float
  best_step: int
  last: float
  last_step: int


@dataclasses.dataclass(frozen=True)
class Cell:
  """All repetitions of one point of the grid.

  Attributes:
    coordinates: Labels by axis, without the axis of the repetitions.
    results: Those that have ended, by their label on that axis.
    missing: Labels of those that have not.
  """

  coordinates: Mapping[str, str]
  results: Mapping[str, RunResult]
  missing: Sequence[str]

  @property
  def is_whole(self) -> bool:
    """Whether every repetition has ended."""
    return not self.missing

  def mean(self) -> float:
    """Returns the mean over repetitions of the best.

    Raises:
      ValueError: A repetition is missing: what is there is not averaged.
    """
    if self.missing:
      raise ValueError(
        f"{dict(self.coordinates)} lacks {', '.join(self.missing)}; a mean of "
        "the others would be of another experiment"
      )
    return statistics.fmean(each.best for each in self.results.values())

  def deviation(self) -> float | None:
    """Returns the sample standard deviation; None of a single repetition."""
    values = [each.best for each in self.results.values()]
    return statistics.stdev(values) if len(values) > 1 else None


@dataclasses.dataclass(frozen=True)
class Results:
  """All of an experiment.

  Attributes:
    about: What it shows.
    metric: What is compared.
    axes: The axes of the cells, and the labels on each in their order.
    repeats: The axis over which cells are averaged.
    cells: Every point of the grid, in the order of the axes.
  """

  about: str
  metric: str
  axes: Mapping[str, Sequence[str]]
  repeats: str
  cells: Sequence[Cell]

  @property
  def missing(self) -> list[str]:
    """What has not ended, one line a cell."""
    return [
      f"{describe(cell.coordinates)}: {self.repeats} {', '.join(cell.missing)}"
      for cell in self.cells
      if cell.missing
    ]


def read(folder: paths.PathLike, record: Mapping[str, Any]) -> Results:
  """Reads what the runs of an experiment have written.

  Args:
    folder: The experiment's.
    record: What `jobs.read_record` returns.

  Raises:
    ValueError: Runs have ended, and none with the metric.
  """
  folder, repeats = paths.as_path(folder), record["repeats"]
  ended: dict[tuple[str, ...], RunResult] = {}
  axes = [name for name in record["axes"] if name != repeats]
  runs = [RunRecord(**run) for job in record["jobs"] for run in job["runs"]]
  unmeasured = []
  for run in runs:
    if not has_ended(folder, run):
      continue
    found = _read_run(
      folder / run.folder,
      record["metric"],
      larger_is_better=record["larger_is_better"],
    )
    if found is None:
      unmeasured.append(run.folder)
      continue
    point = run.coordinates
    ended[*(point[name] for name in axes), point[repeats]] = found
  if unmeasured and not ended:
    raise ValueError(
      f"no run has an evaluation with {record['metric']!r}; {unmeasured[0]} is "
      "one of them. Name a metric that they have in Grid.metric"
    )
  cells = []
  for labels in itertools.product(*(record["axes"][name] for name in axes)):
    found = {
      repeat: ended[*labels, repeat]
      for repeat in record["axes"][repeats]
      if (*labels, repeat) in ended
    }
    missing = [each for each in record["axes"][repeats] if each not in found]
    cells.append(Cell(dict(zip(axes, labels, strict=True)), found, missing))
  return Results(
    about=record["about"],
    metric=record["metric"],
    axes={name: record["axes"][name] for name in axes},
    repeats=repeats,
    cells=cells,
  )


def has_ended(folder: paths.PathLike, run: RunRecord) -> bool:
  """Returns whether a run ended by itself: not told to, and without an error.

  A job that was told to stop saves and exits as one that is done.
  """
  path = paths.as_path(folder) / run.folder / _ENDED
  if not paths.exists(path):
    return False
  return json.loads(paths.read_text(path))["reason"] in _BY_ITSELF


def describe(coordinates: Mapping[str, str]) -> str:
  """Returns a point of the grid as text."""
  pairs = [f"{name}={label}" for name, label in coordinates.items()]
  return ", ".join(pairs) or "all"


def _read_run(
  folder: Any, metric: str, *, larger_is_better: bool
) -> RunResult | None:
  """Returns what came of a run; None if it has no finite metric."""
  task, _, name = metric.rpartition("/")
  path = folder / _METRICS
  lines = paths.read_text(path).splitlines() if paths.exists(path) else []
  values: dict[int, float] = {}
  for line in map(json.loads, lines):
    if line["scope"] == _EVALUATIONS + task and name in line:
      value = line[name]
      values[line["step"]] = math.nan if value is None else float(value)
  finite = {step: v for step, v in values.items() if not math.isnan(v)}
  if not finite:
    return None
  sign = 1 if larger_is_better else -1
  best_step = max(finite, key=lambda step: (sign * finite[step], -step))
  last_step = max(values)
  return RunResult(
    best=finite[best_step],
    best_step=best_step,
    last=values[last_step],
    last_step=last_step,
  )
