"""Answers of batches from all devices that the parameters lie on.

With several processes each of them has every whole batch and gets all answers,
so that all find the same metrics, and take the same decisions by them.
"""

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from prompt_tuning.data.batches import EvaluationBatch
from prompt_tuning.model.sharding import feature_spec
from prompt_tuning.types import Params

Answer = Callable[[Params, Any, jax.Array], Any]
"""`(all parameters, batch, keys [B]) -> [B, ...]`, compiled when called."""


def answers(
  function: Answer,
  params: Params,
  batches: Iterable[EvaluationBatch],
  *,
  seed: int = 0,
) -> Iterator[tuple[EvaluationBatch, np.ndarray]]:
  """Yields each batch with its answers, as an array [B, ...] on the host.

  While the devices answer one batch the next one is laid out and asked for.

  Args:
    function: Finds the answers. Each row has a random key of its own, which
      depends on the seed and the number of its example: not on the batch.
    params: All parameters. Where they lie on a mesh, batches are cut as
      `model.sharding.feature_spec` says, filled up with padding to divide.
    batches: On the host, the same in every process.
    seed: Of all draws, the same in every process.
  """
  mesh = _mesh(params)
  asked = None
  for batch in batches:
    answered, asked = asked, (batch, _ask(function, params, batch, seed, mesh))
    if answered is not None:
      yield _read(*answered)
  if asked is not None:
    yield _read(*asked)


def _ask(
  function: Answer,
  params: Params,
  batch: EvaluationBatch,
  seed: int,
  mesh: Mesh | None,
) -> Any:
  """Returns the answers for a batch as they come to be on the devices."""
  features, numbers = batch.features, batch.indices.astype(np.uint32)
  if mesh is None:
    return function(params, features, _row_keys(seed, numbers))
  spread = {name: _spread(name, x, mesh) for name, x in features.items()}
  keys = _row_keys(seed, _spread("numbers", numbers, mesh))
  return _gather(mesh)(function(params, spread, keys))


def _read(
  batch: EvaluationBatch, answers: Any
) -> tuple[EvaluationBatch, np.ndarray]:
  return batch, np.asarray(answers)[: len(batch.indices)]


@functools.partial(jax.jit, static_argnums=0)
def _row_keys(seed: int, numbers: jax.Array) -> jax.Array:
  """Returns the random key of each row, [B]."""
  return jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), numbers)


def _mesh(params: Params) -> Mesh | None:
  """Returns the mesh of the parameters if it has more than one device."""
  for leaf in jax.tree.leaves(params):
    mesh = getattr(getattr(leaf, "sharding", None), "mesh", None)
    if isinstance(mesh, Mesh) and mesh.size > 1:
      return mesh
  return None


def _spread(name: str, value: np.ndarray, mesh: Mesh) -> jax.Array:
  value = np.asarray(value)
  spec = feature_spec(name, value.ndim)
  axes = (*spec, *[None] * (value.ndim - len(spec)))
  missing = [
    (0, -size % (1 if axis is None else mesh.shape[axis]))
    for axis, size in zip(axes, value.shape, strict=True)
  ]
  padded = np.pad(value, missing)
  return jax.make_array_from_callback(
    padded.shape, NamedSharding(mesh, spec), lambda index: padded[index]
  )


@functools.cache
def _gather(mesh: Mesh) -> Callable[[Any], Any]:
  return jax.jit(
    lambda x: x, out_shardings=NamedSharding(mesh, PartitionSpec())
  )
