"""Parameters from Orbax checkpoints: T5X's newer ones and this project's."""

import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from prompt_tuning import paths
from prompt_tuning.checkpoints import scanned


def is_tree(directory: paths.PathLike) -> bool:
  """Returns whether the folder is one Orbax tree of arrays."""
  return paths.exists(paths.as_path(directory) / "_METADATA")


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
  # Slow to import; only needed where there is such a checkpoint.
  import orbax.checkpoint as ocp
  from etils import epath

  folder = epath.Path(os.fspath(paths.as_path(directory)))
  handler = ocp.PyTreeCheckpointHandler()
  try:
    stored = handler.metadata(folder).tree
    if subtree is not None:
      stored = {subtree: stored[subtree]}
    item = jax.tree.map(
      lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), stored
    )
    as_numpy = ocp.RestoreArgs(
      restore_type=np.ndarray,
      dtype=None if dtype is None else jnp.dtype(dtype),
    )
    restored = handler.restore(
      folder,
      args=ocp.args.PyTreeRestore(
        item=item,
        restore_args=jax.tree.map(lambda _: as_numpy, item),
        partial_restore=True,
      ),
    )
  except Exception as error:  # Orbax and TensorStore raise many types.
    reason = str(error).split("\n", 1)[0][:300]
    raise ValueError(
      f"The Orbax checkpoint in {os.fspath(directory)} cannot be read; it is "
      "incomplete or corrupt, or has no such part "
      f"({subtree or 'everything'}). ({type(error).__name__}: {reason})"
    ) from error
  return restored if subtree is None else restored[subtree]


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
