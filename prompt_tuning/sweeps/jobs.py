"""The jobs of an experiment, as command lines, and the record of them."""

import dataclasses
import json
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from absl import logging

from prompt_tuning import paths
from prompt_tuning.config.errors import ConfigError
from prompt_tuning.config.members import Member
from prompt_tuning.sweeps.grid import Grid, Point, Program

RECORD = "sweep.json"
DONE = "done.json"
# How runs are compared, which does not change them.
_COMPARES = ("about", "metric", "larger_is_better", "choose", "choose_by")

WithoutEffect = Callable[[Sequence[str], Sequence[str]], Mapping[str, str]]
"""`config.without_effect` of recipes and settings, for one program."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  """What the command line adds to a grid.

  Attributes:
    folder: Where everything is kept.
    backbone: Recipes that come first: a model and its size.
    gin_files: Recipes that come after those of the grid, such as a task.
    bindings: Settings NAME=VALUE for all runs.
    search_paths: Folders to look for recipes in.
  """

  folder: str
  backbone: Sequence[str] = ()
  gin_files: Sequence[str] = ()
  bindings: Sequence[str] = ()
  search_paths: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class RunRecord:
  """One run of an experiment.

  Attributes:
    folder: Its MODEL_DIR, below the experiment's folder.
    coordinates: Where it stands in the grid: labels by axis.
  """

  folder: str
  coordinates: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Job:
  """Runs that are started together.

  Attributes:
    name: Its folder below the experiment's.
    commands: Modules and flags, one after the other: what follows `python -m`.
    runs: What they make.
  """

  name: str
  commands: Sequence[Sequence[str]]
  runs: Sequence[RunRecord]

  @property
  def text(self) -> str:
    """The commands, as one would type them."""
    return as_text(self.commands)


def plan(
  grid: Grid, settings: Settings, *, without_effect: WithoutEffect | None = None
) -> list[Job]:
  """Returns the jobs of an experiment.

  A setting of the command line that changes something in some runs alone, as
  PROMPT_LENGTH does where a prompt is compared with the whole model, is left
  out of the others, and the log says so.

  Args:
    grid: The experiment.
    settings: What the command line adds to it.
    without_effect: Reads the recipes and settings of a run, and returns those
      of the settings that change nothing, each with a message. None leaves that
      to the jobs.

  Raises:
    ConfigError: The command line sets what an axis sets, or what changes
      nothing in any run; or recipes and settings of a run are wrong.
  """
  own = {each.partition("=")[0].strip() for each in settings.bindings}
  setting = Program(grid.program).folder_setting
  clash = sorted((grid.settings | {setting}) & own)
  if clash:
    raise ConfigError(
      f"{', '.join(clash)} is set by the sweep itself; leave it out of the "
      "command line."
    )
  if without_effect is None:
    without_effect = _unread
  idle = {
    (job.member.name, run.member.name): _idle(
      grid, settings, [job.member, run.member], without_effect
    )
    for job in grid.job_points()
    for run in grid.run_points()
  }
  everywhere = set.intersection(*map(set, idle.values()))
  if everywhere:
    told = next(iter(idle.values()))
    raise ConfigError("\n".join(told[each] for each in sorted(everywhere)))
  return [_job(grid, settings, point, idle) for point in grid.job_points()]


def _unread(files: Sequence[str], bindings: Sequence[str]) -> dict[str, str]:
  del files, bindings
  return {}


def _idle(
  grid: Grid,
  settings: Settings,
  members: Sequence[Member],
  without_effect: WithoutEffect,
) -> dict[str, str]:
  """Returns what of the command line changes nothing in a run, and why.

  Raises:
    ConfigError: Something of the grid changes nothing either.
  """
  name = "/".join(member.name for member in members)
  place = os.path.join(settings.folder, name)
  files, bindings = _recipes(grid, settings, settings.bindings, members, place)
  try:
    idle = dict(without_effect(files, bindings))
    faults = [idle[each] for each in idle if each not in settings.bindings]
    if faults:
      raise ConfigError("\n".join(faults))
  except ConfigError as error:
    raise ConfigError(f"Run {name}: {error}") from error
  return idle


def write_record(
  folder: paths.PathLike, grid: Grid, jobs: Sequence[Job]
) -> None:
  """Writes what belongs to the experiment, for a report to know.

  How its runs are compared may be another than before: they stay as they are.

  Raises:
    ConfigError: The folder holds another experiment.
  """
  record = _record(grid, jobs)
  path = paths.as_path(folder) / RECORD
  if paths.exists(path):
    kept = read_json(path)
    changed = [
      key
      for key in record
      if key not in _COMPARES and kept.get(key) != record[key]
    ]
    if changed:
      raise ConfigError(
        f"{path} is of another experiment: it has other {', '.join(changed)}"
        f"{_first_difference(kept, record)}. Name another --sweep_dir, or give "
        "the command again as it was."
      )
  paths.make_writable_dir(folder)
  paths.write_text(path, json.dumps(record, indent=2) + "\n")


def _first_difference(kept: Any, record: Any) -> str:
  """Says where the words of two commands differ first."""
  words = [
    [word for job in each["jobs"] for line in job["commands"] for word in line]
    for each in (kept, record)
  ]
  for there, here in zip(*words, strict=False):
    if there != here:
      return f" (there {there!r}, here {here!r})"
  return ""


def as_text(commands: Sequence[Sequence[str]]) -> str:
  """Returns what follows `python -m`, as one would type it."""
  return "\n".join(f"python -m {shlex.join(each)}" for each in commands)


def read_record(folder: paths.PathLike) -> dict[str, Any]:
  """Returns what `write_record` has written.

  Raises:
    ConfigError: There is no experiment in the folder.
    ValueError: The record is damaged.
  """
  path = paths.as_path(folder) / RECORD
  if not paths.exists(path):
    raise ConfigError(
      f"{folder} holds no {RECORD}; name a folder that prompt_tuning.sweep has "
      "written."
    )
  return read_json(path, "jobs", "axes", "repeats", *_COMPARES[:3])


def read_json(path: paths.PathLike, *keys: str) -> dict[str, Any]:
  """Returns the object in a file that a sweep or a run has written.

  Args:
    path: The file.
    *keys: What is in it.

  Raises:
    ValueError: It is damaged; the file is named.
  """
  return parse_json(paths.read_text(path), *keys, where=os.fspath(path))


def parse_json(text: str, *keys: str, where: str) -> dict[str, Any]:
  """Returns an object that is written in JSON; see `read_json`.

  Args:
    text: The object.
    *keys: What is in it.
    where: Where it stands, for the message.

  Raises:
    ValueError: It is none, or lacks a key.
  """
  try:
    found = json.loads(text)
  except ValueError as error:
    raise ValueError(f"{where} is damaged: {error}") from error
  if not isinstance(found, dict) or not found.keys() >= set(keys):
    raise ValueError(f"{where} is damaged: it lacks one of {', '.join(keys)}")
  return found


def _record(grid: Grid, jobs: Sequence[Job]) -> dict[str, Any]:
  axes = {
    name: list(axis) if isinstance(axis, Mapping) else [str(v) for v in axis]
    for name, axis in {**grid.jobs, **grid.together}.items()
  }
  chosen = {"choose": grid.choose, "choose_by": grid.choose_by}
  return {
    **(chosen if grid.choose else {}),
    "about": grid.about,
    "axes": axes,
    "repeats": grid.repeats,
    "metric": grid.metric,
    "larger_is_better": grid.larger_is_better,
    "jobs": [
      {
        "name": job.name,
        "commands": [list(command) for command in job.commands],
        "runs": [dataclasses.asdict(run) for run in job.runs],
      }
      for job in jobs
    ],
  }


def _job(
  grid: Grid,
  settings: Settings,
  point: Point,
  idle: Mapping[tuple[str, str], Mapping[str, str]],
) -> Job:
  name = point.member.name
  runs = [
    (
      RunRecord(
        os.path.join(name, run.member.name),
        {**point.coordinates, **run.coordinates},
      ),
      run.member,
      [
        each
        for each in settings.bindings
        if each not in idle[name, run.member.name]
      ],
    )
    for run in grid.run_points()
  ]
  for record, _, kept in runs:
    left_out = [each for each in settings.bindings if each not in kept]
    if left_out:
      logging.info(
        "%s goes without %s, which changes nothing in it",
        *(record.folder, ", ".join(left_out)),
      )
  if grid.program is Program.TRAIN_JOINTLY:
    # What some of the runs take alone stands with them.
    common = [
      each
      for each in settings.bindings
      if all(each in kept for _, _, kept in runs)
    ]
    command = _command(grid, settings, common, [point.member], name)
    for _, member, kept in runs:
      own = tuple(each for each in kept if each not in common)
      whole = dataclasses.replace(member, bindings=(*own, *member.bindings))
      command.append(f"--member={_as_flags(whole)}")
    commands = [command]
  else:
    commands = [
      _command(grid, settings, kept, [point.member, member], record.folder)
      for record, member, kept in runs
    ]
  return Job(name, commands, [record for record, _, _ in runs])


def _command(
  grid: Grid,
  settings: Settings,
  kept: Sequence[str],
  members: Sequence[Member],
  folder: str,
) -> list[str]:
  place = os.path.join(settings.folder, folder)
  files, bindings = _recipes(grid, settings, kept, members, place)
  search = ",".join(settings.search_paths)
  return [
    f"prompt_tuning.{Program(grid.program).value}",
    *([f"--gin_search_paths={search}"] if search else []),
    *(f"--gin_file={file}" for file in files),
    *(f"--gin.{binding}" for binding in bindings),
  ]


def _recipes(
  grid: Grid,
  settings: Settings,
  kept: Sequence[str],
  members: Sequence[Member],
  place: str,
) -> tuple[list[str], list[str]]:
  """Returns recipes and settings of what writes into a place.

  Args:
    grid: The experiment.
    settings: What the command line adds to it.
    kept: Those of its settings that count here.
    members: What a job and a run have of their own.
    place: A folder.
  """
  files = [*settings.backbone, *grid.recipes, *settings.gin_files]
  files += [file for member in members for file in member.gin_files]
  bindings = [*kept]
  bindings += [each for member in members for each in member.bindings]
  bindings.append(f"{Program(grid.program).folder_setting}={place!r}")
  return files, bindings


def _as_flags(member: Member) -> str:
  words = [f"--gin_file={file}" for file in member.gin_files]
  words += [f"--gin.{binding}" for binding in member.bindings]
  return shlex.join([member.name, *words])
