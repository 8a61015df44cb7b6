"""SIGTERM and SIGINT: the step is finished and saved; later the run goes on."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from prompt_tuning.train import checkpoint_files as files

STEPS = 12
_PATIENCE_SECONDS = 90


@pytest.fixture(scope="module")
def command(tmp_path_factory):
  cache = tmp_path_factory.mktemp("compiled")
  environment = {
    "JAX_COMPILATION_CACHE_DIR": str(cache),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    **os.environ,
    "JAX_PLATFORMS": "cpu",
  }

  def start(model_dir, *flags):
    module = [sys.executable, "-m", "prompt_tuning.testing.toy_run"]
    return subprocess.Popen(
      [*module, f"--model_dir={model_dir}", f"--steps={STEPS}", *flags],
      env=environment,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )

  return start


def _finish(process):
  out, err = process.communicate(timeout=_PATIENCE_SECONDS)
  assert process.returncode == 0, err[-3000:]
  return out, err


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, command):
  model_dir = tmp_path_factory.mktemp("uninterrupted")
  _finish(command(model_dir))
  return model_dir


def _wait_for(path, process):
  end = time.monotonic() + _PATIENCE_SECONDS
  while not path.exists():
    assert process.poll() is None, process.communicate()
    assert time.monotonic() < end, f"{path} did not appear"
    time.sleep(0.02)


def _lines(model_dir):
  text = (model_dir / "metrics.jsonl").read_text()
  return [
    {k: v for k, v in json.loads(line).items() if "timing/" not in k}
    for line in text.splitlines()
  ]


@pytest.mark.slow
@pytest.mark.parametrize(
  "number",
  [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)],
)
def test_a_signal_from_outside_saves_and_exits_cleanly(
  command, uninterrupted, tmp_path, number
):
  # Slow steps, so that the signal arrives in the middle of the run.
  process = command(tmp_path, "--seconds_per_batch=0.3")
  _wait_for(tmp_path / "checkpoint_0", process)
  process.send_signal(number)
  out, err = _finish(process)
  step = files.latest_step(tmp_path)
  assert 0 < step < STEPS
  assert f"interrupted at step {step}" in out
  assert f"{number.name}: will finish this step, save and exit" in err
  out, _ = _finish(command(tmp_path))
  assert f"finished at step {STEPS}" in out
  ours, theirs = (files.read_meta(d, STEPS) for d in (tmp_path, uninterrupted))
  assert ours == theirs
  assert _lines(tmp_path) == _lines(uninterrupted)
