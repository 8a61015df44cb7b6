"""The measuring programs, processes and all."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from benchmarks import sizes, systems
from benchmarks.flops import Mode
from benchmarks.jobs import Job
from benchmarks.remote import Remote

ROOT = pathlib.Path(__file__).resolve().parents[2]
TINY = [
  "--size=tiny",
  "--vocab_size=64",
  "--batch_size=2",
  "--inputs_length=6",
  "--targets_length=3",
  "--prompt_length=4",
  "--matrix_width=64",
]


def run(module, *arguments):
  environment = dict(os.environ)
  # One device, as a machine has that measures, and not those of the tests.
  environment.pop("XLA_FLAGS", None)
  return subprocess.run(
    [sys.executable, "-m", f"benchmarks.{module}", *arguments],
    cwd=ROOT,
    env=environment,
    capture_output=True,
    text=True,
  )


def test_other_systems_are_measured_without_jax():
  script = (
    "import sys; sys.modules['jax'] = None\n"
    "import benchmarks.worker, benchmarks.compare"
  )
  subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)


def test_what_a_worker_prints_is_no_answer(capfd, monkeypatch, tmp_path):
  # A library that talks while it is imported.
  system = tmp_path / "loud_system.py"
  system.write_text(
    "print('loud')\n"
    "class System:\n"
    "  def __init__(self, job): print('building')\n"
    "  def start(self): print('starting')\n"
    "  def run(self, num_steps): print('running', num_steps)\n"
    "  def facts(self): return {'pid': __import__('os').getpid()}\n"
  )
  monkeypatch.setattr(
    "benchmarks.remote.WORKER",
    [
      "-c",
      "from benchmarks import systems, worker\n"
      "from benchmarks.flops import Mode\n"
      "systems.SYSTEMS['loud'] = systems.Entry("
      "'loud_system', 'System', Mode.FULL)\n"
      "worker.main()",
    ],
  )
  monkeypatch.setitem(
    systems.SYSTEMS,
    "loud",
    systems.Entry("loud_system", "System", Mode.FULL),
  )
  monkeypatch.setenv("PYTHONPATH", str(tmp_path))
  job = Job(kind="train_step", sizes={"vocab_size": 8})
  with Remote("loud", job) as remote:
    turn = remote.run(3)
    report = remote.report()
  assert turn.seconds > 0
  assert report["facts"]["pid"] != os.getpid()
  assert "running 3" in capfd.readouterr().err
  assert not pathlib.Path(f"/proc/{report['facts']['pid']}").exists()


def test_a_worker_that_ends_is_named():
  job = Job(kind="train_step", sizes=sizes.read("tiny", vocab_size=64))
  with pytest.raises(
    RuntimeError, match=r"'ours:packed_length=3' ended with status 1 .*build"
  ):
    Remote("ours:packed_length=3", job)  # Rows too short for an example.


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["--systems=theirs"], "unknown system 'theirs'"),
    (["--systems=ours,ours"], "none twice"),
    (["--systems=ours", "--baseline=peft"], "--baseline=peft is none of ours"),
    (["--length_multiple=8"], "--length_multiple is read with --lengths_file"),
    (["--size=huge"], "unknown size 'huge'"),
    (["--systems=ours:batch_size=8"], "no setting 'batch_size'"),
    (["--job=many_prompts"], "ours does no many_prompts"),
  ],
)
def test_refuses_before_anything_is_started(arguments, message):
  result = run("compare", *arguments)
  assert result.returncode
  assert message in result.stderr + result.stdout
  assert "starting" not in result.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
  ("job", "one", "other"),
  [
    ("train_step", "ours:packed_length=16", "ours_model_tuning"),
    ("eval", "ours_prefix", "ours_model_tuning"),
    ("decode", "ours", "ours_model_tuning"),
    ("many_prompts", "ours_joint", "ours_in_turn"),
  ],
)
def test_measures_and_reports(job, one, other, tmp_path):
  output = tmp_path / "figures.json"
  result = run(
    "compare",
    *TINY,
    f"--job={job}",
    f"--systems={one},{other}",
    "--prompts=2",
    "--matrix=matrix_xla",
    "--rounds=2",
    "--steps=2",
    f"--output={output}",
  )
  assert result.returncode == 0, result.stderr
  for name in (one, other, "floor_"):
    assert f"| {name}" in result.stdout
  figures = json.loads(output.read_text())
  measured = figures["measurements"][one]
  assert len(measured["seconds"]) == 2
  assert (
    0 < measured["report"]["base_memory"] < measured["report"]["peak_memory"]
  )


@pytest.mark.slow
def test_the_start_of_a_run_is_taken_apart(tmp_path):
  output = tmp_path / "starts.json"
  result = run("startup", "--cache=none", "--rounds=1", f"--output={output}")
  assert result.returncode == 0, result.stderr
  (start,) = json.loads(output.read_text())["none"]
  assert sum(start["parts"].values()) == pytest.approx(start["total"])
  # What nobody has named is little.
  assert start["parts"]["the rest"] < 0.1 * start["total"]
