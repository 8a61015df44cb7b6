"""T5X's legacy checkpoints: one msgpack file, and zarr folders beside it.

All released T5 1.1, LM-adapted, mT5, ByT5 and Flan-T5 checkpoints have this
form. `checkpoint_<step>/checkpoint` is a msgpack of

    {"version": 3, "optimizer": {"state": {...}, "target": {...}}}

whose leaves are arrays, or TensorStore descriptions of arrays in folders such
as `target.encoder.encoder_norm.scale`. Written in this form, too, are small
models to ship: with every array inside the msgpack, a checkpoint is one file.
"""

import dataclasses
import enum
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import serialization

from prompt_tuning import paths
from prompt_tuning.checkpoints import msgpack_file, scanned, tree, zarr
from prompt_tuning.checkpoints.stored import Stored
from prompt_tuning.types import Params

VERSION = 3
FILE_NAME = "checkpoint"


class Storage(enum.Enum):
  """Where `save` puts the arrays.

  ZARR: A folder an array; right for large models.
  MSGPACK: Inside the msgpack file; right for a small model in one file.
  """

  ZARR = "zarr"
  MSGPACK = "msgpack"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkpoint:
  """What a legacy T5X checkpoint holds.

  Attributes:
    step: The training step that it was written at.
    params: The parameters, a nested dictionary of numpy arrays.
    optimizer_state: T5X's optimizer state by parameter, None unless asked for.
      Parameters that were not optimised have None.
  """

  step: int
  params: dict[str, Any]
  optimizer_state: dict[str, Any] | None


def read(
  directory: paths.PathLike,
  *,
  dtype: str | None = None,
  with_optimizer_state: bool = False,
) -> Checkpoint:
  """Reads a checkpoint, one array at a time.

  Layers stored as one array (T5X's scan) come back as `layers_0`, `layers_1`
  and so on.

  Args:
    directory: The folder `checkpoint_<step>`.
    dtype: The type of the parameters returned, such as "bfloat16"; the stored
      one by default. The optimizer state keeps its own.
    with_optimizer_state: Whether to read the optimizer state too.

  Raises:
    ValueError: If a file is missing, truncated, corrupt or of another version.
  """
  path = paths.as_path(directory) / FILE_NAME
  content = _open(path)
  state = content["optimizer"].get("state", {})
  params = {
    name: np.asarray(array, None if dtype is None else jnp.dtype(dtype))
    for name, array in _params(content, directory)
  }
  optimizer_state = None
  if with_optimizer_state:
    stored = state.get("param_states", {})
    optimizer_state = tree.unflatten(
      {
        name: None if array is None else np.asarray(array)
        for name, array in _leaves(stored, directory, allow_none=True)
      }
    )
  step = state.get("step")
  if not isinstance(step, int | np.ndarray | np.generic):
    raise ValueError(f"{path} does not say at which step it was written.")
  return Checkpoint(
    step=int(step),
    params=tree.unflatten(params),
    optimizer_state=optimizer_state,
  )


def leaves(directory: paths.PathLike) -> Iterator[tuple[str, Stored]]:
  """Yields paths and arrays of a checkpoint's parameters, as `read` has them.

  They are not read yet.

  Args:
    directory: The folder `checkpoint_<step>`.

  Raises:
    ValueError: If a file is missing, truncated, corrupt or of another version.
  """
  content = _open(paths.as_path(directory) / FILE_NAME)
  yield from _params(content, directory)


def save(
  params: Params,
  model_dir: paths.PathLike,
  *,
  step: int,
  storage: Storage = Storage.ZARR,
  dtype: str | None = None,
) -> pathlib.Path:
  """Writes parameters as `checkpoint_<step>`, whole or not at all.

  The optimizer state is the one of a run that optimised none of the parameters,
  which T5X writes as empty entries.

  Args:
    params: The nested dictionary of arrays.
    model_dir: The folder to make `checkpoint_<step>` in.
    step: The training step.
    storage: Where the arrays go.
    dtype: The type to store, such as "bfloat16"; that of the arrays by default.

  Returns:
    The path of the new folder.

  Raises:
    FileExistsError: If that checkpoint exists.
    OSError: If the disk is full or the folder cannot be written.
  """
  flat = tree.flatten(params)
  num_bytes = sum(
    leaf.size * jnp.dtype(dtype or leaf.dtype).itemsize
    for leaf in flat.values()
  )
  path = paths.as_path(model_dir) / f"checkpoint_{step}"
  with paths.atomic_directory(path, num_bytes=num_bytes) as temporary:
    target = {}
    for name, leaf in flat.items():
      array = np.asarray(leaf)
      if dtype is not None:
        array = array.astype(jnp.dtype(dtype))
      if storage is Storage.ZARR:
        array = _store(array, temporary, name)
      target[name] = array
    state = {
      "step": np.asarray(step, np.int32),
      "param_states": tree.unflatten(dict.fromkeys(flat)),
    }
    content = {
      "version": VERSION,
      "optimizer": {"state": state, "target": tree.unflatten(target)},
    }
    packed = serialization.msgpack_serialize(content)
    paths.write_bytes(temporary / FILE_NAME, packed)
  return path


def _store(
  array: np.ndarray, directory: pathlib.Path, name: str
) -> dict[str, Any]:
  """Writes an array into its folder; returns T5X's description of it."""
  folder = "target." + name.replace("/", ".")
  metadata = zarr.write_array(directory / folder, array)
  return {
    "driver": "zarr",
    "dtype": array.dtype.name,
    "kvstore": {"driver": "file", "path": f"{folder}/"},
    "metadata": metadata,
  }


def _open(path: pathlib.Path) -> Mapping[str, Any]:
  content = msgpack_file.open_msgpack(path)
  if not isinstance(content, Mapping) or "version" not in content:
    raise ValueError(
      f"{path} is a msgpack file but not a T5X checkpoint: it states no "
      "version."
    )
  version, optimizer = content["version"], content.get("optimizer")
  if type(version) is not int or version not in (2, VERSION):
    raise ValueError(
      f"{path} is a T5X checkpoint of version {version!r:.50}; versions 2 and "
      "3 can be read. Save it again with T5X's last release."
    )
  target = optimizer.get("target") if isinstance(optimizer, Mapping) else None
  if not isinstance(target, Mapping) or not target:
    raise ValueError(f"{path} holds no parameters (`optimizer/target`).")
  return content


def _is_description(node: Any) -> bool:
  return isinstance(node, Mapping) and isinstance(node.get("driver"), str)


def _params(
  content: Mapping[str, Any], directory: paths.PathLike
) -> Iterator[tuple[str, Stored]]:
  stored = _leaves(content["optimizer"]["target"], directory, allow_none=False)
  return scanned.unroll(stored, source=os.fspath(directory))


def _leaves(
  nested: Mapping[str, Any], directory: paths.PathLike, *, allow_none: bool
) -> Iterator[tuple[str, Any]]:
  """Replaces TensorStore descriptions by arrays to be read."""
  for name, leaf in tree.flatten(nested, is_leaf=_is_description).items():
    if _is_description(leaf):
      yield name, _open_described(leaf, directory)
    elif leaf is None and allow_none:
      yield name, None
    elif isinstance(leaf, Stored):
      yield name, leaf
    elif isinstance(leaf, np.ndarray | np.generic):
      yield name, Stored.of(np.asarray(leaf))
    else:
      raise ValueError(
        f"{os.fspath(directory)}: weight {name} is {type(leaf).__name__}, "
        "expected an array; the checkpoint is corrupt."
      )


def _open_described(
  description: Mapping[str, Any], directory: paths.PathLike
) -> Stored:
  if description["driver"] != "zarr":
    raise ValueError(
      f"{os.fspath(directory)}: arrays of TensorStore driver "
      f"{description['driver']!r} are not supported, only zarr."
    )
  # Drivers and buckets are those of the machine that wrote the checkpoint. Very
  # old ones have the path beside the store; newer ones end it in a slash.
  store = description.get("kvstore", {})
  stored_path = store.get("path", description.get("path"))
  if not stored_path:
    raise ValueError(
      f"{os.fspath(directory)}: an array without a path: {description}."
    )
  folder = stored_path.rstrip("/").rsplit("/", 1)[-1]
  shape = description.get("metadata", {}).get("shape")
  return zarr.open_array(
    paths.as_path(directory) / folder,
    shape=None if shape is None else tuple(shape),
  )
