"""Parameters from Orbax checkpoints: T5X's newer ones and this project's.

The files are read with TensorStore rather than through Orbax: one array at a
time, only the part that is wanted, and lost data is an error instead of zeros.
"""

import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from prompt_tuning import paths
from prompt_tuning.checkpoints import scanned, tree, zarr

_METADATA = "_METADATA"


def is_tree(directory: paths.PathLike) -> bool:
  """Returns whether the folder is one Orbax tree of arrays."""
  return paths.exists(paths.as_path(directory) / _METADATA)


def read_tree(
  directory: paths.PathLike,
  *,
  subtree: str | None = None,
  dtype: str | None = None,
) -> dict[str, Any]:
  """Reads a tree of arrays, or one part of it.

  Args:
    directory: The folder that holds `_METADATA`.
    subtree: The only top-level key to read; the result is what is under it.
    dtype: The type to return; the stored one by default.

  Returns:
    A nested dictionary of numpy arrays.

  Raises:
    ValueError: If it is incomplete, corrupt or has no such part; the message
      names the folder.
  """
  metadata = _read_metadata(directory)
  flat = {}
  for keys in _array_keys(metadata):
    if subtree is None or keys[0] == subtree:
      kept = keys if subtree is None else keys[1:]
      name = ".".join(keys)
      flat["/".join(kept)] = _read_array(directory, name, metadata, dtype)
  if not flat:
    raise ValueError(
      f"The Orbax checkpoint in {os.fspath(directory)} holds no arrays"
      + (f" under {subtree!r}." if subtree else ".")
    )
  return tree.unflatten(flat)


def read_t5x_params(
  directory: paths.PathLike, *, dtype: str | None = None
) -> dict[str, Any]:
  """Reads the parameters that T5X saved with Orbax.

  Args:
    directory: The folder `checkpoint_<step>`, which holds `state/`.
    dtype: The type to return; the stored one by default.

  Returns:
    A nested dictionary of numpy arrays. The optimizer state is not read.

  Raises:
    ValueError: If it is incomplete or corrupt.
  """
  params = read_tree(
    paths.as_path(directory) / "state", subtree="target", dtype=dtype
  )
  return scanned.unroll(params, source=os.fspath(directory))


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


def _read_array(
  directory: paths.PathLike,
  name: str,
  metadata: Mapping[str, Any],
  dtype: str | None,
) -> np.ndarray:
  if metadata.get("use_ocdbt", True):
    store = {
      "driver": "ocdbt",
      "base": zarr.key_value_store(directory),
      "path": f"{name}/",
    }
  else:
    store = zarr.key_value_store(paths.as_path(directory) / name)
  driver = "zarr3" if metadata.get("use_zarr3", False) else "zarr"
  return zarr.read_store(
    {"driver": driver, "kvstore": store},
    source=f"{os.fspath(directory)} ({name})",
    sparse=not metadata.get("store_array_data_equal_to_fill_value", False),
    dtype=dtype,
  )
