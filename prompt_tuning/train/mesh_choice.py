"""Which mesh, of those that the devices allow: the least model axis that fits.

A model axis sends activations between devices in every layer, a data axis sends
next to nothing in prompt tuning. So parameters are cut no further than memory
and batch make necessary.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from prompt_tuning.train import mesh as mesh_lib

_MIB = 2**20
# Activations are an estimate, and the system takes a part for itself.
_SHARE = 0.9


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeshShape:
  """A mesh before it has devices; the attributes are those of `make_mesh`."""

  data: int
  sequence: int = 1
  model: int

  @property
  def name(self) -> str:
    """The mesh in words."""
    return mesh_lib.in_words(dataclasses.asdict(self))

  def on(self, devices: Sequence[Any] | None = None) -> Mesh:
    """Returns it on devices, as `make_mesh` does."""
    return mesh_lib.make_mesh(
      self.data, self.model, devices, sequence=self.sequence
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Need:
  """Bytes of a run on each device.

  Attributes:
    parameters: All parameters, with the gradients and optimizer state of those
      that are trained.
    activations: What is computed from a batch, by estimate.
  """

  parameters: int
  activations: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choice:
  """The mesh that was taken.

  Attributes:
    shape: The mesh.
    reasons: Why no mesh with a smaller model axis was, and why this one.
  """

  shape: MeshShape
  reasons: tuple[str, ...]


def candidates(
  num_devices: int, *, data: int = -1, sequence: int = 1
) -> list[MeshShape]:
  """Returns the meshes of some devices, the smallest model axis first.

  Args:
    num_devices: How many to use.
    data: Ways to cut the batch; -1 for what is left.
    sequence: Ways to cut the inputs of an example.

  Raises:
    ValueError: If there is none.
  """
  shapes = []
  for model in range(1, num_devices + 1):
    left, rest = divmod(num_devices, max(sequence, 1) * model)
    if sequence > 0 and left and not rest and data in (-1, left):
      shapes.append(MeshShape(data=left, sequence=sequence, model=model))
  if not shapes:
    raise ValueError(
      f"No mesh with data={data} and sequence={sequence} uses the "
      f"{num_devices} devices; choose axes whose product divides "
      f"{num_devices}, and data=-1."
    )
  return shapes


def choose(
  shapes: Sequence[MeshShape],
  need: Callable[[MeshShape], Need],
  *,
  rows: int | None,
  memory_bytes: int | None,
) -> Choice:
  """Returns the first mesh over which a run divides and that it fits.

  Args:
    shapes: What to choose from, in this order.
    need: What a run would hold on each device; raises a ValueError where it
      does not divide, and for nothing else.
    rows: Of a microbatch, which are to divide over the data axis; None if they
      need not.
    memory_bytes: What each device has; None if it does not tell, which
      everything fits.

  Raises:
    ValueError: If there is none; says why of each.
  """
  reasons: list[str] = []
  for shape in shapes:
    if rows is not None and rows % shape.data:
      reasons.append(f"{shape.name}: {rows} examples do not divide")
      continue
    try:
      needed = need(shape)
    except ValueError as error:
      reasons.append(f"{shape.name}: {error}")
      continue
    what = (
      f"{_gib(needed.parameters)} of parameters and about "
      f"{_gib(needed.activations)} of activations on each device"
    )
    if memory_bytes is None:
      reasons.append(
        f"{shape.name}: taken with {what}; the devices do not tell how much "
        "memory they have"
      )
      return Choice(shape=shape, reasons=tuple(reasons))
    if needed.parameters + needed.activations <= _SHARE * memory_bytes:
      reasons.append(f"{shape.name}: taken, {what} of {_gib(memory_bytes)}")
      return Choice(shape=shape, reasons=tuple(reasons))
    reasons.append(
      f"{shape.name}: {what} are more than {100 * _SHARE:.0f} % of "
      f"{_gib(memory_bytes)}"
    )
  lines = "".join(f"\n  {reason}" for reason in reasons)
  raise ValueError(
    f"MODEL_PARTITIONS is 'auto', and no mesh was found:{lines}\nUse more "
    "devices, a batch size that divides over them, MICROBATCHES or REMAT. "
    "Activations are an estimate: MODEL_PARTITIONS as a number tries that mesh."
  )


def device_memory() -> int | None:
  """Returns the bytes of the smallest device of all processes.

  None if one of them does not tell, as CPUs do not. Every process gets the same
  answer; all must ask.
  """
  stats = [device.memory_stats() or {} for device in jax.local_devices()]
  # In MiB: without 64-bit types JAX could not send the bytes.
  least = min(int(each.get("bytes_limit", 0)) for each in stats) // _MIB
  if jax.process_count() > 1:
    all_of_them = multihost_utils.process_allgather(np.int32(least))
    least = int(np.min(all_of_them))
  return least * _MIB or None


def _gib(num_bytes: int) -> str:
  return f"{num_bytes / 2**30:.2f} GiB"
