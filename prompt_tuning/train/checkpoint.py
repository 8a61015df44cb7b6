"""Checkpoints of a run: what training changes, and where the data stands.

A checkpoint holds the trainable parameters, the optimizer's state and the step
as arrays (Orbax), and the position in the data, the progress of the loop and
the identity of the run as JSON. The frozen backbone is named by its
fingerprint, never saved: a checkpoint of prompt tuning is kilobytes.
"""

import dataclasses
import errno
import shutil
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
import orbax.checkpoint as ocp
from flax import traverse_util

from prompt_tuning import paths
from prompt_tuning.train import checkpoint_files as files
from prompt_tuning.train import partition
from prompt_tuning.train.checkpoint_files import CheckpointError
from prompt_tuning.train.run_identity import RunIdentity
from prompt_tuning.train.step import TrainState

_T = TypeVar("_T")
# What a checkpoint takes besides its arrays, in bytes; mostly unused blocks.
_OVERHEAD = 100_000
_FULL = (errno.ENOSPC, errno.EDQUOT)


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
    latest = files.latest_step(self._dir)
    if latest is not None:
      self._or_name_good(latest, self._read_meta)
    self._manager = _open_manager(self._dir, self._policy)

  def latest_step(self) -> int | None:
    """Returns the step of the latest complete checkpoint, None if none."""
    return files.latest_step(self._dir)

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
    return self._or_name_good(step, lambda s: self._load(s, target))

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

    Where the step has a checkpoint already, which then holds the same arrays,
    only its position and progress are replaced.

    Args:
      state: What to save.
      step: Its step.
      data: Position in the data.
      progress: The loop's own state.
      best_step: The step whose checkpoint is kept besides the latest.

    Raises:
      CheckpointError: If it cannot be written; older ones are intact.
    """
    arrays = _by_path(state)
    meta = {
      "step": step,
      "run": self._run.as_json(),
      "data": dict(data),
      "progress": dict(progress),
      "arrays": {path: _describe(leaf) for path, leaf in arrays.items()},
    }
    self._policy.best_step = best_step
    self._check_space(step, arrays)
    try:
      if step in files.all_steps(self._dir):
        files.replace_meta(self._dir, step, meta)
      else:
        self._manager.save(step, args=_save_arguments(arrays, meta))
    except jax.errors.JaxRuntimeError:
      raise  # Of a device or another process: nothing is wrong with the disk.
    except Exception as error:
      raise CheckpointError(self._save_failure(step, error)) from error

  def close(self) -> None:
    """Releases the directory."""
    self._manager.close()

  def _read_meta(self, step: int) -> dict[str, Any]:
    """Returns the JSON of a step, which must be of this run."""
    meta = files.read_meta(self._dir, step)
    differences = self._run.differences(RunIdentity.from_json(meta["run"]))
    if differences:
      lines = "".join(f"\n  {line}" for line in differences)
      raise CheckpointError(
        f"MODEL_DIR {self._dir} holds {_name(step)} of another run (there -> "
        f"here):{lines}\nPass another MODEL_DIR, or undo the changes to resume "
        "that run."
      )
    return meta

  def _load(self, step: int, target: TrainState) -> Restored:
    meta = self._read_meta(step)
    leaves = _by_path(target)
    where = f"{self._dir}/{_name(step)}"
    _check_same_arrays(where, meta["arrays"], leaves)
    arrays = files.read_arrays(self._dir, step, leaves, meta["arrays"])
    state = jax.tree_util.tree_map_with_path(
      lambda path, _: arrays[partition.path_name(path)], target
    )
    return Restored(state=state, data=meta["data"], progress=meta["progress"])

  def _or_name_good(self, step: int, read: Callable[[int], _T]) -> _T:
    """Reads a step; if it is damaged, names the latest before that is not."""
    try:
      return read(step)
    except files.DamagedError as error:
      remedy = "No earlier checkpoint can be read."
      for earlier in reversed(files.all_steps(self._dir)):
        if earlier < step and _succeeds(read, earlier):
          remedy = (
            f"{_name(earlier)} can be read: move {_name(step)} away to resume "
            "from there."
          )
          break
      raise CheckpointError(f"{error} {remedy}") from error

  def _check_space(self, step: int, arrays: Mapping[str, jax.Array]) -> None:
    """Raises if the disk lacks room, before anything is written to it."""
    if paths.is_remote(self._dir):
      return
    need = sum(leaf.nbytes for leaf in arrays.values()) + _OVERHEAD
    free = shutil.disk_usage(self._dir).free
    if free < need:
      error = OSError(errno.ENOSPC, f"{need:,} bytes needed, {free:,} free")
      raise CheckpointError(self._save_failure(step, error)) from error

  def _save_failure(self, step, error):
    kept = [_name(s) for s in files.all_steps(self._dir) if s != step]
    # Of a full disk, tensorstore tells only in words, and in many.
    full = any(
      getattr(e, "errno", None) in _FULL or "No space left" in str(e)
      for e in _causes(error)
    )
    reason = f"{type(error).__name__}: {error}"
    if full:
      known = isinstance(error, OSError)
      reason = f"the disk is full ({error})" if known else "the disk is full"
    return (
      f"{_name(step)} could not be written to {self._dir}: {reason}. "
      f"Training stopped; intact are: {', '.join(kept) or 'none'}. Free space "
      "or repair the disk, and run the same command to resume."
    )


class _LatestAndBest:
  """Orbax's preservation policy: the latest n checkpoints, and the best."""

  def __init__(self, keep: int):
    self._keep = keep
    self.best_step: int | None = None

  def should_preserve(self, checkpoints, *, context):
    del context
    latest = {c.step for c in checkpoints[-self._keep :]}
    return [c.step in latest or c.step == self.best_step for c in checkpoints]


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
      step_prefix=files.PREFIX,
      preservation_policy=policy,
      cleanup_tmp_directories=True,
      # Saving a prompt takes milliseconds, and failures show where they occur.
      enable_async_checkpointing=False,
      save_root_metadata=False,
    ),
    item_handlers={
      files.STATE: ocp.PyTreeCheckpointHandler(type_handler_registry=registry),
      files.META: ocp.JsonCheckpointHandler(),
    },
  )


def _save_arguments(arrays, meta) -> ocp.args.Composite:
  tree = traverse_util.unflatten_dict(arrays, sep="/")
  return ocp.args.Composite(
    **{
      files.STATE: ocp.args.PyTreeSave(tree),
      files.META: ocp.args.JsonSave(files.seal(meta)),
    }
  )


def _name(step: int) -> str:
  return f"{files.PREFIX}_{step}"


def _succeeds(read: Callable[[int], Any], step: int) -> bool:
  try:
    read(step)
  except CheckpointError:
    return False
  return True


def _by_path(state: Any) -> dict[str, Any]:
  leaves = jax.tree_util.tree_leaves_with_path(state)
  return {partition.path_name(path): leaf for path, leaf in leaves}


def _describe(array: jax.Array) -> dict[str, Any]:
  return {
    "shape": list(array.shape),
    "dtype": str(array.dtype),
    "crc32": files.crc32(array) if files.is_whole(array) else None,
  }


def _check_same_arrays(where, described, leaves):
  problems = [f"missing: {path}" for path in leaves.keys() - described]
  problems += [f"unexpected: {path}" for path in described.keys() - leaves]
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
      f"{lines}\nWas it written with another optimizer, prompt or pattern?"
    )


def _causes(error: BaseException | None):
  while error is not None:
    yield error
    error = error.__cause__ or error.__context__
