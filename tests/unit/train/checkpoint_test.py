"""Tests of saving and restoring runs."""

import dataclasses
import errno
import os
import re
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

from prompt_tuning.train import checkpoint_files as files
from prompt_tuning.train import optimizers
from prompt_tuning.train.checkpoint import Checkpoints
from prompt_tuning.train.checkpoint_files import CheckpointError
from prompt_tuning.train.run_identity import RunIdentity
from prompt_tuning.train.step import TrainState, init_state

RUN = RunIdentity(
  backbone="abc", trainable=("prompt/.*",), seed=0, config={"rate": 0.3}
)


def _filled(state: TrainState, seed: int) -> TrainState:
  """The state with random numbers everywhere, which do not compress."""
  rng = np.random.default_rng(seed)
  return jax.tree.map(
    lambda x: jnp.asarray(rng.normal(size=x.shape, scale=100), x.dtype), state
  )


def _state(seed=0, *, length=3, width=4, dtype=jnp.float32) -> TrainState:
  trainable = {"prompt": {"embedding": jnp.zeros((length, width), dtype)}}
  optimizer = optimizers.adamw(learning_rate=optax.constant_schedule(0.1))
  return _filled(init_state(trainable, optimizer), seed)


def _save(checkpoints, step, *, seed=None, progress=None, best_step=None):
  state = _state(step if seed is None else seed)
  checkpoints.save(
    state,
    step=step,
    data={"position": step * 10},
    progress=progress or {},
    best_step=best_step,
  )
  return state


def _assert_equal(one, other):
  assert jax.tree.structure(one) == jax.tree.structure(other)
  for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
    assert a.dtype == b.dtype
    assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_run_comes_back_bit_for_bit(tmp_path, dtype):
  state = _state(1, dtype=dtype)
  Checkpoints(tmp_path, run=RUN).save(
    state, step=5, data={"position": [1, 2]}, progress={"best": None}
  )
  again = Checkpoints(tmp_path, run=RUN)
  restored = again.restore(_state(2, dtype=dtype))
  _assert_equal(restored.state, state)
  assert restored.data == {"position": [1, 2]}
  assert restored.progress == {"best": None}


def test_shapes_are_target_enough(tmp_path):
  checkpoints = Checkpoints(tmp_path, run=RUN)
  state = _save(checkpoints, 5)
  shapes = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
  )
  _assert_equal(checkpoints.restore(shapes).state, state)


def test_folders_are_named_by_step(tmp_path):
  _save(Checkpoints(tmp_path, run=RUN), 1_100_030)
  assert [p.name for p in tmp_path.iterdir()] == ["checkpoint_1100030"]


@pytest.mark.parametrize(
  ("keep", "best", "expected"),
  [
    (1, {}, [5]),
    (2, {}, [4, 5]),
    (9, {}, [1, 2, 3, 4, 5]),
    (1, {1: 1, 2: 2, 3: 2, 4: 2, 5: 2}, [2, 5]),
    (2, {1: 1, 2: 1, 3: 3, 4: 4, 5: 4}, [4, 5]),
    (2, {1: 1, 2: 1, 3: 1, 4: 1, 5: 1}, [1, 4, 5]),
  ],
)
def test_the_latest_and_the_best_are_kept(tmp_path, keep, best, expected):
  checkpoints = Checkpoints(tmp_path, run=RUN, keep=keep)
  for step in range(1, 6):
    _save(checkpoints, step, best_step=best.get(step))
  assert files.all_steps(tmp_path) == expected
  assert checkpoints.latest_step() == 5


def test_a_chosen_step_can_be_restored(tmp_path):
  checkpoints = Checkpoints(tmp_path, run=RUN, keep=3)
  states = {step: _save(checkpoints, step) for step in (1, 2, 3)}
  _assert_equal(checkpoints.restore(_state(), step=2).state, states[2])


def test_saving_a_step_again_replaces_only_the_progress(tmp_path):
  checkpoints = Checkpoints(tmp_path, run=RUN)
  state = _save(checkpoints, 4, progress={"evaluated": None})
  before = _arrays_written(tmp_path / "checkpoint_4")
  _save(checkpoints, 4, progress={"evaluated": 4})
  restored = checkpoints.restore(_state())
  assert restored.progress == {"evaluated": 4}
  _assert_equal(restored.state, state)
  assert _arrays_written(tmp_path / "checkpoint_4") == before


def _arrays_written(folder):
  state = (folder / files.STATE).rglob("*")
  return {path: path.stat().st_mtime_ns for path in state if path.is_file()}


def test_trainable_parameters_can_be_read_alone(tmp_path):
  state = _save(Checkpoints(tmp_path, run=RUN), 5)
  _assert_equal(files.load_trainable(tmp_path, step=5), state.trainable)


@pytest.mark.parametrize(
  "make_optimizer", [optimizers.adafactor, optimizers.adamw]
)
@pytest.mark.parametrize(("length", "width"), [(100, 512), (100, 4096)])
def test_a_checkpoint_is_as_small_as_its_arrays(
  tmp_path, make_optimizer, length, width
):
  optimizer = make_optimizer(learning_rate=optax.constant_schedule(0.3))
  trainable = {"prompt": {"embedding": jnp.zeros((length, width))}}
  state = _filled(init_state(trainable, optimizer), 0)
  Checkpoints(tmp_path, run=RUN).save(state, step=1, data={}, progress={})
  content = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
  assert content >= length * width * 4
  paths = list((tmp_path / "checkpoint_1").rglob("*"))
  assert sum(p.stat().st_size for p in paths if p.is_file()) < content + 50_000
  # Whole blocks on the disk, folders included.
  assert sum(p.stat().st_blocks * 512 for p in paths) < content + 100_000


# Damage; damaged files, one by one, are in tests/integration/damage_test.py.


def _files(folder):
  return sorted(p for p in folder.rglob("*") if p.is_file())


def test_damage_without_an_earlier_checkpoint(tmp_path):
  checkpoints = Checkpoints(tmp_path, run=RUN)
  _save(checkpoints, 1)
  shutil.rmtree(tmp_path / "checkpoint_1" / files.STATE)
  with pytest.raises(CheckpointError, match="No earlier checkpoint can be"):
    checkpoints.restore(_state())


def test_moving_a_damaged_checkpoint_away_resumes_from_the_one_before(tmp_path):
  checkpoints = Checkpoints(tmp_path, run=RUN, keep=2)
  before = _save(checkpoints, 1)
  _save(checkpoints, 2)
  os.truncate(tmp_path / "checkpoint_2" / files.META / "metadata", 100)
  with pytest.raises(CheckpointError, match="checkpoint_1 can be read"):
    Checkpoints(tmp_path, run=RUN)
  (tmp_path / "checkpoint_2").rename(tmp_path / "damaged")
  _assert_equal(Checkpoints(tmp_path, run=RUN).restore(_state()).state, before)


def test_a_checkpoint_that_was_not_finished_is_ignored_and_removed(tmp_path):
  state = _save(Checkpoints(tmp_path, run=RUN), 1)
  unfinished = tmp_path / "checkpoint_2.orbax-checkpoint-tmp"
  shutil.copytree(tmp_path / "checkpoint_1", unfinished)
  checkpoints = Checkpoints(tmp_path, run=RUN)
  assert checkpoints.latest_step() == 1
  _assert_equal(checkpoints.restore(_state()).state, state)
  _save(checkpoints, 2)  # Waits for the removal.
  assert not unfinished.exists()
  assert files.all_steps(tmp_path) == [2]


# What does not belong together.


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"backbone": "xyz"}, "backbone fingerprint: 'abc' -> 'xyz'"),
    ({"trainable": (".*",)}, r"trainable patterns: \['prompt/\.\*'\] -> "),
    ({"seed": 7}, "random seed: 0 -> 7"),
    ({"config": {"rate": 0.1}}, r"rate: 0\.3 -> 0\.1"),
  ],
)
def test_another_run_is_refused(tmp_path, changes, message):
  _save(Checkpoints(tmp_path, run=RUN), 3)
  before = _files(tmp_path)
  other = dataclasses.replace(RUN, **changes)
  pattern = f"holds checkpoint_3 of another run.*{message}"
  with pytest.raises(CheckpointError, match=f"(?s){pattern}"):
    Checkpoints(tmp_path, run=other)
  assert _files(tmp_path) == before


def test_a_prompt_of_another_length_is_refused(tmp_path):
  checkpoints = Checkpoints(tmp_path, run=RUN)
  _save(checkpoints, 1)
  with pytest.raises(CheckpointError) as caught:
    checkpoints.restore(_state(length=9))
  assert "trainable/prompt/embedding: float32[3, 4] there, float32[9, 4]" in (
    str(caught.value)
  )


def test_the_state_of_another_optimizer_is_refused(tmp_path):
  checkpoints = Checkpoints(tmp_path, run=RUN)
  _save(checkpoints, 1)
  optimizer = optimizers.adafactor(learning_rate=optax.constant_schedule(0.3))
  target = init_state(_state().trainable, optimizer)
  with pytest.raises(CheckpointError, match="missing: opt_state/"):
    checkpoints.restore(target)


def test_a_checkpoint_of_another_program_is_refused(tmp_path):
  (tmp_path / "checkpoint_1100000" / "target").mkdir(parents=True)
  with pytest.raises(CheckpointError, match="not written by this trainer"):
    Checkpoints(tmp_path, run=RUN)


def test_a_checkpoint_of_another_format_is_refused(tmp_path):
  _save(Checkpoints(tmp_path, run=RUN), 1)
  meta = tmp_path / "checkpoint_1" / files.META / "metadata"
  meta.write_text(meta.read_text().replace('"format": 1', '"format": 99'))
  with pytest.raises(CheckpointError, match="has the format 99"):
    Checkpoints(tmp_path, run=RUN)


def test_a_missing_checkpoint_is_named(tmp_path):
  checkpoints = Checkpoints(tmp_path, run=RUN, keep=2)
  with pytest.raises(CheckpointError, match="There is no checkpoint in"):
    checkpoints.restore(_state())
  _save(checkpoints, 1)
  _save(checkpoints, 2)
  with pytest.raises(CheckpointError, match=r"no checkpoint_7.*are: 1, 2\."):
    checkpoints.restore(_state(), step=7)


def test_keep_must_be_positive(tmp_path):
  with pytest.raises(ValueError, match="keep"):
    Checkpoints(tmp_path, run=RUN, keep=0)


# Places that cannot be written.


def test_a_file_in_place_of_the_folder_is_told(tmp_path):
  place = tmp_path / "model"
  place.write_text("precious")
  with pytest.raises(ValueError, match=f"MODEL_DIR {place} is a file"):
    Checkpoints(place, run=RUN)
  assert place.read_text() == "precious"


def test_a_parent_that_is_a_file_is_told(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(OSError, match="cannot be written"):
    Checkpoints(tmp_path / "file" / "model", run=RUN)


def test_a_folder_without_permission_is_told(tmp_path):
  if os.geteuid() == 0:
    pytest.skip("the superuser may write everywhere")
  tmp_path.chmod(0o500)
  with pytest.raises(OSError, match="cannot be written"):
    Checkpoints(tmp_path / "model", run=RUN)


@pytest.fixture
def small_disk(tmp_path):
  """A file system with room for one checkpoint, not for two."""
  place = tmp_path / "disk"
  place.mkdir()
  command = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(place)]
  mount = shutil.which("mount")
  if not mount or subprocess.run(command, capture_output=True).returncode:
    pytest.skip("mounting a small file system needs the superuser on Linux")
  try:
    yield place
  finally:
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_is_told_and_nothing_is_lost(small_disk):
  checkpoints = Checkpoints(small_disk, run=RUN)
  _save(checkpoints, 1)
  filler = small_disk / "filler"
  filler.write_bytes(b"x" * (shutil.disk_usage(small_disk).free - 8192))
  before = _files(small_disk)
  with pytest.raises(CheckpointError) as caught:
    _save(checkpoints, 2)
  assert re.search(
    r"checkpoint_2 could not be written to .*the disk is full.*100,\d+ bytes "
    r"needed, 8,192 free.*intact are: checkpoint_1\.",
    str(caught.value),
  )
  assert _files(small_disk) == before
  filler.unlink()
  _save(checkpoints, 2)
  _assert_equal(checkpoints.restore(_state()).state, _state(2))


_FILL_WHILE_SAVING = """
import sys
from unittest import mock
import jax.numpy as jnp
from prompt_tuning.train import checkpoint
from prompt_tuning.train.run_identity import RunIdentity
from prompt_tuning.train.step import TrainState

run = RunIdentity(backbone="abc", trainable=(), seed=0, config={})
state = TrainState(
  step=jnp.int32(1), trainable={"w": jnp.ones(3)}, opt_state=()
)
checkpoints = checkpoint.Checkpoints(sys.argv[1], run=run)
checkpoints.save(state, step=1, data={}, progress={})
# Something else fills the disk after the check.
open(sys.argv[1] + "/filler", "wb").write(b"x" * int(sys.argv[2]))
with mock.patch.object(checkpoint.Checkpoints, "_check_space"):
  try:
    checkpoints.save(state, step=2, data={}, progress={})
  except checkpoint.CheckpointError as error:
    print(error)
assert checkpoint.Checkpoints(sys.argv[1], run=run).latest_step() == 1
print("restored", checkpoints.restore(state).state.trainable["w"].sum())
"""


def test_a_disk_that_fills_up_while_saving(small_disk):
  # In a process of its own: Orbax leaves tasks behind, which warn when it ends.
  free = shutil.disk_usage(small_disk).free
  done = subprocess.run(
    [
      sys.executable,
      "-c",
      _FILL_WHILE_SAVING,
      str(small_disk),
      str(free - 90_000),
    ],
    capture_output=True,
    text=True,
    check=False,
  )
  message = r"checkpoint_2 could not .*: the disk is full\..*intact are: check"
  assert re.search(message, done.stdout), done.stdout + done.stderr
  assert "restored 3.0" in done.stdout, done.stderr


def test_a_disk_that_the_system_calls_full(tmp_path, monkeypatch):
  checkpoints = Checkpoints(tmp_path, run=RUN)
  state = _save(checkpoints, 1)
  usage = shutil.disk_usage(tmp_path)
  monkeypatch.setattr(
    shutil, "disk_usage", lambda path: usage._replace(free=1000)
  )
  with pytest.raises(CheckpointError, match=r"disk is full.*1,000 free"):
    _save(checkpoints, 2)
  assert files.all_steps(tmp_path) == [1]
  _assert_equal(checkpoints.restore(_state()).state, state)


def test_any_failure_to_write_stops_with_the_reason(tmp_path, monkeypatch):
  checkpoints = Checkpoints(tmp_path, run=RUN)
  state = _save(checkpoints, 1)

  def fail(*args, **kwargs):
    raise OSError(errno.EIO, os.strerror(errno.EIO))

  monkeypatch.setattr(ocp.CheckpointManager, "save", fail)
  with pytest.raises(CheckpointError, match=r"OSError.*Input/output error"):
    _save(checkpoints, 2)
  _assert_equal(checkpoints.restore(_state()).state, state)
