"""What came out of the runs of an experiment."""

import dataclasses
import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from prompt_tuning import paths
from prompt_tuning.sweeps import jobs
from prompt_tuning.sweeps.jobs import RunRecord

# What `train.run` writes of a run, and says of one that ended by itself.
_ENDED = "ended.json"
_BY_ITSELF = ("finished", "early stopped")
_METRICS = "metrics.jsonl"
_WHILE_TRAINING, _FINAL = "training_eval/", "final_eval/"
_PARAMETERS = "parameters.json"
# What `runs.evaluate` writes last.
_EVALUATED = "metrics.json"


@dataclasses.dataclass(frozen=True)
class RunResult:
  """One run that has ended.

  Attributes:
    best: The metric at the best of its evaluations, by which the paper selects
      a checkpoint on the development set (Lester et al., 2021, sec. A.2).
    best_step: Where that was; the first, if several are as good.
    last: The metric at the last evaluation.
    last_step: Where that was.
    trained: How many parameters are trained; None if that was not written.
    share: Their percentage of all.
  """

  best: float
  best_step: int
  last: float
  last_step: int
  trained: int | None = None
  share: float | None = None


@dataclasses.dataclass(frozen=True)
class Cell:
  """All repetitions of one point of the grid.

  Attributes:
    coordinates: Labels by axis, without the axis of the repetitions.
    results: Those that have ended, by their label on that axis.
    missing: Labels of those that have not.
    chosen: Label on the axis that was searched; None if none was.
  """

  coordinates: Mapping[str, str]
  results: Mapping[str, RunResult]
  missing: Sequence[str]
  chosen: str | None = None

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
    chooses: The axis that was searched, which is none of `axes`; None if none
      was.
  """

  about: str
  metric: str
  axes: Mapping[str, Sequence[str]]
  repeats: str
  cells: Sequence[Cell]
  chooses: str | None = None

  @property
  def missing(self) -> list[str]:
    """What has not ended or has no finite value, one line a cell."""
    return [
      f"{describe(cell.coordinates)}: {self.repeats} {', '.join(cell.missing)}"
      for cell in self.cells
      if cell.missing
    ]


def read(
  folder: paths.PathLike,
  record: Mapping[str, Any],
  *,
  metric: str | None = None,
) -> Results:
  """Reads what the runs of an experiment have written.

  Args:
    folder: The experiment's.
    record: What `jobs.read_record` returns.
    metric: Another one than the experiment's, see `Grid.metric`.

  Raises:
    ValueError: Runs have ended, and none with the metric; or a file is damaged.
  """
  found = _read_all(folder, record, str(metric or record["metric"]))
  axis = record.get("choose")
  if axis is None:
    return found
  judged = _read_all(folder, record, record["choose_by"])
  return _chosen(
    found, judged, axis, larger_is_better=record["larger_is_better"]
  )


def _read_all(
  folder: paths.PathLike, record: Mapping[str, Any], metric: str
) -> Results:
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
      metric,
      larger_is_better=record["larger_is_better"],
    )
    if found is None:
      unmeasured.append(run.folder)
      continue
    point = run.coordinates
    ended[*(point[name] for name in axes), point[repeats]] = found
  if unmeasured and not ended:
    raise ValueError(
      f"no run has an evaluation with {metric!r}; {unmeasured[0]} is "
      "one of them. Name a metric that they have in Grid.metric, and give the "
      "command again: what has run is not run again"
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
    metric=metric,
    axes={name: record["axes"][name] for name in axes},
    repeats=repeats,
    cells=cells,
  )


def _chosen(
  found: Results, judged: Results, axis: str, *, larger_is_better: bool
) -> Results:
  """Takes of an axis the value that another metric finds best."""
  pairs: dict[tuple[str, ...], list[tuple[Cell, Cell]]] = {}
  for cell, judge in zip(found.cells, judged.cells, strict=True):
    rest = {k: v for k, v in cell.coordinates.items() if k != axis}
    pairs.setdefault(tuple(rest.values()), []).append((cell, judge))
  sign = 1 if larger_is_better else -1
  axes = {name: found.axes[name] for name in found.axes if name != axis}
  cells = []
  for labels, group in pairs.items():
    coordinates = dict(zip(axes, labels, strict=True))
    # Between fewer values another one might be the best.
    missing = [
      f"{repeat} ({axis} {cell.coordinates[axis]})"
      for cell, _ in group
      for repeat in cell.missing
    ]
    if missing:
      cells.append(Cell(coordinates, {}, missing))
      continue
    best, _ = max(group, key=lambda pair: sign * pair[1].mean())
    cells.append(
      Cell(coordinates, best.results, (), chosen=best.coordinates[axis])
    )
  return dataclasses.replace(found, axes=axes, cells=cells, chooses=axis)


def has_ended(folder: paths.PathLike, run: RunRecord) -> bool:
  """Returns whether a run ended by itself: not told to, and without an error.

  A job that was told to stop saves and exits as one that is done.
  """
  place = paths.as_path(folder) / run.folder
  path = place / _ENDED
  if not paths.exists(path):
    return paths.exists(place / _EVALUATED)
  return jobs.read_json(path, "reason")["reason"] in _BY_ITSELF


def describe(coordinates: Mapping[str, str]) -> str:
  """Returns a point of the grid as text."""
  pairs = [f"{name}={label}" for name, label in coordinates.items()]
  return ", ".join(pairs) or "all"


def combine(parts: Mapping[str, Results]) -> Results:
  """Puts experiments with the same axes side by side.

  Args:
    parts: Each by what it is called in the result, on an axis "experiment".

  Raises:
    ValueError: They have other axes, labels on them, metrics or repetitions.
  """
  first_name, first = next(iter(parts.items()))
  for name, part in parts.items():
    for what in ("axes", "metric", "repeats"):
      ours, theirs = getattr(first, what), getattr(part, what)
      if ours != theirs:
        raise ValueError(
          f"{first_name} and {name} cannot be one table: their {what} are "
          f"{ours} and {theirs}"
        )
  return dataclasses.replace(
    first,
    about="; ".join(dict.fromkeys(part.about for part in parts.values())),
    axes={**first.axes, "experiment": list(parts)},
    cells=[
      dataclasses.replace(
        cell, coordinates={**cell.coordinates, "experiment": name}
      )
      for cells in zip(*(part.cells for part in parts.values()), strict=True)
      for name, cell in zip(parts, cells, strict=True)
    ],
  )


def _read_run(
  folder: Any, metric: str, *, larger_is_better: bool
) -> RunResult | None:
  """Returns what came of a run; None if it has no finite metric."""
  values = _values(folder, metric)
  finite = {step: v for step, v in values.items() if not math.isnan(v)}
  if not finite:
    return None
  sign = 1 if larger_is_better else -1
  best_step = max(finite, key=lambda step: (sign * finite[step], -step))
  last_step = max(values)
  trained, share = _parameters(folder)
  return RunResult(
    best=finite[best_step],
    best_step=best_step,
    last=values[last_step],
    last_step=last_step,
    trained=trained,
    share=share,
  )


def _values(folder: Any, metric: str) -> dict[int, float]:
  """Returns a metric by step; of a final evaluation, the last that there is."""
  if paths.exists(folder / _EVALUATED):
    found = jobs.read_json(folder / _EVALUATED)
    where = f"{folder / _EVALUATED}"
    return {0: _number(found, metric, where)} if metric in found else {}
  is_final = metric.startswith(_FINAL)
  scope, _, name = metric.rpartition("/")
  scope = scope if is_final else _WHILE_TRAINING + scope
  path = folder / _METRICS
  lines = paths.read_text(path).splitlines() if paths.exists(path) else []
  values: dict[int, float] = {}
  for place, text in enumerate(lines, start=1):
    line = jobs.parse_json(text, "scope", "step", where=f"{path}:{place}")
    if line["scope"] == scope and name in line:
      number = _number(line, name, f"{path}:{place}")
      # A run that was prolonged has an older one before it.
      values = {} if is_final else values
      values[line["step"]] = number
  return values


def _number(found: Mapping[str, Any], name: str, where: str) -> float:
  """Returns a metric, NaN where it is not finite.

  Raises:
    ValueError: It is no number.
  """
  value = found[name]
  if value is None:
    return math.nan
  if isinstance(value, bool) or not isinstance(value, int | float):
    raise ValueError(f"{where} is damaged: {name!r} is {value!r}, no number")
  return float(value) if math.isfinite(value) else math.nan


def _parameters(folder: Any) -> tuple[int | None, float | None]:
  """Returns how many parameters a run trains, and their percentage."""
  path = folder / _PARAMETERS
  if not paths.exists(path):
    return None, None
  counts = jobs.read_json(path, "trained", "frozen")
  total = counts["trained"] + counts["frozen"]
  return counts["trained"], 100 * counts["trained"] / total
