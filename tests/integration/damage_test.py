"""Every file of a checkpoint, damaged in every way: told, or without effect.

The damage is done in a process of its own: after a read that failed, Orbax
leaves other reads behind, which complain when they end.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from prompt_tuning.train import checkpoint_files as files
from prompt_tuning.train.checkpoint import Checkpoints
from prompt_tuning.train.run_identity import RunIdentity
from prompt_tuning.train.step import TrainState

RUN = RunIdentity(backbone="abc", trainable=(), seed=0, config={})
# One array is large enough for a file of its own.
SIZES = {"small": 3, "large": 4096}


def _truncate(path):
  os.truncate(path, path.stat().st_size // 2)


def _empty(path):
  os.truncate(path, 0)


def _flip(path):
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 1
  path.write_bytes(bytes(data))


DAMAGES = {
  "truncate": _truncate,
  "empty": _empty,
  "flip": _flip,
  "delete": pathlib.Path.unlink,
}


def _state(seed):
  rng = np.random.default_rng(seed)
  arrays = {k: jnp.asarray(rng.normal(size=n)) for k, n in SIZES.items()}
  return TrainState(step=jnp.int32(seed), trainable=arrays, opt_state=())


def _problem(folder, expected):
  """What is told about the latest checkpoint; None if it came back right."""
  try:
    state = Checkpoints(folder, run=RUN).restore(_state(0)).state
  except files.CheckpointError as error:
    return str(error)
  same = jax.tree.map(lambda a, b: bool((a == b).all()), state, expected)
  return None if all(jax.tree.leaves(same)) else "came back altered, in silence"


def _files(folder):
  return sorted(p for p in folder.rglob("*") if p.is_file())


def _damage_everything(root: pathlib.Path) -> dict[str, str | None]:
  whole = root / "whole"
  checkpoints = Checkpoints(whole, run=RUN, keep=3)
  for step in (10, 20):
    checkpoints.save(_state(step), step=step, data={}, progress={})
  problems = {}
  for name, damage in DAMAGES.items():
    for file in _files(whole / "checkpoint_20"):
      copy = root / "copy"
      shutil.copytree(whole, copy)
      damage(copy / file.relative_to(whole))
      where = file.relative_to(whole / "checkpoint_20")
      problems[f"{name} {where}"] = _problem(copy, _state(20))
      shutil.rmtree(copy)
  shutil.copytree(whole / "checkpoint_20", whole / "checkpoint_30")
  for step in (20, 30):
    for file in _files(whole / f"checkpoint_{step}" / files.STATE):
      _truncate(file)
  problems["both"] = _problem(whole, None)
  return problems


@pytest.fixture(scope="module")
def problems(tmp_path_factory):
  done = subprocess.run(
    [sys.executable, __file__, str(tmp_path_factory.mktemp("damage"))],
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr[-3000:]
  return json.loads(done.stdout)


@pytest.mark.parametrize("damage", DAMAGES)
def test_nothing_comes_back_altered(problems, damage):
  told = {k: v for k, v in problems.items() if v and k.startswith(damage)}
  for problem in told.values():
    assert "checkpoint_20" in problem
    assert "is damaged" in problem
    assert "checkpoint_10 can be read: move checkpoint_20 away" in problem
  parts = {name.split()[1].split("/")[0] for name in told}
  assert parts == {files.META, files.STATE}


def test_a_damaged_file_is_named(problems):
  data = [name for name in problems if name.startswith("truncate state/d/")]
  assert data
  for name in data:
    assert name.split()[1] in problems[name]


def test_the_latest_that_can_be_read_is_named(problems):
  assert (
    "checkpoint_10 can be read: move checkpoint_30 away" in (problems["both"])
  )


if __name__ == "__main__":
  print(json.dumps(_damage_everything(pathlib.Path(sys.argv[1]))))
