"""Measures the time from a training command to its first finished step.

python -m benchmarks.startup --rounds=5

The command is README's, on the embedded model. Each round runs it once with
every kind of compilation cache, in turn there and back.
"""

import argparse
import dataclasses
import enum
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks import summary
from benchmarks.startup_probe import (
  COMPILING,
  CONFIGURATION,
  DATA,
  EVALUATION,
  IMPORTS,
  SAVING,
  STEP,
  TENSORFLOW,
  TRACING,
  WEIGHTS,
)
from benchmarks.summary import Spread
from benchmarks.timeline import Span, own_seconds

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_PROBE = "benchmarks.startup_probe"

INTERPRETER = "starting Python"
REST = "the rest"
TOTAL = "until the first step is done"
PARTS = (
  INTERPRETER, IMPORTS, TENSORFLOW, CONFIGURATION, WEIGHTS, DATA, TRACING,
  COMPILING, EVALUATION, SAVING, STEP,
)  # fmt: skip
"""What the main thread does, each without what others of these do within it."""
UNNEEDED = frozenset({TENSORFLOW})
"""What is not missed where it does not happen."""


class Cache(enum.Enum):
  """What is kept of compiled programs between runs.

  NONE keeps nothing, COLD is a user's first run, WARM any later one.
  """

  NONE = "none"
  COLD = "cold"
  WARM = "warm"


@dataclasses.dataclass(frozen=True)
class Start:
  """One start of the command.

  Attributes:
    total: Seconds from the command until the first step was done.
    parts: Seconds of the main thread by part; with `REST` they sum to `total`.
    beside: Seconds that other threads spent on parts at the same time.
  """

  total: float
  parts: Mapping[str, float]
  beside: Mapping[str, float]


def readme_command() -> list[str]:
  """Returns the arguments of README's training command, without its MODEL_DIR.

  Raises:
    ValueError: If README has no such command.
  """
  text = (_ROOT / "README.md").read_text()
  found = re.search(
    r"^python -m (prompt_tuning\.train \\\n(?:.+\n)+)", text, re.M
  )
  if found is None:
    raise ValueError(
      "README.md has no command `python -m prompt_tuning.train`."
    )
  words = shlex.split(found[1].replace("\\\n", " "))
  return [word for word in words if not word.startswith("--gin.MODEL_DIR=")]


def measure(
  command: Sequence[str],
  caches: Sequence[Cache],
  *,
  rounds: int,
  platform: str = "cpu",
  note: Callable[[str], None] = print,
) -> dict[Cache, list[Start]]:
  """Starts the command in turns.

  Args:
    command: A module and its arguments; MODEL_DIR is a new folder every time.
    caches: Each is measured every round; WARM is filled by a start before.
    rounds: How often.
    platform: Where JAX computes, as JAX_PLATFORMS says it.
    note: Told where the measurement is.

  Raises:
    RuntimeError: If the command ends before its first step.
  """
  starts: dict[Cache, list[Start]] = {cache: [] for cache in caches}
  with tempfile.TemporaryDirectory() as folder:
    warm = pathlib.Path(folder) / "warm"
    if Cache.WARM in caches:
      note("filling the cache")
      _start(command, warm, platform)
    for index in range(rounds):
      for cache in caches if index % 2 == 0 else reversed(caches):
        note(f"round {index + 1} of {rounds}, cache: {cache.value}")
        cold = pathlib.Path(folder) / f"cold_{index}"
        place = {Cache.NONE: None, Cache.COLD: cold, Cache.WARM: warm}[cache]
        starts[cache].append(_start(command, place, platform))
  return starts


def markdown(starts: Mapping[Cache, Sequence[Start]]) -> str:
  """Returns a table of seconds: parts down, caches across."""

  def seconds(part, cache):
    return [start.parts.get(part, 0.0) for start in starts[cache]]

  def beside(part, cache):
    return [start.beside.get(part, 0.0) for start in starts[cache]]

  names = {part for each in starts.values() for s in each for part in s.beside}
  others = {f"beside it: {part}": part for part in PARTS if part in names}

  def cell(row, cache):
    if row == TOTAL:
      return total(starts[cache])
    values = (
      beside(others[row], cache) if row in others else seconds(row, cache)
    )
    return Spread.over(values)

  return summary.table(
    [*PARTS, REST, TOTAL, *others],
    {
      f"seconds, cache: {cache.value}": (
        lambda row, cache=cache: cell(row, cache).text(2)
      )
      for cache in starts
    },
  )


def total(starts: Sequence[Start]) -> Spread:
  """Returns seconds from the command until its first step was done."""
  return Spread.over([start.total for start in starts])


def as_json(starts: Mapping[Cache, Sequence[Start]]) -> dict[str, Any]:
  """Returns every start."""
  return {
    cache.value: [dataclasses.asdict(start) for start in each]
    for cache, each in starts.items()
  }


def from_json(kept: Mapping[str, Any]) -> dict[Cache, list[Start]]:
  """Returns what `as_json` has written."""
  return {
    Cache(cache): [Start(**start) for start in each]
    for cache, each in kept.items()
  }


def _start(
  command: Sequence[str], cache: pathlib.Path | None, platform: str
) -> Start:
  """Runs the command until its first step is done."""
  environment = _environment(cache) | {"JAX_PLATFORMS": platform}
  with tempfile.TemporaryDirectory() as folder:
    timeline = pathlib.Path(folder) / "timeline.json"
    model_dir = f"--gin.MODEL_DIR={folder + '/run'!r}"
    begin = time.monotonic()
    ended = subprocess.run(
      [sys.executable, "-m", _PROBE, str(timeline), *command, model_dir],
      cwd=_ROOT,
      env=environment,
      capture_output=True,
      text=True,
    )
    if not timeline.exists():
      raise RuntimeError(
        f"{shlex.join(command)} ended with status {ended.returncode} before "
        f"its first step was done:\n{ended.stderr[-2000:]}"
      )
    return read(json.loads(timeline.read_text()), begin=begin)


def _environment(cache: pathlib.Path | None) -> dict[str, str]:
  """Returns this process's, where runs keep programs in a folder, or none."""
  # Whoever measures may keep them elsewhere, or other ones.
  environment = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(("JAX_COMPILATION_", "JAX_PERSISTENT_CACHE_"))
  }
  if cache is None:
    return environment | {"JAX_ENABLE_COMPILATION_CACHE": "0"}
  return environment | {"XDG_CACHE_HOME": str(cache)}


def read(kept: Mapping[str, Any], *, begin: float) -> Start:
  """Returns what a timeline of the probe says.

  Args:
    kept: The timeline.
    begin: When the command was given, by the same clock.

  Raises:
    RuntimeError: If it tells nothing of a part.
  """
  spans = [Span(*span) for span in kept["spans"]]
  spans.append(Span(INTERPRETER, begin, kept["begin"]))
  labels = {span.label for span in spans} | UNNEEDED
  missing = [part for part in PARTS if part not in labels]
  if missing:
    raise RuntimeError(
      f"Nothing was noted of {', '.join(missing)}: the library does it by "
      "other names than benchmarks.startup_probe times; name them there."
    )
  parts = dict.fromkeys(UNNEEDED, 0.0)
  parts |= own_seconds(span for span in spans if span.thread == 0)
  beside: dict[str, float] = {}
  for thread in {span.thread for span in spans} - {0}:
    own = own_seconds(span for span in spans if span.thread == thread)
    beside |= {part: beside.get(part, 0.0) + own[part] for part in own}
  whole = kept["end"] - begin
  return Start(whole, parts | {REST: whole - sum(parts.values())}, beside)


def main(arguments: Sequence[str] | None = None) -> None:
  """Measures and prints."""
  parser = argparse.ArgumentParser(description=__doc__)
  names = [cache.value for cache in Cache]
  parser.add_argument(
    "--cache",
    action="append",
    choices=names,
    help="what JAX finds compiled; may be repeated, by default all",
  )
  parser.add_argument("--rounds", type=int, default=5, help="starts with each")
  parser.add_argument("--platform", default="cpu", help="where JAX computes")
  parser.add_argument("--output", help="where to write JSON, if at all")
  options = parser.parse_args(arguments)
  starts = measure(
    readme_command(),
    [Cache(name) for name in options.cache or names],
    rounds=options.rounds,
    platform=options.platform,
  )
  if options.output:
    text = json.dumps(as_json(starts), indent=2)
    pathlib.Path(options.output).write_text(text + "\n")
  print(markdown(starts))


if __name__ == "__main__":
  main()
