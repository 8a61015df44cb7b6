"""A run of a real (tiny) T5, killed at random and resumed.

Every run is a process of its own: SIGKILL leaves it no chance to tidy up.
"""

import json
import os
import random
import signal
import subprocess
import sys

import numpy as np
import pytest

from prompt_tuning.train import checkpoint_files as files

STEPS = 12
# Saves are at 0 (first evaluation), 4, 5, 8, 10 and 12; see `ToyRun`.
_SEED = 20211108
_RANDOM = random.Random(_SEED)


@pytest.fixture(scope="module")
def toy_run(tmp_path_factory):
  """Runs the toy task in a process; compiles each program only once."""
  cache = tmp_path_factory.mktemp("compiled")
  environment = {
    "JAX_COMPILATION_CACHE_DIR": str(cache),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    **os.environ,
    "JAX_PLATFORMS": "cpu",
  }
  module = [sys.executable, "-m", "prompt_tuning.testing.toy_run"]

  def run(model_dir, *flags):
    command = [*module, f"--model_dir={model_dir}", f"--steps={STEPS}", *flags]
    return subprocess.run(
      command, env=environment, capture_output=True, text=True, check=False
    )

  return run


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, toy_run):
  model_dir = tmp_path_factory.mktemp("uninterrupted")
  done = toy_run(model_dir)
  assert done.returncode == 0, done.stderr[-3000:]
  return model_dir


def _lines(model_dir):
  """All metrics but those that measure time."""
  text = (model_dir / "metrics.jsonl").read_text()
  return [
    {k: v for k, v in json.loads(line).items() if "timing/" not in k}
    for line in text.splitlines()
  ]


def _assert_same_run(model_dir, reference):
  step = files.latest_step(reference)
  assert files.latest_step(model_dir) == step == STEPS
  ours = files.load_trainable(model_dir, step=step)["prompt"]["embedding"]
  theirs = files.load_trainable(reference, step=step)["prompt"]["embedding"]
  assert ours.tobytes() == theirs.tobytes()
  described = [files.read_meta(d, step) for d in (model_dir, reference)]
  # Checksums of optimizer state, position in the data, best evaluation.
  assert described[0] == described[1]
  assert _lines(model_dir) == _lines(reference)
  for name in sorted(p.name for p in (reference / "prompts").iterdir()):
    ours, theirs = (d / "prompts" / name for d in (model_dir, reference))
    assert ours.read_bytes() == theirs.read_bytes(), name


def _kill_and_resume(toy_run, model_dir, *flags):
  done = toy_run(model_dir, "--signal=SIGKILL", *flags)
  assert done.returncode == -signal.SIGKILL, done.stderr[-3000:]
  done = toy_run(model_dir)
  assert done.returncode == 0, done.stderr[-3000:]
  assert f"finished at step {STEPS}" in done.stdout


def test_the_run_learns(uninterrupted):
  # Otherwise an equal result would show little.
  losses = [x["loss"] for x in _lines(uninterrupted) if x["scope"] == "train"]
  assert np.isfinite(losses).all()
  start, end = (
    np.load(uninterrupted / "prompts" / f"prompt_{step}.npy")
    for step in (0, STEPS)
  )
  assert not np.isclose(start, end).any()


@pytest.mark.slow
def test_killed_before_anything_was_saved(toy_run, uninterrupted, tmp_path):
  _kill_and_resume(toy_run, tmp_path, "--signal_at=0")
  _assert_same_run(tmp_path, uninterrupted)


@pytest.mark.slow
@pytest.mark.parametrize("at", sorted(_RANDOM.sample(range(1, STEPS), 1)))
def test_killed_at_a_random_step(toy_run, uninterrupted, tmp_path, at):
  _kill_and_resume(toy_run, tmp_path, f"--signal_at={at}")
  _assert_same_run(tmp_path, uninterrupted)


@pytest.mark.slow
@pytest.mark.parametrize("at", range(1, STEPS))
def test_killed_at_any_step(toy_run, uninterrupted, tmp_path, at):
  _kill_and_resume(toy_run, tmp_path, f"--signal_at={at}")
  _assert_same_run(tmp_path, uninterrupted)


@pytest.mark.slow
@pytest.mark.parametrize("milliseconds", [20])
def test_killed_while_saving(toy_run, uninterrupted, tmp_path, milliseconds):
  _kill_and_resume(
    toy_run,
    tmp_path,
    "--signal_at_save=8",
    f"--signal_delay_ms={milliseconds}",
  )
  _assert_same_run(tmp_path, uninterrupted)


@pytest.mark.slow
@pytest.mark.parametrize("milliseconds", range(0, 80, 10))
def test_killed_at_any_moment_of_a_save(
  toy_run, uninterrupted, tmp_path, milliseconds
):
  _kill_and_resume(
    toy_run,
    tmp_path,
    "--signal_at_save=8",
    f"--signal_delay_ms={milliseconds}",
  )
  _assert_same_run(tmp_path, uninterrupted)


@pytest.mark.slow
def test_killed_twice(toy_run, uninterrupted, tmp_path):
  done = toy_run(tmp_path, "--signal=SIGKILL", "--signal_at=5")
  assert done.returncode == -signal.SIGKILL
  _kill_and_resume(toy_run, tmp_path, "--signal_at=7")
  _assert_same_run(tmp_path, uninterrupted)


def test_another_run_is_refused_and_left_alone(toy_run, uninterrupted):
  before = sorted((p, p.stat().st_mtime_ns) for p in uninterrupted.rglob("*"))
  done = toy_run(uninterrupted, "--learning_rate=0.01")
  assert done.returncode != 0
  assert "holds checkpoint_12 of another run" in done.stderr
  assert "learning_rate: 0.1 -> 0.01" in done.stderr
  after = sorted((p, p.stat().st_mtime_ns) for p in uninterrupted.rglob("*"))
  assert after == before
