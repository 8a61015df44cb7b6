"""How a run lies on the devices."""

import dataclasses
from collections.abc import Callable
from typing import Literal

import jax
from absl import logging
from jax.sharding import Mesh

from prompt_tuning.train import mesh as mesh_lib
from prompt_tuning.train import mesh_choice
from prompt_tuning.train.mesh_choice import MeshShape, Need

AUTO = "auto"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hardware:
  """How a run lies on the devices; it changes nothing that is learned.

  Attributes:
    data: Ways to cut the batch; -1 for the devices that are left.
    sequence: Ways to cut the encoder's input of every example.
    model: Ways to cut the wide axes of the parameters; "auto" for no more than
      memory and batch ask for.
    peak_flops_per_second: What one device could do in the compute type, to
      state model FLOPs utilisation against; None states none.
    axis_rules: Mesh axis of each logical axis.

  Raises:
    ValueError: If the model axis is a word other than "auto".
  """

  data: int = -1
  sequence: int = 1
  model: int | Literal["auto"] = 1
  peak_flops_per_second: float | None = None
  axis_rules: mesh_lib.AxisRules = mesh_lib.DEFAULT_RULES

  def __post_init__(self):
    if isinstance(self.model, str) and self.model != AUTO:
      raise ValueError(
        f"MODEL_PARTITIONS is a number of devices or {AUTO!r}, got "
        f"{self.model!r}."
      )

  def shape(
    self,
    need: Callable[[MeshShape], Need],
    *,
    batch_size: int | None,
    num_devices: int,
    memory_bytes: Callable[[], int | None] = mesh_choice.device_memory,
  ) -> MeshShape:
    """Returns the mesh, chosen if `model` leaves it open.

    Args:
      need: See `mesh_choice.choose`; asked only if there is a choice.
      batch_size: B; None if it need not divide.
      num_devices: How many there are.
      memory_bytes: Asks for what each device has; likewise.

    Raises:
      ValueError: If no mesh can be chosen.
    """
    if not isinstance(self.model, str):
      return MeshShape(data=self.data, sequence=self.sequence, model=self.model)
    shapes = mesh_choice.candidates(
      num_devices, data=self.data, sequence=self.sequence
    )
    if len(shapes) == 1:
      return shapes[0]
    choice = mesh_choice.choose(
      shapes, need, batch_size=batch_size, memory_bytes=memory_bytes()
    )
    for reason in choice.reasons:
      logging.info("MODEL_PARTITIONS %r: %s", AUTO, reason)
    return choice.shape

  def mesh(
    self, need: Callable[[MeshShape], Need], *, batch_size: int | None
  ) -> Mesh:
    """Returns a mesh of all devices; see `shape`."""
    return make_mesh(
      self.shape(need, batch_size=batch_size, num_devices=jax.device_count())
    )


ALL_DEVICES = Hardware()


def make_mesh(shape: MeshShape) -> Mesh:
  """Returns a mesh of all devices; see `train.mesh.make_mesh`."""
  return mesh_lib.make_mesh(shape.data, shape.model, sequence=shape.sequence)
