"""Where activations lie on a mesh: its axes, their rules, and constraints.

Parameters and batches are laid out from outside (`train.mesh`) and the compiler
spreads the rest after them. Along the sequence it needs to be told what is to
stay cut: without, it gathers whole activations in front of every layer.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, TypeAlias

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

DATA, SEQUENCE, MODEL = "data", "sequence", "model"

AxisRules: TypeAlias = Sequence[tuple[str, str | None]]
"""Pairs of a logical axis and the mesh axis it is cut along, or None."""

# What examples are cut along, whatever the rules of the parameters: batches are
# laid out so from outside. Keys and values, the `context`, are read by all.
_OF_EXAMPLES = {"batch": DATA, "length": SEQUENCE, "context": None}


@dataclasses.dataclass(frozen=True)
class ActivationSharding:
  """Holds activations where the axis rules say.

  Attributes:
    mesh: Where the model runs.
    rules: Mesh axis of each logical axis of the parameters.
  """

  mesh: Mesh
  rules: AxisRules

  def __post_init__(self):
    # A configuration file may pass lists, which would not hash.
    rules = tuple((name, axis) for name, axis in self.rules)
    object.__setattr__(self, "rules", rules)

  def __call__(self, x: Any, *axes: str) -> Any:
    """Returns arrays that the compiler keeps where the rules say.

    An axis that does not divide is left to the compiler: a prompt computed
    apart is no batch. Where two axes ask for the same mesh axis, the first gets
    it.

    Args:
      x: Arrays of as many axes as are named.
      axes: Logical names of the axes.

    Raises:
      ValueError: If an axis has no rule.
    """
    table = dict(self.rules) | _OF_EXAMPLES
    unknown = [name for name in axes if name not in table]
    if unknown:
      raise ValueError(
        f"Activations have the logical axis {unknown[0]!r}, for which there is "
        f"no rule; known are {', '.join(table)}. Add a rule."
      )
    wanted: list[str | None] = []
    for name in axes:
      axis = table[name]
      wanted.append(None if axis in wanted else axis)

    def place(leaf: jax.Array) -> jax.Array:
      spec = [
        PartitionSpec.UNCONSTRAINED if size % self._ways(axis) else axis
        for axis, size in zip(wanted, leaf.shape, strict=True)
      ]
      return jax.lax.with_sharding_constraint(
        leaf, NamedSharding(self.mesh, PartitionSpec(*spec))
      )

    return jax.tree.map(place, x)

  def _ways(self, axis: str | None) -> int:
    return 1 if axis is None else self.mesh.shape[axis]


def constrain(sharding: ActivationSharding | None, x: Any, *axes: str) -> Any:
  """Returns `x` as it is, or where the sharding puts it if there is one."""
  return x if sharding is None else sharding(x, *axes)


def feature_spec(name: str, ndim: int) -> PartitionSpec:
  """Returns how a feature of a batch is cut over a mesh.

  Examples are cut along `DATA`, and what the encoder reads of them along
  `SEQUENCE` too. Targets are short, and whole.

  Args:
    name: Of the feature, such as `encoder_input_tokens`.
    ndim: Its number of axes; the batch is the first, the length the second.
  """
  if name.startswith("encoder_") and ndim > 1:
    return PartitionSpec(DATA, SEQUENCE)
  return PartitionSpec(DATA)
