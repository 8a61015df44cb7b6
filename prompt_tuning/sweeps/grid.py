"""The grid of an experiment, as a recipe describes it."""

import dataclasses
import enum
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

from prompt_tuning.config.errors import ConfigError
from prompt_tuning.config.members import Member, read_member
from prompt_tuning.types import enum_member

Axis = Sequence[Any] | Mapping[str, str]
"""Values of the setting that the axis is called after; or by label, flags such
as "--gin_file=prompts/uniform.gin --gin.PROMPT_LENGTH=20"."""


class Program(enum.Enum):
  """What runs the runs of a job."""

  TRAIN = "train"
  TRAIN_JOINTLY = "train_jointly"
  EVAL = "eval"

  @property
  def folder_setting(self) -> str:
    """The macro that says where a run writes."""
    return "EVAL_OUTPUT_DIR" if self is Program.EVAL else "MODEL_DIR"


@dataclasses.dataclass(frozen=True)
class Point:
  """One value on each of some axes.

  Attributes:
    coordinates: The value's label by the name of its axis.
    member: The recipes and settings that come of it, and a name for a folder.
  """

  coordinates: Mapping[str, str]
  member: Member


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grid:
  """An experiment: every combination of the values of its axes is a run.

  Attributes:
    about: What it shows, in a sentence.
    recipes: Read between those of the backbone and those of the command line.
    jobs: Axes along which runs need a job of their own, because the shape of
      the prompt differs, what is trained, or the backbone.
    together: Axes along which runs are taken by one job, if the program can.
    repeats: The axis over which results are averaged; one of `together`.
    program: "train_jointly", or "train" for one run after the other; "eval"
      where nothing is trained.
    metric: What is compared, `<task>/<metric>`, at the best evaluation of each
      run; "mean/score" is the mean over tasks of the mean of each task's
      metrics, as SuperGLUE's score is. "final_eval/<task>/<metric>" is that of
      the final evaluation, of the step that was selected.
    larger_is_better: False for a loss.
    choose: An axis of `together` that is searched and not shown, such as the
      learning rate: everywhere that value is taken which is best on average
      over the repetitions. None shows all.
    choose_by: The metric by which it is the best, that of the split on which
      steps are selected; `metric` may be that of another.

  Raises:
    ConfigError: An axis is empty, two have the same name, or there is none that
      repeats or is searched.
  """

  about: str
  recipes: Sequence[str]
  jobs: Mapping[str, Axis] = dataclasses.field(default_factory=dict)
  together: Mapping[str, Axis] = dataclasses.field(
    default_factory=lambda: {"RANDOM_SEED": [0, 1, 2]}
  )
  repeats: str = "RANDOM_SEED"
  program: Program | str = Program.TRAIN_JOINTLY
  metric: str = "mean/score"
  larger_is_better: bool = True
  choose: str | None = None
  choose_by: str = "mean/score"

  def __post_init__(self):
    program = enum_member(Program, self.program, name="Grid.program")
    object.__setattr__(self, "program", program)
    twice = sorted(set(self.jobs) & set(self.together))
    if twice:
      raise ConfigError(f"Grid: {', '.join(twice)} is in jobs and in together.")
    if self.repeats not in self.together:
      raise ConfigError(
        f"Grid.repeats is {self.repeats!r}, which is no axis of together; "
        f"there are {', '.join(self.together) or 'none'}."
      )
    if self.choose is not None and (
      self.choose not in self.together or self.choose == self.repeats
    ):
      raise ConfigError(
        f"Grid.choose is {self.choose!r}, which is to be an axis of together "
        f"and not {self.repeats}; there are {', '.join(self.together)}."
      )
    self.job_points()
    self.run_points()

  def job_points(self) -> list[Point]:
    """Returns what each job has of its own; without axes, one that has nothing.

    Raises:
      ConfigError: An axis is empty or malformed.
    """
    return _product(self.jobs, otherwise="all")

  def run_points(self) -> list[Point]:
    """Returns what each run of a job has of its own.

    Raises:
      ConfigError: As `job_points`.
    """
    return _product(self.together, otherwise="run")

  @property
  def settings(self) -> set[str]:
    """Names of the settings that axes set."""
    points = [*self.job_points(), *self.run_points()]
    return {
      binding.partition("=")[0].strip()
      for point in points
      for binding in point.member.bindings
    }


def _product(axes: Mapping[str, Axis], *, otherwise: str) -> list[Point]:
  sides = [_side(name, axis) for name, axis in axes.items()]
  points = [_joined(combination) for combination in itertools.product(*sides)]
  if points == [Point({}, Member(""))]:
    return [Point({}, Member(otherwise))]
  names = [point.member.name for point in points]
  if len(set(names)) < len(names):
    raise ConfigError(
      "Grid: values of an axis must differ in letters, digits or any of . = + "
      f"-, got {', '.join(names)}."
    )
  return points


def _side(name: str, axis: Axis) -> list[Point]:
  """Returns the points of one axis."""
  if not axis:
    raise ConfigError(f"Grid: the axis {name!r} has no values.")
  if isinstance(axis, Mapping):
    return [
      Point({name: label}, _named(name, label, flags))
      for label, flags in axis.items()
    ]
  return [
    Point(
      {name: str(value)},
      Member(_fit(f"{name}={value}"), bindings=(f"{name}={value!r}",)),
    )
    for value in axis
  ]


def _named(name: str, label: str, flags: str) -> Member:
  folder = _fit(f"{name}={label}")
  return read_member(f"{folder} {flags}", flag=f"Grid axis {name!r}: ")


def _joined(points: Sequence[Point]) -> Point:
  members = [point.member for point in points]
  coordinates: dict[str, str] = {}
  for point in points:
    coordinates |= point.coordinates
  member = Member(
    ",".join(each.name for each in members),
    gin_files=tuple(file for each in members for file in each.gin_files),
    bindings=tuple(each for one in members for each in one.bindings),
  )
  return Point(coordinates, member)


def _fit(text: str) -> str:
  """Makes a text fit for a folder's name."""
  return re.sub(r"[^\w.=+-]+", "-", text).strip("-")
