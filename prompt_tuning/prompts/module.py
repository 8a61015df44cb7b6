"""Soft prompts as extra rows of the vocabulary.

A soft token is a token id at or above the vocabulary size, called a slot. These
modules hold the embeddings of the slots; which slots stand where in an input is
decided by the data (`prompt_tuning.prompts.layout`), so the network needs no
case for prefixes, suffixes, templates, banks or packed rows.
"""

import enum
from typing import Any

import jax
from flax import linen as nn
from jax import numpy as jnp

from prompt_tuning.prompts.initializers import Values
from prompt_tuning.types import Array, Float, Initializer, Int


class PromptAttention(enum.Enum):
  """What soft tokens attend to in the encoder.

  FULL is the paper: everything, so that they are computed anew for every
  example. PREFIX is the soft prompt alone: inputs attend to it and to
  themselves as in FULL, but its keys, values and encodings are the same for
  all examples and are computed once (`model.compiled_prompt`).
  """

  FULL = "full"
  PREFIX = "prefix"


def look_up(
  table: Float[Array, "S D"], slots: Int[Array, "*shape"]
) -> Float[Array, "*shape D"]:
  """Returns the vectors of slots.

  A slot that no prompt owns becomes NaN, which stops training with the batch
  named, rather than an unrelated row.
  """
  return jnp.take(table, slots, axis=0, mode="fill", fill_value=jnp.nan)


class Prompt(nn.Module):
  """One soft prompt: P vectors (Lester et al., 2021, sec. 2).

  Attributes:
    length: P, in tokens; 0 is the bare model.
    features: D, the model width.
    initializer: Gives the initial value of the [P, D] parameter `embedding`.
    attention: What its tokens attend to.
  """

  length: int
  features: int
  initializer: Initializer
  attention: PromptAttention = PromptAttention.FULL

  def setup(self):
    """Declares the vectors."""
    # Flax takes the box with the axis names off.
    self.embedding: Any = self.param(
      "embedding",
      nn.with_logical_partitioning(
        self.initializer, ("prompt", "prompt_embed")
      ),
      (self.length, self.features),
      jnp.float32,
    )

  @property
  def num_prompts(self) -> int:
    """N, which is one."""
    return 1

  @property
  def num_slots(self) -> int:
    """The number of ids that this prompt adds to the vocabulary."""
    return self.length

  def __call__(self, slots: Int[Array, "*shape"]) -> Float[Array, "*shape D"]:
    """Returns the embeddings of `slots`, which count from 0."""
    return look_up(self.embedding, slots)

  def vectors(self) -> Float[Array, "1 P D"]:
    """Returns the prompt as a bank of one."""
    return self.embedding[None]


class PromptBank(nn.Module):
  """N soft prompts of one length; every example names its own.

  Prompt n at position p is slot n * P + p, so a batch may mix prompts freely
  (Lester et al., 2021, fig. 2).

  Attributes:
    num_prompts: N.
    length: P, in tokens, the same for all.
    features: D, the model width.
    initializer: Gives the initial value of one [P, D] prompt; called once a
      prompt, with a different key each time. `initializers.Values` of a whole
      bank is called once.
    attention: What their tokens attend to.
  """

  num_prompts: int
  length: int
  features: int
  initializer: Initializer
  attention: PromptAttention = PromptAttention.FULL

  def setup(self):
    """Declares the vectors."""
    self.embedding: Any = self.param(
      "embedding",
      nn.with_logical_partitioning(
        self._init_all, ("num_prompts", "prompt", "prompt_embed")
      ),
      (self.num_prompts, self.length, self.features),
      jnp.float32,
    )

  @property
  def num_slots(self) -> int:
    """The number of ids that this bank adds to the vocabulary."""
    return self.num_prompts * self.length

  def _init_all(self, rng, shape, dtype):
    if isinstance(self.initializer, Values) and self.initializer.is_bank:
      return self.initializer(rng, shape, dtype)
    keys = jax.random.split(rng, shape[0])
    return jnp.stack([self.initializer(key, shape[1:], dtype) for key in keys])

  def __call__(self, slots: Int[Array, "*shape"]) -> Float[Array, "*shape D"]:
    """Returns the embeddings of `slots`, which count from 0."""
    table = self.embedding.reshape(self.num_slots, self.features)
    return look_up(table, slots)

  def vectors(self) -> Float[Array, "N P D"]:
    """Returns all prompts."""
    return self.embedding
