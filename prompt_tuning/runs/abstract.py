"""A training run by its shapes: nothing is read or computed.

What a dry run describes, what a plan compiles for chips that are not there, and
what a mesh is chosen by.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AbstractMesh, Mesh, NamedSharding

from prompt_tuning.data.batches import padding_batch
from prompt_tuning.data.features import FeatureBuilder, FeatureLengths
from prompt_tuning.model import t5
from prompt_tuning.model.config import Rematerialization
from prompt_tuning.model.sharding import AxisRules, feature_spec
from prompt_tuning.runs.arguments import TrainArguments
from prompt_tuning.runs.network import (
  Network,
  abstract_network,
  check_trained,
)
from prompt_tuning.train import mesh as mesh_lib
from prompt_tuning.train import partition
from prompt_tuning.train.activation_floor import activation_floor
from prompt_tuning.train.mesh_choice import MeshShape, Need
from prompt_tuning.train.step import TrainStep, init_state, make_train_step
from prompt_tuning.types import Params

# Tests hold a step on one device to so much. What is not counted, such as the
# caches of a beam, is what the rest of a device's memory is left for.
_OVER_FLOOR = 1.3


class AbstractRun:
  """A training run, described by shapes.

  Attributes:
    backbone: The T5 that is tuned.
    network: The network, with shapes in the place of weights.
    lengths: Tokens of inputs and targets.
    batch_size: B.
    batch: One batch.
    frozen: The parameters that are not trained.
    state: What changes in training.
  """

  def __init__(self, arguments: TrainArguments):
    """Computes shapes.

    Args:
      arguments: The run's. Of its hardware the axis rules hold; its mesh is one
        of those to try.

    Raises:
      ValueError: As the run itself would, of what shows without weights and
        data.
    """
    a = arguments
    self.backbone = a.backbone
    self.lengths = FeatureLengths.from_mapping(a.feature_lengths)
    self.network: Network = abstract_network(
      a.backbone, a.prompt, from_scratch=a.from_scratch, method=a.method
    )
    self.batch_size = a.batch_size
    self.batch = abstract_batch(self.network, self.lengths, a.batch_size)
    self._arguments = a
    self._axes = t5.logical_axes(self.network.model)
    parts = partition.split(self.network.params, a.trainable)
    check_trained(self.network.model, a.trainable)
    self.frozen = parts.frozen
    # What is trained is kept in float32, whatever the backbone is stored in.
    trained = jax.tree.map(
      lambda leaf: jax.ShapeDtypeStruct(leaf.shape, np.float32), parts.trainable
    )
    self.state = jax.eval_shape(lambda p: init_state(p, a.optimizer), trained)

  @property
  def num_parameters(self) -> int:
    """Of the backbone and the prompt."""
    leaves = jax.tree.leaves(self.network.params)
    return sum(int(np.prod(leaf.shape)) for leaf in leaves)

  @property
  def sequence_ways(self) -> int:
    """Ways in which the run cuts the encoder's input of every example."""
    return self._arguments.hardware.sequence

  @property
  def rows(self) -> int:
    """See `microbatch_rows`."""
    return microbatch_rows(self.batch_size, self._arguments.num_microbatches)

  @property
  def encoder_length(self) -> int:
    """L, soft prompt included, in tokens."""
    return self.batch["encoder_input_tokens"].shape[1]

  @property
  def num_added(self) -> int:
    """Slots and words of a template, on top of the inputs."""
    return self.network.layout.num_added

  def check_mesh(self, mesh: Any) -> None:
    """Raises a ValueError unless batch, length, parameters divide over it."""
    mesh_lib.check_batch_size(self.batch_size, mesh)
    check_row_length(
      self._arguments.packed_length, self.lengths, self.num_added, mesh
    )
    self.shardings(self.network.params, mesh)

  def model(self, mesh: Mesh) -> t5.T5:
    """Returns the network as it computes on a mesh."""
    return self.network.on(mesh, self._rules).model

  @property
  def _rules(self) -> AxisRules:
    return self._arguments.hardware.axis_rules

  def train_step(self, mesh: Mesh | None = None) -> TrainStep:
    """Returns the step that `train.loop.fit` runs, on a mesh if given."""
    model = self.network.model if mesh is None else self.model(mesh)
    a = self._arguments
    return make_train_step(model, a.optimizer, **a.step_options)

  def shardings(self, params: Params, mesh: Any) -> Params:
    """Returns where parameters lie on a mesh."""
    return mesh_lib.param_shardings(
      params, self._axes, mesh=mesh, rules=self._rules
    )

  def state_shardings(self, mesh: Any) -> Any:
    """Returns where the state lies on a mesh."""
    trainable = self.shardings(self.state.trainable, mesh)
    return mesh_lib.state_shardings(self.state, trainable, mesh=mesh)

  def batch_shardings(self, mesh: Any) -> dict[str, NamedSharding]:
    """Returns where a batch lies on a mesh."""
    return {
      name: NamedSharding(mesh, feature_spec(name, len(x.shape)))
      for name, x in self.batch.items()
    }

  def held_bytes(self, mesh: Any) -> int:
    """Returns the bytes of parameters and optimizer state on each device."""
    frozen = num_bytes(self.frozen, self.shardings(self.frozen, mesh))
    return frozen + num_bytes(self.state, self.state_shardings(mesh))

  def need(self, shape: MeshShape) -> Need:
    """Returns what the run holds on each device of a mesh.

    Raises:
      ValueError: If the run does not divide over it.
    """
    return joint_need([self], shape)

  def activations(self, shape: MeshShape) -> int:
    """Returns an estimate of the bytes that a step computes on each device."""
    a = self._arguments
    rows, length = self.batch_size, self.encoder_length
    if a.packed_length:  # The run refuses 0 itself.
      # As many tokens in longer rows, were they all full.
      rows = math.ceil(rows * length / a.packed_length)
      length = a.packed_length
    return _activations(
      self.network.model,
      shape,
      rows=rows / max(a.num_microbatches, 1),
      encoder_length=length,
      targets_length=self.lengths.targets,
      # At most: a method keeps what its own products read.
      trains_weights=a.method is not None
      or any(
        path.endswith("/kernel")
        for path in partition.flatten(self.state.trainable)
      ),
    )


def joint_need(runs: Sequence[AbstractRun], shape: MeshShape) -> Need:
  """Returns what runs over one frozen backbone hold together on each device.

  Args:
    runs: One, or those of a job.
    shape: The mesh.

  Raises:
    ValueError: If a run does not divide over the mesh.
  """
  mesh = abstract_mesh(shape)
  frozen = runs[0].frozen
  parameters = num_bytes(frozen, runs[0].shardings(frozen, mesh))
  for run in runs:
    run.check_mesh(mesh)
    trainable = run.state.trainable
    parameters += num_bytes(run.state, run.state_shardings(mesh))
    # Their gradients.
    parameters += num_bytes(trainable, run.shardings(trainable, mesh))
  activations = sum(run.activations(shape) for run in runs)
  return Need(parameters=parameters, activations=activations)


def microbatch_rows(batch_size: int, num_microbatches: int) -> int:
  """Returns the rows that are computed at a time, all of them in odd parts."""
  rows, rest = divmod(batch_size, max(num_microbatches, 1))
  return batch_size if rest else rows


def check_row_length(
  packed_length: int | None, lengths: FeatureLengths, num_added: int, mesh: Any
) -> None:
  """Checks that rows of the encoder divide over a mesh's sequence axis.

  Args:
    packed_length: PACKED_LENGTH.
    lengths: Tokens of inputs and targets.
    num_added: Slots and words of a template, on top of the inputs.
    mesh: The mesh.

  Raises:
    ValueError: If they do not; says which lengths would.
  """
  if packed_length is None:
    mesh_lib.check_length(lengths.inputs, mesh, num_added=num_added)
  else:
    mesh_lib.check_length(packed_length, mesh, name="PACKED_LENGTH")


def answering_need(
  network: Network,
  shape: MeshShape,
  *,
  lengths: FeatureLengths,
  batch_size: int,
  rules: AxisRules,
) -> Need:
  """Returns what a network that is not trained holds on each device of a mesh.

  Args:
    network: The network; only its shapes matter.
    shape: The mesh.
    lengths: Tokens of inputs and targets.
    batch_size: B, of the largest batch.
    rules: Mesh axis of each logical axis.

  Raises:
    ValueError: If a parameter does not divide over it.
  """
  batch = abstract_batch(network, lengths, batch_size)
  shardings = mesh_lib.param_shardings(
    network.params,
    t5.logical_axes(network.model),
    mesh=abstract_mesh(shape),
    rules=rules,
  )
  # Of a layer nothing is kept, as where each is computed anew.
  config = dataclasses.replace(
    network.model.config, remat=Rematerialization.LAYER
  )
  return Need(
    parameters=num_bytes(network.params, shardings),
    activations=_activations(
      network.model.clone(config=config),
      shape,
      rows=batch_size,
      encoder_length=batch["encoder_input_tokens"].shape[1],
      targets_length=lengths.targets,
    ),
  )


def _activations(
  model: t5.T5,
  shape: MeshShape,
  *,
  rows: float,
  encoder_length: int,
  targets_length: int,
  trains_weights: bool = False,
) -> int:
  """Returns an estimate of bytes on one device."""
  prompt = model.prompt
  is_apart = t5.is_apart(prompt)
  floor = activation_floor(
    model.config,
    batch_size=math.ceil(rows / shape.data),
    inputs_length=encoder_length,
    targets_length=targets_length,
    num_compiled=prompt.num_prompts if is_apart else 0,
    compiled_length=prompt.length if is_apart else 0,
    trains_weights=trains_weights,
    sequence_ways=shape.sequence,
    model_ways=shape.model,
  )
  return round(_OVER_FLOOR * floor)


def abstract_mesh(shape: MeshShape) -> Any:
  """Returns a mesh whose devices need not be there."""
  sizes = (shape.data, shape.sequence, shape.model)
  return AbstractMesh(sizes, mesh_lib.AXES)


def abstract_batch(
  network: Network, lengths: FeatureLengths, batch_size: int
) -> dict[str, jax.ShapeDtypeStruct]:
  """Returns the shapes and types of one batch, which is not packed."""
  builder = FeatureBuilder(
    lengths,
    vocab_size=network.model.config.vocab_size,
    layout=network.layout,
    num_prompts=network.model.num_prompts,
  )
  batch = padding_batch(builder, batch_size=batch_size)
  return {
    name: jax.ShapeDtypeStruct(value.shape, value.dtype)
    for name, value in batch.items()
  }


def abstract_key() -> Any:
  """Returns the shape of a random key."""
  return jax.eval_shape(lambda: jax.random.key(0))


def abstract_keys(rows: int) -> Any:
  """Returns the shape of a random key for each row of a batch."""
  return jax.eval_shape(lambda: jax.random.split(jax.random.key(0), rows))


def num_bytes(tree: Any, shardings: Any = None) -> int:
  """Returns the bytes of all leaves, or of what one device holds of them."""
  leaves = jax.tree.leaves(tree)
  shapes = [leaf.shape for leaf in leaves]
  if shardings is not None:
    shapes = [
      sharding.shard_shape(shape)
      for sharding, shape in zip(
        jax.tree.leaves(shardings), shapes, strict=True
      )
    ]
  return sum(
    int(np.prod(shape)) * np.dtype(leaf.dtype).itemsize
    for leaf, shape in zip(leaves, shapes, strict=True)
  )
