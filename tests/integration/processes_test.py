"""Two processes with two devices each, against one process: the same run.

The processes talk over the loopback interface, as the hosts of a pod slice do
over their network.
"""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from prompt_tuning.testing import fakes
from prompt_tuning.testing.toy_run import ToyRun
from prompt_tuning.train import checkpoint_files as files
from prompt_tuning.train import mesh as mesh_lib

pytestmark = [pytest.mark.slow, pytest.mark.multidevice]
NUM_PROCESSES = 2


class Share(fakes.ToyBatches):
  """The rows of each batch that this process reads."""

  pause = 0.0

  def __next__(self):
    time.sleep(self.pause)
    batch = super().__next__()
    rows = self.batch_size // jax.process_count()
    first = jax.process_index() * rows
    return {name: x[first : first + rows] for name, x in batch.items()}


def _main(process, port, folder, steps, pause):
  jax.config.update("jax_cpu_collectives_implementation", "gloo")
  jax.distributed.initialize(f"localhost:{port}", NUM_PROCESSES, int(process))
  Share.pause = float(pause)
  try:
    mesh_lib.make_mesh(1, 4)
  except ValueError as error:
    refusal = str(error)
  result = ToyRun(
    model_dir=folder, steps=int(steps), dropout_rate=0.0, keep=9
  ).run(batches=Share(), mesh=mesh_lib.make_mesh(2, 2))
  prompt = result.state.trainable["prompt"]["embedding"]
  report = {
    "reason": result.reason.value,
    "step": result.step,
    "prompt": jax.device_get(prompt).tolist(),
    "refusal": refusal,
  }
  print(json.dumps(report))


def _start(folder, *, steps, pause=0.0):
  with socket.socket() as free:
    free.bind(("localhost", 0))
    port = free.getsockname()[1]
  environment = os.environ | {
    "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
    "JAX_PLATFORMS": "cpu",
  }
  arguments = [str(x) for x in (port, folder, steps, pause)]
  return [
    subprocess.Popen(
      [sys.executable, __file__, str(process), *arguments],
      env=environment,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    for process in range(NUM_PROCESSES)
  ]


def _finish(processes):
  reports = []
  for process in processes:
    out, err = process.communicate(timeout=100)
    assert process.returncode == 0, err[-3000:]
    reports.append(json.loads(out.splitlines()[-1]))
  return reports


def _expected(folder, steps):
  result = ToyRun(model_dir=folder, steps=steps, dropout_rate=0.0).run()
  return result.state.trainable["prompt"]["embedding"]


def test_two_processes_train_save_and_resume_as_one(tmp_path):
  folder = tmp_path / "two"
  first = _finish(_start(folder, steps=4))
  assert [report["step"] for report in first] == [4, 4]
  assert "lies across several processes" in first[0]["refusal"]
  second = _finish(_start(folder, steps=8))
  assert second[0]["prompt"] == second[1]["prompt"]
  np.testing.assert_allclose(
    second[0]["prompt"],
    _expected(tmp_path / "one", 8),
    rtol=1e-4,
    atol=1e-5,
  )
  # Only the first process writes metrics.
  lines = (folder / "metrics.jsonl").read_text().splitlines()
  assert len(lines) == len(set(lines))


def test_a_signal_to_one_process_ends_both_at_the_same_step(tmp_path):
  processes = _start(tmp_path, steps=60, pause=0.2)
  end = time.monotonic() + 90
  while not pathlib.Path(tmp_path, "checkpoint_4").exists():
    assert time.monotonic() < end
    time.sleep(0.05)
  processes[1].send_signal(signal.SIGTERM)
  reports = _finish(processes)
  assert [report["reason"] for report in reports] == ["interrupted"] * 2
  steps = {report["step"] for report in reports}
  assert len(steps) == 1
  assert steps == {files.latest_step(tmp_path)}
  assert max(steps) < 60


if __name__ == "__main__":
  _main(*sys.argv[1:])
