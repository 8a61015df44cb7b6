"""A job under Slurm, with stand-ins that run it on this machine."""

import os
import pathlib
import sys
import time

import pytest

from launch import slurm, source

# The script of a job runs in the background; its step notes who it is.
STAND_INS = {
  "sbatch": """
for word in "$@"; do
  case $word in
    --wrap=*) script=${word#--wrap=};;
    --output=*) output=${word#--output=};;
  esac
done
setsid sh -c "$script" >> "$output" 2>&1 &
echo $! > "$JOB/job"
echo 42
""",
  "srun": """
while case $1 in --*) true;; *) false;; esac; do shift; done
echo $$ > "$JOB/step"
exec "$@"
""",
  "squeue": """
grep -qs "^State:.[^Z]" /proc/$(cat "$JOB/job")/status && echo RUNNING
exit 0
""",
  # Without a signal the whole job goes; with one, its steps get it.
  "scancel": """
case "$*" in
  *--signal=TERM*) kill -TERM $(cat "$JOB/step");;
  *) kill -KILL -$(cat "$JOB/job");;
esac
""",
}
TRAIN = """
import pathlib, signal, sys, time
def save(number, frame):
  print("saved", flush=True)
  sys.exit(3)
signal.signal(signal.SIGTERM, save)
print("training", *sys.argv[2:], flush=True)
while not pathlib.Path(sys.argv[1], "go").exists():
  time.sleep(0.02)
"""


@pytest.fixture
def job(tmp_path, monkeypatch):
  """Where the job runs; it ends with the test."""
  binaries = tmp_path / "bin"
  binaries.mkdir()
  for name, script in STAND_INS.items():
    (binaries / name).write_text(f"#!/bin/sh\n{script}")
    (binaries / name).chmod(0o755)
  (tmp_path / "venv" / "bin").mkdir(parents=True)
  (tmp_path / "venv" / "bin" / "python").symlink_to(sys.executable)
  (tmp_path / "train.py").write_text(TRAIN)
  monkeypatch.setenv("PATH", f"{binaries}:{os.environ['PATH']}")
  monkeypatch.setenv("JOB", str(tmp_path))
  monkeypatch.setattr(source, "WORK", tmp_path / "work")
  monkeypatch.setattr(slurm, "POLL_SECONDS", 0.05)
  yield tmp_path
  (tmp_path / "go").touch()
  if (tmp_path / "job").exists():
    until(lambda: not is_running(tmp_path))


def pid_of(job):
  return int((job / "job").read_text())


def is_running(job):
  status = pathlib.Path(f"/proc/{pid_of(job)}/status")
  return status.exists() and "State:\tZ" not in status.read_text()


def until(is_so, seconds=20.0):
  end = time.monotonic() + seconds
  while not is_so():
    assert time.monotonic() < end
    time.sleep(0.02)


def launch(job, verb, *more):
  flags = ["--name=pt", "--accelerator=2", f"--venv={job / 'venv'}"]
  return slurm.TARGET.main([verb, *flags, *more])


def start(job):
  train = ["python", str(job / "train.py"), str(job), "a b"]
  assert launch(job, "run", "--", *train) == 0
  log = job / "work" / "pt" / "run" / "log.txt"
  until(lambda: log.exists() and "training" in log.read_text())


def test_a_job_is_watched_to_its_end(job, capfd):
  start(job)
  (job / "go").touch()
  capfd.readouterr()
  assert launch(job, "watch", "--dry_run") == 0
  asks = capfd.readouterr().out
  assert asks.startswith("squeue --me --name=pt ")
  assert launch(job, "watch") == 0
  out, err = capfd.readouterr()
  assert out == "training a b\n"
  assert err == f"+ {asks}"


def test_stopping_lets_the_job_save_and_its_exit_code_is_reported(job, capfd):
  start(job)
  assert launch(job, "stop") == 0
  assert launch(job, "watch") == 3
  assert "saved" in capfd.readouterr().out


def test_a_cancelled_job_is_reported_and_its_folder_removed(job, capfd):
  start(job)
  os.killpg(pid_of(job), 9)
  assert launch(job, "watch") == 1
  assert "gone and left no exit code" in capfd.readouterr().err


def test_deleting_cancels_and_removes(job):
  start(job)
  assert launch(job, "delete") == 0
  until(lambda: not is_running(job))
  assert not (job / "work" / "pt").exists()
