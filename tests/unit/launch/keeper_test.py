import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from launch import keeper

KEEPER = [sys.executable, keeper.__file__]
# Says "saved" when it is asked to end; otherwise ends when it may.
PROGRAM = """
import os, pathlib, signal, sys, time
def save(number, frame):
  print("saved", flush=True)
  sys.exit(0)
signal.signal(signal.SIGTERM, save)
print("started", flush=True)
while not pathlib.Path("go").exists():
  time.sleep(0.02)
print("done", flush=True)
sys.exit(int(sys.argv[1]))
"""


def until(is_so, seconds=20.0):
  end = time.monotonic() + seconds
  while not is_so():
    assert time.monotonic() < end
    time.sleep(0.02)


def log(folder):
  path = folder / "log.txt"
  return path.read_text() if path.exists() else ""


def pid_of(folder):
  pid = keeper.read(folder, "pid")
  assert pid
  return pid


def keeper_program(*argv):
  return subprocess.run([*KEEPER, *argv], capture_output=True, text=True)


def start(folder, *argv):
  result = keeper_program("start", folder, "--", *argv)
  assert result.returncode == 0, result.stderr


@pytest.fixture
def run(tmp_path, monkeypatch):
  """A run that was started and is ended by the test, or after it."""
  monkeypatch.chdir(tmp_path)
  folder = tmp_path / "run"

  def started(exit_code=0):
    start(folder, sys.executable, "-c", PROGRAM, str(exit_code))
    until(lambda: "started" in log(folder))
    return folder

  yield started
  pathlib.Path("go").touch()
  until(lambda: not keeper.is_kept(folder))


def test_following_prints_the_log_and_exits_as_the_run_does(run, tmp_path):
  folder = run(exit_code=7)
  assert keeper.is_kept(folder)
  follower = subprocess.Popen(
    [*KEEPER, "follow", folder],
    stdout=subprocess.PIPE,
    text=True,
  )
  (tmp_path / "go").touch()
  assert follower.communicate(timeout=20)[0] == "started\ndone\n"
  assert follower.returncode == 7
  assert not keeper.is_kept(folder)


@pytest.fixture
def hangups_end():
  """As of a terminal's children; those of `nohup` ignore hangups."""
  before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
  yield
  signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("hangups_end")
def test_a_run_outlives_whoever_started_and_follows_it(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  folder = tmp_path / "run"
  shell = subprocess.Popen(
    [*KEEPER, "start", folder, "--", sys.executable, "-c", PROGRAM, "0"],
    start_new_session=True,
  )
  assert shell.wait(20) == 0
  until(lambda: "started" in log(folder))
  # As a terminal does that goes away.
  follower = subprocess.Popen(
    [*KEEPER, "follow", folder],
    stdout=subprocess.DEVNULL,
    start_new_session=True,
  )
  os.killpg(follower.pid, signal.SIGHUP)
  follower.wait(20)
  assert keeper.is_kept(folder)
  (tmp_path / "go").touch()
  until(lambda: not keeper.is_kept(folder))
  assert keeper.read(folder, "exit_code") == 0


def test_one_run_at_a_time(run):
  folder = run()
  result = keeper_program("start", folder, "--", "true")
  assert result.returncode == 1
  assert f"A run is going on in {folder}: stop it first" in result.stderr
  assert log(folder) == "started\n"


def test_stopping_lets_the_run_save(run):
  folder = run()
  keeper.stop(folder, grace=20.0)
  assert log(folder) == "started\nsaved\n"
  assert keeper.read(folder, "exit_code") == 0
  assert not keeper.is_kept(folder)


def test_stopping_reaches_the_children_of_a_shell(run, tmp_path):
  script = f"{sys.executable} -c '{PROGRAM}' 0; exit 5"
  folder = tmp_path / "run"
  start(folder, "sh", "-c", script)
  until(lambda: "started" in log(folder))
  keeper.stop(folder, grace=20.0)
  assert "saved" in log(folder)


def test_a_run_that_does_not_stop_is_left_alone(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  folder = tmp_path / "run"
  deaf = "trap '' TERM; echo started; while [ ! -e go ]; do sleep 0.02; done"
  start(folder, "sh", "-c", deaf)
  until(lambda: "started" in log(folder))
  with pytest.raises(RuntimeError, match=r"not ended 0.3 seconds after SIGT"):
    keeper.stop(folder, grace=0.3)
  assert keeper.is_kept(folder)
  pathlib.Path("go").touch()
  until(lambda: not keeper.is_kept(folder))


def test_stopping_nothing_says_so(tmp_path):
  result = keeper_program("stop", str(tmp_path))
  assert (result.returncode, result.stdout) == (
    0,
    f"no run is going on in {tmp_path}\n",
  )


def test_a_run_that_went_with_its_machine_is_reported(run, tmp_path):
  folder = run()
  pid = pid_of(folder)
  parent = int(pathlib.Path(f"/proc/{pid}/stat").read_text().split()[3])
  os.kill(parent, signal.SIGKILL)
  os.kill(pid, signal.SIGKILL)
  result = keeper_program("follow", str(folder))
  assert result.returncode == 1
  assert "gone and left no exit code" in result.stderr
  assert "resumes from its MODEL_DIR" in result.stderr
  # And nothing is in the way of another.
  start(folder, "true")
  until(lambda: keeper.read(folder, "exit_code") == 0)


def test_following_what_was_never_started(tmp_path):
  result = keeper_program("follow", str(tmp_path))
  assert result.returncode == 1
  assert "No run was started" in result.stderr


def test_the_log_of_the_run_before_is_kept(tmp_path):
  for word in ("one", "two"):
    start(tmp_path, "echo", word)
    until(lambda: keeper.read(tmp_path, "exit_code") == 0)
    until(lambda: not keeper.is_kept(tmp_path))
  assert log(tmp_path) == "two\n"
  assert (tmp_path / "log.previous.txt").read_text() == "one\n"


def test_a_program_that_is_missing_ends_the_run(tmp_path):
  start(tmp_path, "no_such_program")
  until(lambda: keeper.read(tmp_path, "exit_code") == 127)
  assert "no_such_program: No such file" in log(tmp_path)


def test_a_signal_is_reported_as_a_shell_does(run):
  folder = run()
  os.kill(pid_of(folder), signal.SIGKILL)
  until(lambda: keeper.read(folder, "exit_code") == 137)
