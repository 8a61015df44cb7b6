"""Parameters from Orbax checkpoints: T5X's newer ones and this project's.

The files are read with TensorStore rather than through Orbax: only the part
that is wanted, and lost data is an error instead of zeros.
"""

import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

from prompt_tuning import paths
from prompt_tuning.checkpoints import scanned, zarr
from prompt_tuning.checkpoints.stored import Stored

_METADATA = "_METADATA"


def is_tree(directory: paths.PathLike) -> bool:
  """Returns whether the folder is one Orbax tree of arrays."""
  return paths.exists(paths.as_path(directory) / _METADATA)


def leaves(
  directory: paths.PathLike, *, subtree: str | None = None
) -> Iterator[tuple[str, Stored]]:
  """Yields paths and arrays of a tree, or of one part of it, to be read.

  Args:
    directory: The folder that holds `_METADATA`.
    subtree: The only top-level key to read; paths are those under it.

  Raises:
    ValueError: If it is incomplete, corrupt or has no such part; the message
      names the folder. Arrays raise it when they are read.
  """
  metadata = _read_metadata(directory)
  wanted = [
    keys
    for keys in _array_keys(metadata)
    if subtree is None or keys[0] == subtree
  ]
  if not wanted:
    raise ValueError(
      f"The Orbax checkpoint in {os.fspath(directory)} holds no arrays"
      + (f" under {subtree!r}." if subtree else ".")
    )
  for keys in wanted:
    path = "/".join(keys if subtree is None else keys[1:])
    yield path, _open_array(directory, ".".join(keys), metadata)


def t5x_leaves(directory: paths.PathLike) -> Iterator[tuple[str, Stored]]:
  """Yields paths and arrays of the parameters that T5X saved with Orbax.

  Args:
    directory: The folder `checkpoint_<step>`, which holds `state/`.

  Raises:
    ValueError: If it is incomplete or corrupt.
  """
  stored = leaves(paths.as_path(directory) / "state", subtree="target")
  return scanned.unroll(stored, source=os.fspath(directory))


def _read_metadata(directory: paths.PathLike) -> dict[str, Any]:
  path = paths.as_path(directory) / _METADATA
  try:
    metadata = json.loads(paths.read_text(path))
  except ValueError as error:
    raise ValueError(
      f"{path} is truncated or corrupt; copy the checkpoint again. ({error})"
    ) from error
  if "tree_metadata" not in metadata:
    raise ValueError(f"{path} does not describe a tree of arrays.")
  return metadata


def _array_keys(metadata: Mapping[str, Any]) -> Iterator[list[str]]:
  """Yields the path of every array; None and empty nodes have no data."""
  for entry in metadata["tree_metadata"].values():
    if not entry["value_metadata"].get("skip_deserialize", False):
      yield [str(part["key"]) for part in entry["key_metadata"]]


def _open_array(
  directory: paths.PathLike,
  name: str,
  metadata: Mapping[str, Any],
) -> Stored:
  if metadata.get("use_ocdbt", True):
    store = {
      "driver": "ocdbt",
      "base": zarr.key_value_store(directory),
      "path": f"{name}/",
    }
  else:
    store = zarr.key_value_store(paths.as_path(directory) / name)
  driver = "zarr3" if metadata.get("use_zarr3", False) else "zarr"
  return zarr.open_store(
    {"driver": driver, "kvstore": store},
    source=f"{os.fspath(directory)} ({name})",
    sparse=not metadata.get("store_array_data_equal_to_fill_value", False),
  )
