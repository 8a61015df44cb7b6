"""Runs the jobs of an experiment, and goes on where it was interrupted."""

import contextlib
import dataclasses
import fcntl
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence

from absl import logging

from prompt_tuning import paths
from prompt_tuning.config.errors import ConfigError
from prompt_tuning.sweeps.jobs import DONE, Job
from prompt_tuning.sweeps.results import has_ended

LOG = "log.txt"
_LOCK = "lock"
_TAIL_LINES = 5


@dataclasses.dataclass(frozen=True)
class Outcome:
  """How the jobs ended.

  Attributes:
    skipped: Names of those that were done before.
    done: Names of those that are done now.
    failed: Names of those that broke off.
  """

  skipped: Sequence[str]
  done: Sequence[str]
  failed: Sequence[str]


@contextlib.contextmanager
def alone(folder: paths.PathLike) -> Iterator[None]:
  """Lets one sweep at a time into a folder; a killed one keeps nobody out.

  Raises:
    ConfigError: Another sweep runs there.
  """
  with (paths.make_writable_dir(folder) / _LOCK).open("a") as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
      raise ConfigError(
        f"Another sweep runs in {folder}; wait for it, or name another "
        "--sweep_dir."
      ) from error
    yield


def is_done(folder: paths.PathLike, job: Job) -> bool:
  """Returns whether a job was run to its end.

  Raises:
    ConfigError: It was, with another command.
  """
  path = paths.as_path(folder) / job.name / DONE
  if not paths.exists(path):
    return False
  kept = json.loads(paths.read_text(path))["command"]
  if kept != job.text:
    raise ConfigError(
      f"{path} was made by another command,\n{kept}\nand this would be\n"
      f"{job.text}\nName another --sweep_dir, or remove the folder."
    )
  return True


def run(
  folder: paths.PathLike,
  jobs: Sequence[Job],
  *,
  start: Callable[[Sequence[str], paths.PathLike], int] | None = None,
) -> Outcome:
  """Runs what is not done yet, one job after the other.

  A job that breaks off leaves the others alone. The command of a job that was
  interrupted is given again: its runs go on where they were.

  Args:
    folder: The experiment's, local.
    jobs: Its jobs.
    start: Runs what follows `python -m`, writing to a log file; returns the
      exit status. By default in a process of its own.

  Raises:
    ConfigError: A job was done by another command.
  """
  start = _process if start is None else start
  skipped = [job.name for job in jobs if is_done(folder, job)]
  waiting = [job for job in jobs if job.name not in skipped]
  done: list[str] = []
  failed: list[str] = []
  for number, job in enumerate(waiting, start=1):
    logging.info(
      "Job %d of %d, %s: %d runs", number, len(waiting), job.name, len(job.runs)
    )
    place = paths.make_writable_dir(paths.as_path(folder) / job.name)
    begin = time.monotonic()
    statuses = [start(command, place / LOG) for command in job.commands]
    seconds = time.monotonic() - begin
    not_ended = [run for run in job.runs if not has_ended(folder, run)]
    if any(statuses) or not_ended:
      failed.append(job.name)
      logging.error(
        "%s broke off after %.0f s, with %d of %d runs; %s ends with\n%s",
        *(job.name, seconds, len(job.runs) - len(not_ended), len(job.runs)),
        *(place / LOG, _tail(place / LOG)),
      )
      continue
    content = {"command": job.text, "seconds": round(seconds, 1)}
    paths.write_text(place / DONE, json.dumps(content, indent=2) + "\n")
    done.append(job.name)
    logging.info("%s: done after %.0f s", job.name, seconds)
  return Outcome(skipped, done, failed)


def _process(command: Sequence[str], log: paths.PathLike) -> int:
  with open(log, "ab") as file:
    process = subprocess.Popen(
      [sys.executable, "-m", *command],
      stdout=file,
      stderr=subprocess.STDOUT,
      # A second signal would end it unsaved: it gets none but ours.
      start_new_session=True,
    )
    try:
      return process.wait()
    except BaseException:
      # Whoever ends the sweep ends the job, which saves where it stands.
      process.terminate()
      process.wait()
      raise


def _tail(log: paths.PathLike) -> str:
  if not paths.exists(log):
    return "(nothing)"
  return "\n".join(paths.read_text(log).splitlines()[-_TAIL_LINES:])
