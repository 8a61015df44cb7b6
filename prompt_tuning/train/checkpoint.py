"""Checkpoints of a run: what training changes, and where the data stands.

A checkpoint holds the trainable parameters, the optimizer's state and the step
as arrays (Orbax), and the position in the data, the progress of the loop and
the identity of the run as JSON. The frozen backbone is named by its
fingerprint, never saved: a checkpoint of prompt tuning is kilobytes.
"""

import dataclasses
import errno
import json
import re
import zlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from flax import traverse_util

from prompt_tuning import paths
from prompt_tuning.train import partition
from prompt_tuning.train.run_identity import RunIdentity
from prompt_tuning.train.step import TrainState
from prompt_tuning.types import Params

_FORMAT = 1
_PREFIX = "checkpoint"
_STATE, _META = "state", "meta"
_FULL = (errno.ENOSPC, errno.EDQUOT)


class CheckpointError(ValueError):
  """A checkpoint cannot be written, read or used for this run."""


@dataclasses.dataclass(frozen=True)
class Restored:
  """A run at the step where a checkpoint left it.

  Attributes:
    state: Trainable parameters, optimizer state and step, on the devices.
    data: Position in the data, for `BatchIterator.restore`.
    progress: The loop's own state, JSON-able.
  """

  state: TrainState
  data: Mapping[str, Any]
  progress: Mapping[str, Any]


class Checkpoints:
  """The checkpoints in one MODEL_DIR, `checkpoint_<step>` each."""

  def __init__(
    self, model_dir: paths.PathLike, *, run: RunIdentity, keep: int = 1
  ):
    """Opens or makes the directory.

    Args:
      model_dir: Where checkpoints are written.
      run: What the run is; a directory with another run's checkpoints is
        refused.
      keep: How many of the latest checkpoints to keep; the best is kept too.

    Raises:
      ValueError: If `keep` is below 1, or the directory holds another run.
      OSError: If the directory cannot be written.
    """
    if keep < 1:
      raise ValueError(f"keep must be at least 1 checkpoint, got {keep!r}.")
    if paths.exists(model_dir) and not paths.is_dir(model_dir):
      raise ValueError(
        f"MODEL_DIR {model_dir} is a file; pass a directory, which need not "
        "exist yet."
      )
    self._dir = paths.make_writable_dir(model_dir)
    self._run = run
    self._policy = _LatestAndBest(keep)
    latest = latest_step(self._dir)
    if latest is not None:
      self._check_run(read_meta(self._dir, latest))
    self._manager = _open_manager(self._dir, self._policy)

  def latest_step(self) -> int | None:
    """Returns the step of the latest complete checkpoint, None if none."""
    return latest_step(self._dir)

  def restore(self, target: TrainState, *, step: int | None = None) -> Restored:
    """Returns a run as it was at a step, bit for bit.

    Args:
      target: A state of the same structure; arrays are restored with the types
        and shardings of its leaves (arrays or `jax.ShapeDtypeStruct`s).
      step: Which checkpoint; the latest by default.

    Raises:
      CheckpointError: If there is none, it is damaged (the latest that is not
        is named), or it does not fit the run or the target.
    """
    step = self.latest_step() if step is None else step
    if step is None:
      raise CheckpointError(f"There is no checkpoint in {self._dir}.")
    try:
      return self._load(step, target)
    except _DamagedError as error:
      good = self._latest_good(step, target)
      if good is None:
        remedy = "No earlier checkpoint can be read."
      else:
        remedy = (
          f"{_PREFIX}_{good} can be read: move {_PREFIX}_{step} away to resume "
          "from there."
        )
      raise CheckpointError(f"{error} {remedy}") from error

  def save(
    self,
    state: TrainState,
    *,
    step: int,
    data: Mapping[str, Any],
    progress: Mapping[str, Any],
    best_step: int | None = None,
  ) -> None:
    """Writes a checkpoint whole or not at all, then deletes superseded ones.

    Args:
      state: What to save.
      step: Its step, which must be new.
      data: Position in the data.
      progress: The loop's own state.
      best_step: The step whose checkpoint is kept besides the latest.

    Raises:
      CheckpointError: If it cannot be written; older ones are intact.
    """
    arrays = _by_path(state)
    meta = {
      "format": _FORMAT,
      "step": step,
      "run": self._run.as_json(),
      "data": dict(data),
      "progress": dict(progress),
      "arrays": {path: _describe(leaf) for path, leaf in arrays.items()},
    }
    self._policy.best_step = best_step
    try:
      self._manager.save(
        step,
        args=ocp.args.Composite(
          state=ocp.args.PyTreeSave(
            traverse_util.unflatten_dict(arrays, sep="/")
          ),
          meta=ocp.args.JsonSave(meta),
        ),
      )
    except Exception as error:
      raise CheckpointError(self._save_failure(step, error)) from error

  def close(self) -> None:
    """Releases the directory."""
    self._manager.close()

  def _check_run(self, meta):
    differences = self._run.differences(RunIdentity.from_json(meta["run"]))
    if differences:
      lines = "".join(f"\n  {line}" for line in differences)
      raise CheckpointError(
        f"MODEL_DIR {self._dir} holds {_PREFIX}_{meta['step']} of another run "
        f"(there -> here):{lines}\nPass another MODEL_DIR, or undo the changes "
        "to resume that run."
      )

  def _load(self, step, target) -> Restored:
    meta = read_meta(self._dir, step)
    self._check_run(meta)
    leaves = _by_path(target)
    where = f"{self._dir}/{_PREFIX}_{step}"
    _check_same_arrays(where, meta["arrays"], leaves)
    arrays = _read_arrays(self._dir, step, leaves, meta["arrays"])
    state = jax.tree_util.tree_map_with_path(
      lambda path, _: arrays[partition.path_name(path)], target
    )
    return Restored(state=state, data=meta["data"], progress=meta["progress"])

  def _latest_good(self, bad_step, target) -> int | None:
    for step in reversed([s for s in all_steps(self._dir) if s < bad_step]):
      try:
        self._load(step, target)
      except CheckpointError:
        continue
      return step
    return None

  def _save_failure(self, step, error):
    kept = [f"{_PREFIX}_{s}" for s in all_steps(self._dir) if s != step]
    full = any(
      getattr(e, "errno", None) in _FULL or "No space left" in str(e)
      for e in _causes(error)
    )
    reason = "the disk is full" if full else f"{type(error).__name__}: {error}"
    return (
      f"{_PREFIX}_{step} could not be written to {self._dir}: {reason}. "
      f"Training stopped; intact are: {', '.join(kept) or 'none'}. Free space "
      "or repair the disk, and run the same command to resume."
    )


class _DamagedError(CheckpointError):
  """A checkpoint is incomplete or its bytes changed."""


class _LatestAndBest:
  """Orbax's preservation policy: the latest n checkpoints, and the best."""

  def __init__(self, keep: int):
    self._keep = keep
    self.best_step: int | None = None

  def should_preserve(self, checkpoints, *, context):
    del context
    latest = {c.step for c in checkpoints[-self._keep :]}
    return [c.step in latest or c.step == self.best_step for c in checkpoints]


def all_steps(model_dir: paths.PathLike) -> list[int]:
  """Returns the steps of all complete checkpoints in a directory, ascending."""
  matches = (
    re.fullmatch(rf"{_PREFIX}_(\d+)", name)
    for name in paths.list_dir(model_dir)
  )
  return sorted(int(match[1]) for match in matches if match)


def latest_step(model_dir: paths.PathLike) -> int | None:
  """Returns the latest step in a directory, None without checkpoints."""
  steps = all_steps(model_dir)
  return steps[-1] if steps else None


def best_step(model_dir: paths.PathLike) -> int | None:
  """Returns the best step in a directory, None if none was selected."""
  latest = latest_step(model_dir)
  if latest is None:
    return None
  best = read_meta(model_dir, latest)["progress"].get("best")
  return None if best is None else int(best["step"])


def load_trainable(model_dir: paths.PathLike, *, step: int) -> Params:
  """Returns the trainable parameters of a checkpoint as host arrays.

  Raises:
    CheckpointError: If the checkpoint is missing or damaged.
  """
  described = read_meta(model_dir, step)["arrays"]
  wanted = {
    path: jax.ShapeDtypeStruct(
      entry["shape"],
      entry["dtype"],
      sharding=jax.sharding.SingleDeviceSharding(jax.local_devices()[0]),
    )
    for path, entry in described.items()
  }
  arrays = _read_arrays(model_dir, step, wanted, described)
  tree = traverse_util.unflatten_dict(arrays, sep="/")
  return jax.tree.map(np.asarray, tree["trainable"])


def read_meta(model_dir: paths.PathLike, step: int) -> dict[str, Any]:
  """Returns the JSON of a checkpoint.

  Raises:
    CheckpointError: If it is missing, damaged or of another format.
  """
  folder = paths.as_path(model_dir) / f"{_PREFIX}_{step}"
  file = folder / _META / "metadata"
  if not paths.exists(folder):
    steps = ", ".join(map(str, all_steps(model_dir))) or "none"
    raise CheckpointError(
      f"There is no {_PREFIX}_{step} in {model_dir}; its steps are: {steps}."
    )
  if not paths.exists(folder / _META):
    raise CheckpointError(
      f"{folder} was not written by this trainer (it has no {_META!r}). Pass "
      "another MODEL_DIR; a backbone is given by INITIAL_CHECKPOINT_PATH."
    )
  try:
    meta = json.loads(paths.read_text(file))
  except (OSError, ValueError) as error:
    raise _DamagedError(f"Checkpoint file {file} is damaged: {error}.") from (
      error
    )
  if meta.get("format") != _FORMAT:
    raise CheckpointError(
      f"{folder} has the format {meta.get('format')!r}; this version reads "
      f"{_FORMAT}."
    )
  return meta


def _open_manager(model_dir, policy) -> ocp.CheckpointManager:
  # Neither the sharding nor the array metadata files are ever read here: the
  # target says how arrays are to lie. Without them a checkpoint is smaller.
  registry = ocp.type_handlers.create_type_handler_registry(
    (
      jax.Array,
      ocp.type_handlers.ArrayHandler(
        enable_write_sharding_file=False, array_metadata_store=None
      ),
    )
  )
  return ocp.CheckpointManager(
    model_dir,
    options=ocp.CheckpointManagerOptions(
      step_prefix=_PREFIX,
      preservation_policy=policy,
      cleanup_tmp_directories=True,
      # Saving a prompt takes milliseconds, and failures show where they occur.
      enable_async_checkpointing=False,
      save_root_metadata=False,
    ),
    item_handlers={
      _STATE: ocp.PyTreeCheckpointHandler(type_handler_registry=registry),
      _META: ocp.JsonCheckpointHandler(),
    },
  )


def _by_path(state: Any) -> dict[str, Any]:
  leaves = jax.tree_util.tree_leaves_with_path(state)
  return {partition.path_name(path): leaf for path, leaf in leaves}


def _describe(array: jax.Array) -> dict[str, Any]:
  # An array that spans processes is nowhere whole, so its sum is not known.
  whole = array.is_fully_addressable
  return {
    "shape": list(array.shape),
    "dtype": str(array.dtype),
    "crc32": _crc32(array) if whole else None,
  }


def _crc32(array: jax.Array) -> int:
  return zlib.crc32(np.ascontiguousarray(jax.device_get(array)).tobytes())


def _check_same_arrays(where, described, leaves):
  problems = [f"missing: {path}" for path in leaves if path not in described]
  problems += [f"unexpected: {path}" for path in described if path not in leaves]
  for path in leaves.keys() & described.keys():
    there, here = tuple(described[path]["shape"]), tuple(leaves[path].shape)
    there_type, here_type = described[path]["dtype"], str(leaves[path].dtype)
    if (there, there_type) != (here, here_type):
      problems.append(
        f"{path}: {there_type}{list(there)} there, {here_type}{list(here)} here"
      )
  if problems:
    lines = "".join(f"\n  {line}" for line in sorted(problems)[:10])
    raise CheckpointError(
      f"{where} does not hold the arrays of this run ({len(problems)} differ):"
      f"{lines}\nThe optimizer, the prompt or the trainable patterns are others."
    )


def _read_arrays(model_dir, step, leaves, described) -> dict[str, jax.Array]:
  where = paths.as_path(model_dir) / f"{_PREFIX}_{step}"
  tree = traverse_util.unflatten_dict(leaves, sep="/")
  arguments = jax.tree.map(
    lambda leaf: ocp.ArrayRestoreArgs(
      sharding=leaf.sharding, global_shape=leaf.shape, dtype=leaf.dtype
    ),
    tree,
  )
  try:
    with ocp.PyTreeCheckpointer() as reader:
      restored = reader.restore(
        where / _STATE,
        args=ocp.args.PyTreeRestore(item=tree, restore_args=arguments),
      )
  except Exception as error:
    raise _DamagedError(
      f"Checkpoint {where} is damaged: {type(error).__name__}: {error}"
    ) from error
  arrays = traverse_util.flatten_dict(restored, sep="/")
  for path, array in arrays.items():
    expected = described[path]["crc32"]
    if expected is not None and array.is_fully_addressable:
      if _crc32(array) != expected:
        raise _DamagedError(
          f"Checkpoint {where} is damaged: the bytes of {path} are not those "
          "that were saved."
        )
  logging.info("Read %d arrays from %s.", len(arrays), where)
  return arrays


def _causes(error: BaseException | None):
  while error is not None:
    yield error
    error = error.__cause__ or error.__context__
