"""Where a run lies: its mesh, and on it what is trained and what is frozen."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from prompt_tuning.checkpoints.stored import Stored
from prompt_tuning.model import t5
from prompt_tuning.runs.abstract import (
  AbstractRun,
  joint_need,
  microbatch_rows,
)
from prompt_tuning.runs.arguments import TrainArguments
from prompt_tuning.runs.network import Network
from prompt_tuning.train import mesh as mesh_lib
from prompt_tuning.train import partition
from prompt_tuning.train.mesh_choice import MeshShape, Need
from prompt_tuning.train.step import TrainState, init_state
from prompt_tuning.types import Params


def make_mesh(runs: Sequence[TrainArguments]) -> Mesh:
  """Returns the mesh that a run lies on, or all runs of a job.

  Args:
    runs: The runs, with the same batch size and hardware.

  Raises:
    ValueError: If it does not use the devices, or the batch does not divide.
  """
  a = runs[0]

  def need() -> Callable[[MeshShape], Need]:
    return functools.partial(joint_need, [AbstractRun(each) for each in runs])

  mesh = a.hardware.mesh(
    need, rows=microbatch_rows(a.batch_size, a.num_microbatches)
  )
  mesh_lib.check_batch_size(a.batch_size, mesh)
  return mesh


def reads_in_parts(mesh: Mesh) -> bool:
  """Returns whether a host holds only a part of the model."""
  return mesh.shape[mesh_lib.MODEL] > 1 or jax.process_count() > 1


def place(
  a: TrainArguments, network: Network, mesh: Mesh, *, frozen: Params | None
) -> tuple[TrainState, Params]:
  """Returns a fresh state and the frozen parameters, on the devices.

  Args:
    a: The run's arguments.
    network: Whose parameters are placed.
    mesh: Where they go.
    frozen: Those of another run of the job, which are there already.
  """
  parts = partition.split(network.params, a.trainable)
  axes = t5.logical_axes(network.model)

  def shardings(params):
    return mesh_lib.param_shardings(
      params, axes, mesh=mesh, rules=a.hardware.axis_rules
    )

  if frozen is None:
    frozen = mesh_lib.place(parts.frozen, shardings(parts.frozen))
  # What is trained is kept in float32, whatever the backbone is stored in.
  trainable = jax.tree.map(_as_float32, parts.trainable)
  placed = shardings(trainable)
  make = lambda params: init_state(params, a.optimizer)  # noqa: E731
  abstract = jax.eval_shape(
    make,
    jax.tree.map(
      lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), trainable
    ),
  )
  state = jax.jit(
    make,
    out_shardings=mesh_lib.state_shardings(abstract, placed, mesh=mesh),
  )(mesh_lib.place(trainable, placed))
  return state, frozen


def _as_float32(leaf: Any) -> Any:
  whole = leaf if isinstance(leaf, Stored) else np.asarray(leaf)
  return whole.astype(np.float32)
