"""Keeps a run alive on a machine after the connection to it is gone.

  python keeper.py start FOLDER -- COMMAND ...   in the background
  python keeper.py follow FOLDER                 its log; exits as it does
  python keeper.py stop FOLDER                   SIGTERM, and waits for its end

FOLDER holds `log.txt` (and `log.previous.txt`), `pid`, `exit_code` once the run
has ended, and `lock`. The lock is held as long as somebody looks after the run:
unlike a process id it cannot outlive a crash or belong to somebody else.

This file is copied to other machines alone, so it imports nothing of ours.
"""

import argparse
import contextlib
import fcntl
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence

_LOG, _PID, _EXIT_CODE = "log.txt", "pid", "exit_code"


def begin(folder: pathlib.Path) -> int:
  """Takes the lock and clears what an earlier run left.

  Returns:
    The file descriptor that holds the lock while any process has it open.

  Raises:
    RuntimeError: A run is going on.
  """
  folder.mkdir(parents=True, exist_ok=True)
  lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
  if not _take(lock):
    os.close(lock)
    raise RuntimeError(f"A run is going on in {folder}: stop it first.")
  (folder / _PID).unlink(missing_ok=True)
  (folder / _EXIT_CODE).unlink(missing_ok=True)
  if (folder / _LOG).exists():
    (folder / _LOG).replace(folder / "log.previous.txt")
  (folder / _LOG).touch()
  return lock


def _take(lock: int) -> bool:
  # Those who only ask whether it is held, hold it for a moment.
  for _ in range(20):
    with contextlib.suppress(BlockingIOError):
      fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
      return True
    time.sleep(0.02)
  return False


def is_kept(folder: pathlib.Path) -> bool:
  """Whether somebody looks after a run."""
  try:
    lock = os.open(folder / "lock", os.O_RDWR)
  except FileNotFoundError:
    return False
  try:
    fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
  except BlockingIOError:
    return True
  finally:
    os.close(lock)
  return False


def write(folder: pathlib.Path, name: str, value: int) -> None:
  """Writes `pid` or `exit_code`, whole or not at all."""
  part = folder / f"{name}.part"
  part.write_text(f"{value}\n")
  part.replace(folder / name)


def read(folder: pathlib.Path, name: str) -> int | None:
  """Reads `pid` or `exit_code`; None where it is not written yet."""
  try:
    return int((folder / name).read_text())
  except FileNotFoundError:
    return None


@contextlib.contextmanager
def held(folder: pathlib.Path) -> Iterator[Callable[[int], None]]:
  """Looks after a run from inside this process.

  Gives the function that notes the exit code.
  """
  lock = begin(folder)
  try:
    write(folder, _PID, os.getpid())
    yield lambda code: write(folder, _EXIT_CODE, code)
  finally:
    os.close(lock)


def start(folder: pathlib.Path, argv: Sequence[str]) -> None:
  """Starts a command in the background; returns as soon as it is looked after.

  The command runs in the current folder.
  """
  lock = begin(folder)
  with (folder / _LOG).open("ab") as log:
    subprocess.Popen(
      [sys.executable, os.path.abspath(__file__), "keep", folder, "--", *argv],
      stdin=subprocess.DEVNULL,
      stdout=log,
      stderr=subprocess.STDOUT,
      pass_fds=[lock],
      start_new_session=True,
    )
  os.close(lock)


def keep(folder: pathlib.Path, argv: Sequence[str]) -> None:
  """Runs a command to its end and notes how it ended."""
  # A machine that shuts down asks every process to end: the run may save first,
  # and its exit code is still to be written. Handlers, unlike SIG_IGN, are not
  # handed on to the run.
  for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, lambda *_: None)
  try:
    run = subprocess.Popen(argv, start_new_session=True)
  except OSError as error:
    print(f"keeper: {argv[0]}: {error.strerror}", flush=True)
    write(folder, _EXIT_CODE, 127)
    return
  write(folder, _PID, run.pid)
  code = run.wait()
  write(folder, _EXIT_CODE, 128 - code if code < 0 else code)


def follow(
  folder: pathlib.Path,
  *,
  is_alive: Callable[[], bool],
  period: float = 0.5,
) -> int:
  """Prints the log of a run until it ends.

  Args:
    folder: Where the run writes.
    is_alive: Whether somebody looks after the run; its exit code is written
      before nobody does.
    period: Seconds between two looks.

  Returns:
    The run's exit code.

  Raises:
    RuntimeError: There is no run, or it was lost with those who kept it.
  """
  position, alive = 0, True
  while alive:
    # Asked before the log is read: what was written until then is in it.
    alive = is_alive()
    position = _print_from(folder / _LOG, position)
    if alive:
      time.sleep(period)
  if (code := read(folder, _EXIT_CODE)) is not None:
    return code
  if not (folder / _LOG).exists():
    raise RuntimeError(f"No run was started in {folder}.")
  raise RuntimeError(
    f"The run in {folder} is gone and left no exit code: it was cancelled, or "
    "its machine went away. Run it again; it resumes from its MODEL_DIR."
  )


def stop(folder: pathlib.Path, *, grace: float) -> None:
  """Asks a run to end, which lets it save a checkpoint, and waits.

  Args:
    folder: Where the run writes.
    grace: Seconds to wait for.

  Raises:
    RuntimeError: It is still running then. It is left alone: a second signal
      would end it without a checkpoint.
  """
  end = time.monotonic() + grace
  signalled = None
  while is_kept(folder):
    pid = read(folder, _PID)
    if pid and pid != signalled and read(folder, _EXIT_CODE) is None:
      signalled = pid
      _signal(pid)
    if time.monotonic() > end:
      raise RuntimeError(
        f"The run in {folder} (process {pid}) has not ended {grace:g} seconds "
        f"after SIGTERM. Wait, or end it without a checkpoint: kill -9 -{pid}"
      )
    time.sleep(0.1)
  if signalled:
    print(f"stopped; exit code {read(folder, _EXIT_CODE)}")
  else:
    print(f"no run is going on in {folder}")


def _signal(pid: int) -> None:
  with contextlib.suppress(ProcessLookupError):
    # The run may be a shell with children; they all belong to its group.
    if os.getpgid(pid) == pid:
      os.killpg(pid, signal.SIGTERM)
    else:
      os.kill(pid, signal.SIGTERM)


def _print_from(log: pathlib.Path, position: int) -> int:
  try:
    with log.open("rb") as file:
      file.seek(position)
      sys.stdout.buffer.write(file.read())
      sys.stdout.buffer.flush()
      return file.tell()
  except FileNotFoundError:
    return position


def main(argv: Sequence[str]) -> int:
  """Runs one verb."""
  argv = list(argv)
  at = argv.index("--") if "--" in argv else len(argv)
  parser = argparse.ArgumentParser(prog="keeper.py")
  parser.add_argument("verb", choices=("start", "keep", "follow", "stop"))
  parser.add_argument("folder", type=pathlib.Path)
  parser.add_argument("--grace", type=float, default=120.0)
  args = parser.parse_args(argv[:at])
  folder = args.folder
  try:
    if args.verb == "start":
      start(folder, argv[at + 1 :])
    elif args.verb == "keep":
      keep(folder, argv[at + 1 :])
    elif args.verb == "follow":
      return follow(folder, is_alive=lambda: is_kept(folder))
    else:
      stop(folder, grace=args.grace)
  except RuntimeError as error:
    print(f"keeper: {error}", file=sys.stderr)
    return 1
  except KeyboardInterrupt:
    return 130
  return 0


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
