"""Several processes on this machine: together they start, and end."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
LAUNCH = """
import pathlib, sys
from launch import local, source
source.WORK = pathlib.Path(sys.argv[1])
sys.exit(local.TARGET.main(sys.argv[2:]))
"""
# Process i does what word i says.
MEMBER = """
import os, signal, sys, time
index = int(os.environ["JAX_PROCESS_ID"])
role = sys.argv[1 + index]
def save(number, frame):
  print("saved", flush=True)
  sys.exit(0)
signal.signal(
  signal.SIGTERM, signal.SIG_IGN if role == "deaf" else save
)
print("member", index, "of", os.environ["JAX_NUM_PROCESSES"], flush=True)
if role == "fails":
  sys.exit(5)
if role == "is_killed":
  os.kill(os.getpid(), signal.SIGKILL)
if role != "ends":
  time.sleep(60)
"""
JAX_MEMBER = """
import os
import jax
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(
  os.environ["JAX_COORDINATOR_ADDRESS"],
  int(os.environ["JAX_NUM_PROCESSES"]),
  int(os.environ["JAX_PROCESS_ID"]),
)
print(jax.local_device_count(), "of", jax.device_count(), flush=True)
"""


class Launcher:
  """`python -m launch.local`, with its files in a folder of the test."""

  def __init__(self, folder):
    self.folder = folder
    self.run_folder = folder / "work" / "pt" / "run"
    venv = folder / "venv" / "bin"
    venv.mkdir(parents=True)
    python = venv / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)

  def start(self, verb, *more, flags=()):
    launch = [sys.executable, "-c", LAUNCH, self.folder / "work"]
    flags = ["--name=pt", f"--venv={self.folder / 'venv'}", *flags]
    return subprocess.Popen(
      [*launch, verb, *flags, *more],
      cwd=ROOT,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )

  def start_members(self, *roles, flags=(), program=MEMBER):
    return self.start(
      "run",
      *("--", "python", "-c", program, *roles),
      flags=[f"--processes={len(roles)}", *flags],
    )

  def call(self, verb, *more, flags=()):
    process = self.start(verb, *more, flags=flags)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err

  def log(self):
    path = self.run_folder / "log.txt"
    return path.read_text() if path.exists() else ""


@pytest.fixture
def launcher(tmp_path):
  return Launcher(tmp_path)


def finish(process):
  out, err = process.communicate(timeout=60)
  return process.returncode, out, err


def until(is_so, seconds=30.0):
  end = time.monotonic() + seconds
  while not is_so():
    assert time.monotonic() < end
    time.sleep(0.02)


def test_processes_are_told_who_they_are_and_logged_apart(launcher):
  code, out, _ = finish(launcher.start_members("ends", "ends", "ends"))
  assert code == 0
  expected = [f"[{i}] member {i} of 3" for i in range(3)]
  assert sorted(out.splitlines()) == expected
  assert launcher.log() == out
  for index in range(3):
    path = launcher.run_folder / f"process_{index}.log"
    assert path.read_text() == f"member {index} of 3\n"


@pytest.mark.parametrize(("role", "code"), [("fails", 5), ("is_killed", 137)])
def test_a_lost_process_ends_the_others(launcher, role, code):
  result, out, _ = finish(launcher.start_members("waits", role, "waits"))
  assert result == code
  assert f"process 1 ended with exit code {code}" in out
  # Perhaps before they could say who they are.
  assert len(out.splitlines()) <= 6
  watched, log, _ = launcher.call("watch")
  assert (watched, log) == (code, out)


def test_a_process_that_ends_well_leaves_the_others_alone(launcher):
  process = launcher.start_members("ends", "waits")
  until(lambda: "member 0" in launcher.log() and "member 1" in launcher.log())
  time.sleep(0.5)
  assert process.poll() is None
  process.send_signal(signal.SIGTERM)
  assert finish(process)[0] == 143


@pytest.mark.parametrize(
  ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_interrupted_all_may_save(launcher, number, code):
  process = launcher.start_members("waits", "waits")
  until(lambda: launcher.log().count("member") == 2)
  process.send_signal(number)
  result, out, _ = finish(process)
  assert result == code
  assert out.count("saved") == 2


def test_a_second_signal_does_not_wait(launcher):
  process = launcher.start_members("deaf", "waits")
  until(lambda: launcher.log().count("member") == 2)
  process.send_signal(signal.SIGINT)
  until(lambda: "saved" in launcher.log())
  assert process.poll() is None
  process.send_signal(signal.SIGINT)
  result, out, _ = finish(process)
  assert result == 130
  assert "process 0 is killed" in out


def test_those_that_do_not_end_are_killed(launcher):
  process = launcher.start_members("deaf", "waits", flags=["--grace=0.2"])
  until(lambda: launcher.log().count("member") == 2)
  process.send_signal(signal.SIGTERM)
  result, out, _ = finish(process)
  assert result == 143
  assert "process 0 is killed" in out


def test_it_is_watched_and_stopped_from_elsewhere(launcher):
  process = launcher.start_members("waits", "waits")
  until(lambda: launcher.log().count("member") == 2)
  again = finish(launcher.start_members("ends"))
  assert again[0] == 1
  assert "A run is going on" in again[2]
  assert launcher.call("stop", flags=["--grace=20"])[0] == 0
  code, out, _ = finish(process)
  assert code == 143
  assert out.count("saved") == 2


def test_a_program_that_is_missing_is_named(launcher):
  code, _, err = finish(launcher.start("run", "--", "no_such_program"))
  assert code == 127
  assert "No such file" in err or "no_such_program" in err


def test_a_dry_run_prints_the_processes_as_they_are_started(launcher):
  run = ["--", "python", "train.py", "a b"]
  flags = ["--port=12345", "--devices_per_process=2"]
  _, printed, _ = launcher.call("run", *run, flags=[*flags, "--dry_run"])
  _, _, shown = launcher.call("run", *run, flags=flags)
  commands = [line[2:] for line in shown.splitlines() if line[:2] == "+ "]
  assert commands == printed.splitlines()
  assert len(commands) == 2
  assert commands[1].endswith(
    f"JAX_PROCESS_ID=1 {launcher.folder}/venv/bin/python train.py 'a b'"
  )


@pytest.mark.slow
@pytest.mark.multidevice
def test_jax_finds_the_devices_of_all_processes(launcher):
  process = launcher.start_members(
    "a", "b", flags=["--devices_per_process=3"], program=JAX_MEMBER
  )
  code, out, _ = finish(process)
  assert code == 0
  assert out.count("3 of 6") == 2


@pytest.fixture(autouse=True)
def _no_coordinator(monkeypatch):
  """The launcher alone says who belongs together."""
  for name in [name for name in os.environ if name.startswith("JAX_COORD")]:
    monkeypatch.delenv(name)
