"""How a run lies on the devices."""

import dataclasses
from collections.abc import Callable
from typing import Literal

import jax
from absl import logging
from jax.sharding import Mesh

from prompt_tuning.model.sharding import AxisRules
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
    ValueError: If an axis is neither a number nor, of the model, "auto".
  """

  data: int = -1
  sequence: int = 1
  model: int | Literal["auto"] = 1
  peak_flops_per_second: float | None = None
  axis_rules: AxisRules = mesh_lib.DEFAULT_RULES

  def __post_init__(self):
    for name in ("data", "sequence", "model"):
      value = getattr(self, name)
      is_open = name == "model" and value == AUTO
      if not (is_open or type(value) is int):
        allowed = f" or {AUTO!r}" if name == "model" else ""
        raise ValueError(
          f"{name.upper()}_PARTITIONS is a number of devices{allowed}, got "
          f"{value!r}."
        )

  @property
  def may_cut(self) -> bool:
    """Whether a host may have to hold only a part of the model."""
    num_devices = len(jax.devices())
    return jax.process_count() > 1 or (num_devices > 1 and self.model != 1)

  def shape(
    self,
    need: Callable[[], Callable[[MeshShape], Need]],
    *,
    rows: int | None,
    num_devices: int,
    memory_bytes: Callable[[], int | None] = mesh_choice.device_memory,
  ) -> MeshShape:
    """Returns the mesh, chosen if `model` leaves it open.

    Args:
      need: Makes what `mesh_choice.choose` asks; called only if there is a
        choice. What it raises is raised.
      rows: See `mesh_choice.choose`.
      num_devices: How many there are.
      memory_bytes: Asks for what each device has, likewise.

    Raises:
      ValueError: If no mesh can be chosen.
    """
    if isinstance(self.model, int):
      return MeshShape(data=self.data, sequence=self.sequence, model=self.model)
    shapes = mesh_choice.candidates(
      num_devices, data=self.data, sequence=self.sequence
    )
    if len(shapes) == 1:
      return shapes[0]
    choice = mesh_choice.choose(
      shapes, need(), rows=rows, memory_bytes=memory_bytes()
    )
    for reason in choice.reasons:
      logging.info("MODEL_PARTITIONS %r: %s", AUTO, reason)
    return choice.shape

  def mesh(
    self,
    need: Callable[[], Callable[[MeshShape], Need]],
    *,
    rows: int | None = None,
  ) -> Mesh:
    """Returns a mesh of all devices; see `shape`."""
    return self.shape(need, rows=rows, num_devices=jax.device_count()).on()


ALL_DEVICES = Hardware()
