"""Processes that belong together: when one is lost, the others end too."""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import IO

from launch.command import Command, LaunchError, exit_code, show

_POLL = 0.05


def run_together(
  commands: Sequence[Command], *, folder: pathlib.Path, grace: float
) -> int:
  """Starts commands at once and waits for all of them.

  What process i writes goes to `process_<i>.log`, and with `[i]` in front of
  each line to `log.txt` and to stdout. Interrupted, or told to end, or left by
  one process, it sends SIGTERM to those that run, once, so that they save their
  checkpoint; those that stay after `grace`, or at a second signal, are killed.

  Args:
    commands: One a process.
    folder: Where the logs go.
    grace: Seconds.

  Returns:
    0 if all have ended well; 128 + n when ended by signal n; else the exit code
    of the first process that was lost.

  Raises:
    LaunchError: A command could not be started.
  """
  signals: list[int] = []
  with (folder / "log.txt").open("ab") as log, _noted(signals):
    say = _Console(log)
    processes = _start(commands, folder, say)
    try:
      return _wait(processes, signals, grace, say)
    finally:
      for process in processes:
        process.finish()


class _Console:
  """Writes whole lines to the common log and to stdout."""

  def __init__(self, log: IO[bytes]):
    self._log = log
    self._lock = threading.Lock()

  def __call__(self, line: bytes) -> None:
    with self._lock:
      for file in (self._log, sys.stdout.buffer):
        file.write(line)
        file.flush()


class _Process:
  """One process, alone in its session, and the thread that reads it."""

  def __init__(
    self, index: int, step: Command, folder: pathlib.Path, say: _Console
  ):
    self.index = index
    # In a session of its own: Ctrl-C would otherwise reach it from the terminal
    # and again from here, and the second signal ends a run without saving.
    self._process = subprocess.Popen(
      step.argv,
      stdin=subprocess.DEVNULL,
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      start_new_session=True,
    )
    self._reader = threading.Thread(
      target=self._copy, args=(folder / f"process_{index}.log", say)
    )
    self._reader.daemon = True
    self._reader.start()

  def _copy(self, log: pathlib.Path, say: _Console) -> None:
    assert self._process.stdout
    with log.open("wb") as file:
      for line in self._process.stdout:
        file.write(line)
        file.flush()
        end = b"" if line.endswith(b"\n") else b"\n"
        say(f"[{self.index}] ".encode() + line + end)

  def code(self) -> int | None:
    """The exit code, or None while it runs."""
    returncode = self._process.poll()
    return None if returncode is None else exit_code(returncode)

  def signal(self, number: int) -> None:
    """Signals it and its children."""
    with contextlib.suppress(ProcessLookupError):
      os.killpg(self._process.pid, number)

  def finish(self) -> None:
    """Ends what is left of it and waits for its last lines."""
    self.signal(signal.SIGKILL)
    self._process.wait()
    self._reader.join()


def _start(
  commands: Sequence[Command], folder: pathlib.Path, say: _Console
) -> list[_Process]:
  processes = []
  for index, step in enumerate(commands):
    show(step)
    try:
      processes.append(_Process(index, step, folder, say))
    except OSError as error:
      for process in processes:
        process.finish()
      raise LaunchError(
        f"{step.argv[0]}: {error.strerror}; needed for:\n  {step}", code=127
      ) from None
  return processes


def _wait(
  processes: list[_Process], signals: list[int], grace: float, say: _Console
) -> int:
  result, deadline, seen = 0, 0.0, 0
  while running := [p for p in processes if p.code() is None]:
    if not result:
      result, why = _verdict(processes, signals)
      if result:
        say(f"{why}: {len(running)} to end, {grace:g} s to save\n".encode())
        deadline, seen = time.monotonic() + grace, len(signals)
        for process in running:
          process.signal(signal.SIGTERM)
    elif time.monotonic() > deadline or len(signals) > seen:
      for process in running:
        say(f"process {process.index} is killed\n".encode())
        process.signal(signal.SIGKILL)
      deadline, seen = float("inf"), len(signals)
    time.sleep(_POLL)
  if not result:
    result, why = _verdict(processes, signals)
    if result:
      say(f"{why}\n".encode())
  return result


def _verdict(processes: list[_Process], signals: list[int]) -> tuple[int, str]:
  """Returns the exit code and its reason, or 0 while all is well."""
  for process in processes:
    if code := process.code():
      return code, f"process {process.index} ended with exit code {code}"
  if signals:
    return 128 + signals[0], f"{signal.Signals(signals[0]).name} came"
  return 0, ""


@contextlib.contextmanager
def _noted(signals: list[int]) -> Iterator[None]:
  """Appends what would end this program to a list instead."""
  numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
  before = {n: signal.getsignal(n) for n in numbers}
  for number in numbers:
    signal.signal(number, lambda n, _: signals.append(n))
  try:
    yield
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)
