"""A system in a process of its own, seen from the process that measures."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from benchmarks import variants
from benchmarks.jobs import Job
from benchmarks.systems import Entry

_ROOT = pathlib.Path(__file__).resolve().parents[1]

WORKER = ["-m", "benchmarks.worker"]
"""What Python is to run in the process of a system."""
# What is installed there comes first: its packages may be called as ours are.
_WORKER_ELSEWHERE = [
  "-P",
  "-c",
  "import sys; sys.path.append(sys.argv[1]); "
  "from benchmarks import worker; worker.main()",
  str(_ROOT),
]


@dataclasses.dataclass(frozen=True)
class Turn:
  """What some steps took.

  Attributes:
    seconds: By the clock.
    busy_seconds: Of processor time, all cores together. Where it is less than
      a system usually has in as many seconds, others have used the cores.
  """

  seconds: float
  busy_seconds: float


class Remote:
  """Starts a worker and asks it; ends it on leaving the `with` block.

  Attributes:
    name: The system's.
    build_seconds: What importing it and building its model took.
    start_seconds: What compiling and a first step of every shape took.
  """

  def __init__(self, name: str, job: Job, *, platform: str = "cpu"):
    """Returns when the worker is ready, asleep.

    Args:
      name: The system's, see `benchmarks.variants`.
      job: What it does, but for its own settings.
      platform: Where it computes, as JAX_PLATFORMS says it.

    Raises:
      RuntimeError: If it ends; why, it has written to the error stream.
      ValueError: If there is no such system, it does no such job, or the
        interpreter that it needs is not named.
    """
    self.name = name
    variant = variants.find(name)
    own_job = variant.job(job).to_json()
    self._process = subprocess.Popen(
      _command(variant.entry),
      cwd=_ROOT,
      env=_environment(platform),
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
    )
    try:
      built = self._ask(do="build", system=variant.system, job=own_job)
      started = self._ask(do="start")
    except BaseException:
      self.close()
      raise
    self.build_seconds: float = built["seconds"]
    self.start_seconds: float = started["seconds"]

  def run(self, num_steps: int) -> Turn:
    """Takes the next steps; returns what they took together."""
    return Turn(**self._ask(do="run", steps=num_steps))

  def report(self) -> Mapping[str, Any]:
    """Returns the most memory, in bytes, and the system's own facts."""
    return self._ask(do="report")

  def close(self) -> None:
    """Ends the worker."""
    self._process.kill()
    self._process.communicate()

  def __enter__(self) -> "Remote":
    """Returns itself."""
    return self

  def __exit__(
    self,
    kind: type[BaseException] | None,
    value: BaseException | None,
    traceback: TracebackType | None,
  ) -> None:
    """Ends the worker."""
    self.close()

  def _ask(self, **request: Any) -> Mapping[str, Any]:
    assert self._process.stdin is not None
    assert self._process.stdout is not None
    try:
      self._process.stdin.write(json.dumps(request) + "\n")
      self._process.stdin.flush()
    except BrokenPipeError:
      pass  # It has ended, as its missing answer tells.
    answer = self._process.stdout.readline()
    if not answer:
      status = self._process.wait()
      raise RuntimeError(
        f"The process of {self.name!r} ended with status {status} when asked "
        f"to {request['do']}; see what it has written above."
      )
    return json.loads(answer)


def _command(entry: Entry) -> list[str]:
  """Returns what starts the worker of a system."""
  if not entry.interpreter:
    return [sys.executable, *WORKER]
  python = os.environ.get(entry.interpreter)
  if not python:
    raise ValueError(
      f"{entry.module} runs in an environment of its own: name its Python in "
      f"the variable {entry.interpreter} (docs/performance.md says what it "
      "needs)."
    )
  return [python, *_WORKER_ELSEWHERE]


def _environment(platform: str) -> dict[str, str]:
  """Returns this process's environment, without a cache of compilations."""
  environment = dict(os.environ)
  environment["JAX_PLATFORMS"] = platform
  # Several systems have their weights on one device at a time.
  environment["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
  # Compiling is measured.
  environment.pop("JAX_COMPILATION_CACHE_DIR", None)
  # Nothing is to be looked up in the network.
  environment["HF_HUB_OFFLINE"] = "1"
  return environment
