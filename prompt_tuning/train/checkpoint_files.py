"""What lies in the folder of a checkpoint, and how it is read and checked."""

import json
import re
import zlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax import traverse_util

from prompt_tuning import paths
from prompt_tuning.train import partition
from prompt_tuning.types import Params

FORMAT = 1
PREFIX = "checkpoint"
STATE, META = "state", "meta"
# Named by Orbax's JSON handler.
_META_FILE = "metadata"


class CheckpointError(ValueError):
  """A checkpoint cannot be written, read or used for this run."""


class DamagedError(CheckpointError):
  """A checkpoint is incomplete or its bytes changed."""


def all_steps(model_dir: paths.PathLike) -> list[int]:
  """Returns the steps of all complete checkpoints in a directory, ascending."""
  matches = (
    re.fullmatch(rf"{PREFIX}_(\d+)", name) for name in paths.list_dir(model_dir)
  )
  return sorted(int(match[1]) for match in matches if match)


def latest_step(model_dir: paths.PathLike) -> int | None:
  """Returns the latest step in a directory, None without checkpoints."""
  steps = all_steps(model_dir)
  return steps[-1] if steps else None


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
  arrays = read_arrays(model_dir, step, wanted, described)
  tree = traverse_util.unflatten_dict(arrays, sep="/")
  return jax.tree.map(np.asarray, tree["trainable"])


def read_meta(model_dir: paths.PathLike, step: int) -> dict[str, Any]:
  """Returns the JSON of a checkpoint.

  Raises:
    CheckpointError: If it is missing, damaged or of another format.
  """
  folder = _folder(model_dir, step)
  file = folder / META / _META_FILE
  if not paths.exists(folder):
    steps = ", ".join(map(str, all_steps(model_dir))) or "none"
    raise CheckpointError(
      f"There is no {PREFIX}_{step} in {model_dir}; its steps are: {steps}."
    )
  if not paths.exists(folder / META):
    raise CheckpointError(
      f"{folder} was not written by this trainer (it has no {META!r}). Pass "
      "another MODEL_DIR; a backbone is given by INITIAL_CHECKPOINT_PATH."
    )
  try:
    return unseal(json.loads(paths.read_text(file)))
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise DamagedError(f"Checkpoint file {file} is damaged: {error}.") from (
      error
    )


def seal(meta: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the JSON of a checkpoint as it is written, with a checksum."""
  return {"format": FORMAT, "crc32": _json_crc32(meta), "content": dict(meta)}


def unseal(sealed: Mapping[str, Any]) -> dict[str, Any]:
  """Returns what `seal` was given.

  Raises:
    ValueError: If it has another format or is not what was written.
  """
  if sealed["format"] != FORMAT:
    raise ValueError(
      f"it has the format {sealed['format']!r}, this version reads {FORMAT}"
    )
  if _json_crc32(sealed["content"]) != sealed["crc32"]:
    raise ValueError("its content is not what was written")
  return sealed["content"]


def replace_meta(
  model_dir: paths.PathLike, step: int, meta: Mapping[str, Any]
) -> None:
  """Replaces the JSON of a checkpoint, atomically."""
  if jax.process_index() == 0:
    file = _folder(model_dir, step) / META / _META_FILE
    paths.write_text(file, json.dumps(seal(meta)))


def read_arrays(
  model_dir: paths.PathLike,
  step: int,
  leaves: Mapping[str, Any],
  described: Mapping[str, Any],
) -> dict[str, jax.Array]:
  """Returns the arrays of a checkpoint, whose bytes are checked.

  Args:
    model_dir: The folder of the checkpoints.
    step: Which checkpoint.
    leaves: All its paths; what lies there has the shape, type and sharding to
      read an array with.
    described: `arrays` of the checkpoint's JSON.

  Raises:
    DamagedError: If they cannot be read or are not what was written.
  """
  where = _folder(model_dir, step)
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
        where / STATE,
        args=ocp.args.PyTreeRestore(item=tree, restore_args=arguments),
      )
  except Exception as error:
    # What follows is how to open the store, hundreds of characters long.
    reason = str(error).split(" [tensorstore_spec")[0]
    raise DamagedError(
      f"Checkpoint {where} is damaged: {type(error).__name__}: {reason}."
    ) from error
  arrays = partition.flatten(restored)
  for path, array in arrays.items():
    expected = described[path]["crc32"]
    known = expected is not None and is_whole(array)
    if known and crc32(array) != expected:
      raise DamagedError(
        f"Checkpoint {where} is damaged: the bytes of {path} are not those "
        "that were saved."
      )
  return arrays


def is_whole(array: jax.Array) -> bool:
  """Returns whether this process has all of an array, to sum up its bytes."""
  return array.is_fully_addressable or array.is_fully_replicated


def crc32(array: jax.Array) -> int:
  """Returns a checksum of the bytes of an array that is whole here."""
  return zlib.crc32(np.ascontiguousarray(jax.device_get(array)).tobytes())


def _json_crc32(content: Mapping[str, Any]) -> int:
  # Through JSON once, so that tuples are the lists that will be read.
  plain = json.loads(json.dumps(content))
  return zlib.crc32(json.dumps(plain, sort_keys=True).encode())


def _folder(model_dir: paths.PathLike, step: int) -> Any:
  return paths.as_path(model_dir) / f"{PREFIX}_{step}"
