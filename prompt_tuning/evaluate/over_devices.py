"""Answers of a batch from all devices that the parameters lie on.

With several processes each of them has the whole batch and gets all answers, so
that all find the same metrics, and take the same decisions by them.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from prompt_tuning.types import Batch, Params


def answer(
  function: Callable[[Params, Batch, jax.Array], Any],
  params: Params,
  batch: Batch,
  rng: jax.Array,
) -> np.ndarray:
  """Returns the answers for a batch, as an array [B, ...] on the host.

  Args:
    function: `(all parameters, batch, key) -> [B, ...]`, compiled when called.
    params: All parameters. Where they lie on a mesh, the batch is cut along its
      first axis, filled up with padding to divide.
    batch: Features [B, ...] on the host, the same in every process.
    rng: Key of this batch's draws, the same in every process.
  """
  mesh = _mesh(params)
  if mesh is None:
    return np.asarray(function(params, batch, rng))
  size = len(next(iter(batch.values())))
  spread = {name: _spread(value, mesh) for name, value in batch.items()}
  answers = function(params, spread, rng)
  return np.asarray(_gather(mesh)(answers))[:size]


def _mesh(params: Params) -> Mesh | None:
  """Returns the mesh of the parameters if it has more than one device."""
  for leaf in jax.tree.leaves(params):
    mesh = getattr(getattr(leaf, "sharding", None), "mesh", None)
    if isinstance(mesh, Mesh) and mesh.size > 1:
      return mesh
  return None


def _spread(value: np.ndarray, mesh: Mesh) -> jax.Array:
  value = np.asarray(value)
  missing = -len(value) % mesh.devices.shape[0]
  value = np.pad(value, [(0, missing)] + [(0, 0)] * (value.ndim - 1))
  sharding = NamedSharding(mesh, PartitionSpec(mesh.axis_names[0]))
  return jax.make_array_from_callback(
    value.shape, sharding, lambda index: value[index]
  )


def _gather(mesh: Mesh) -> Callable[[Any], Any]:
  return jax.jit(
    lambda x: x, out_shardings=NamedSharding(mesh, PartitionSpec())
  )
