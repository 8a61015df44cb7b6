"""How a T5 that is trained from nothing begins."""

import enum
import math

from jax import numpy as jnp

from prompt_tuning.model.config import T5Config
from prompt_tuning.types import Array, Params


class Initialization(enum.Enum):
  """Random weights as T5 draws them, or with roles for the encoder's heads."""

  T5 = "t5"
  HEAD_ROLES = "head_roles"


# What a head adds to its score for a neighbour before it has learnt anything:
# enough to look nearly nowhere else, and to be unlearnt.
_ATTRACTION = 6.0


def give_heads_roles(params: Params, config: T5Config) -> Params:
  """Returns the weights with roles for the heads of the encoder.

  Comparing two texts needs heads that find a token's other occurrences, and
  heads that look at a neighbour. The scores that either needs are large, and
  those of a fresh T5 are near zero. Here it starts with both and is free to
  leave them:

  - The first half of the heads, rounded down, *match*: their keys are projected
    as their queries are, so that equal tokens attract each other (as Trockman
    and Kolter, 2023, start vision transformers). A token's score for an equal
    one is then about the root of the head's width, which their position bias
    takes from its score for itself.
  - The last head looks at the token before, the last but one at the token
    after, where there are heads left for it.

  Args:
    params: Weights as T5 draws them, which stay as they are.
    config: The model's shape.
  """
  encoder = dict(params["encoder"])
  matching = config.num_heads // 2
  for index in range(config.num_encoder_layers):
    layer = dict(encoder[f"layers_{index}"])
    layer["attention"] = _match(layer["attention"], matching, config)
    encoder[f"layers_{index}"] = layer
  bias = encoder["relpos_bias"]["rel_embedding"]
  encoder["relpos_bias"] = {
    "rel_embedding": _look(bias, matching, config.head_dim)
  }
  return {**params, "encoder": encoder}


def _match(attention: Params, matching: int, config: T5Config) -> Params:
  """Projects the keys of the first heads as their queries."""
  width = matching * config.head_dim
  # T5 draws queries smaller than keys by the root of the head's width.
  queries = attention["query"]["kernel"] * jnp.sqrt(config.head_dim)
  keys = attention["key"]["kernel"].at[:, :width].set(queries[:, :width])
  return {**attention, "key": {"kernel": keys}}


def _look(bias: Array, matching: int, head_dim: int) -> Array:
  """Sets the relative position bias [H, buckets] that the roles need."""
  num_heads, num_buckets = bias.shape
  itself, before, after = 0, 1, num_buckets // 2 + 1
  bias = bias.at[:matching, itself].set(-math.sqrt(head_dim))
  if num_heads > matching:
    bias = bias.at[num_heads - 1, before].set(_ATTRACTION)
  if num_heads > matching + 1:
    bias = bias.at[num_heads - 2, after].set(_ATTRACTION)
  return bias
