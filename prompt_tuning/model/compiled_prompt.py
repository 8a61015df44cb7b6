"""A soft prompt that no longer depends on what it is put in front of.

Where soft tokens attend to each other alone (`PromptAttention.PREFIX`), all
that an input reads of them is the keys and values of every layer. `T5` computes
these once for all examples of a step, or once for all requests of a server.
"""

import dataclasses
from typing import Any

import jax
from flax import struct
from jax import numpy as jnp

from prompt_tuning.types import Array, Int


@struct.dataclass
class CompiledPrompt:
  """Keys and values of N prompts.

  Attributes:
    encoder: What inputs attend to: `KeysValues` [N, P, H, K] for each encoder
      layer, see `model.stack`; None for nothing, which only the prefixes of a
      method may leave out.
    cross: What targets attend to, for each decoder layer, or None likewise.
    rows: [B], the prompt that each row reads; None where there is only one.
    past: What targets attend to in front of themselves, for each decoder layer;
      None of a soft prompt, which the encoder alone reads.
    has_positions: Whether inputs see `encoder`, and targets `past`, at the
      positions just in front of them, or without a bias of position.
  """

  encoder: Any
  cross: Any
  rows: Array | None = None
  past: Any = None
  has_positions: bool = struct.field(pytree_node=False, default=True)

  @property
  def num_prompts(self) -> int:
    """N."""
    return self._any.shape[0]

  @property
  def length(self) -> int:
    """P, in tokens."""
    return self._any.shape[-3]

  @property
  def _any(self) -> Array:
    return jax.tree.leaves((self.encoder, self.cross, self.past))[0]

  @property
  def positions(self) -> Int[Array, "1 P"]:
    """The positions just in front of position 0."""
    return jnp.arange(-self.length, 0, dtype=jnp.int32)[None]

  def for_rows(self, prompt_index: Int[Array, " B"] | None) -> "CompiledPrompt":
    """Returns the same prompts for a batch whose rows name theirs.

    Args:
      prompt_index: The prompt of each row; not looked at if there is only one.
    """
    if self.num_prompts == 1:
      return self
    return dataclasses.replace(self, rows=prompt_index)

  def check_rows(self, batch_size: int) -> None:
    """Checks that every row of a batch names its prompt.

    Raises:
      ValueError: There are several prompts, and not an index for each row.
    """
    shape = None if self.rows is None else self.rows.shape
    if self.num_prompts > 1 and shape != (batch_size,):
      raise ValueError(
        f"The model holds {self.num_prompts} prompts that inputs do not show; "
        f"give each of the {batch_size} rows of the batch its own as "
        f"`prompt_index` [B], got {'none' if shape is None else list(shape)}."
      )


def of_rows(keys_values: Any, rows: Int[Array, " B"] | None) -> Any:
  """Returns what each row reads of keys and values [N, ...].

  Args:
    keys_values: Of one layer or of several.
    rows: The prompt of each row; None where there is only one.
  """
  if rows is None:
    return keys_values
  # Another prompt's values would be a silent mistake: see `prompts.module`.
  # An index below 0 would count from the end.
  rows = jnp.where(rows < 0, jnp.iinfo(rows.dtype).max, rows)
  return jax.tree.map(
    lambda x: jnp.take(x, rows, axis=0, mode="fill", fill_value=jnp.nan),
    keys_values,
  )
