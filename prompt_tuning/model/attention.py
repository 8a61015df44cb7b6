"""Multi-head attention with T5's relative position bias.

T5 does not divide the scores by the root of the head width: the initialiser of
the query kernel does, once (Raffel et al., 2020, sec. 2.1).
"""

import functools
import math
from typing import Any

import jax
from flax import linen as nn
from flax import struct
from jax import numpy as jnp

from prompt_tuning.model.config import T5Config
from prompt_tuning.model.layers import FAN_IN_NORMAL, Projection, dropout
from prompt_tuning.model.method import Method
from prompt_tuning.types import Array, Bool, Float, Int

# Low enough that a masked score has a weight of exactly zero in float32, and
# finite, so that a row without any visible key has no NaN in it.
_MASKED_SCORE = -1e10


@struct.dataclass
class KeysValues:
  """What attention reads of a context.

  Attributes:
    keys: [B, M, H, K]; a batch of 1 serves all examples.
    values: [B, M, H, K].
  """

  keys: Array
  values: Array


class Attention(nn.Module):
  """Projections and scores of one attention layer, kernels [D, H * K].

  Queries and keys are projected by separate methods so that a decoder can keep
  keys and values from step to step.

  Attributes:
    config: The model's shape.
    method: May change what the projections give.
  """

  config: T5Config
  method: Method | None = None

  def setup(self):
    """Declares the four projections under T5X's names."""
    config = self.config
    width = config.num_heads * config.head_dim

    def query_init(rng, shape, dtype):
      kernel = FAN_IN_NORMAL(rng, shape, dtype)
      return kernel / jnp.sqrt(jnp.asarray(config.head_dim, dtype))

    def inner(initializer: Any = FAN_IN_NORMAL):
      return Projection(
        features=width,
        axes=("embed", "joined_kv"),
        dtype=config.jax_dtype,
        initializer=initializer,
        method=self.method,
      )

    self.query = inner(query_init)
    self.key = inner()
    self.value = inner()
    self.out = Projection(
      features=config.embed_dim,
      axes=("joined_kv", "embed"),
      dtype=config.jax_dtype,
      method=self.method,
    )

  def _split_heads(self, x: Float[Array, "B L HK"]) -> Float[Array, "B L H K"]:
    return x.reshape(*x.shape[:-1], self.config.num_heads, self.config.head_dim)

  def keys_values(self, x: Float[Array, "B L D"]) -> KeysValues:
    """Returns the keys and the values of `x`."""
    return KeysValues(
      keys=self._split_heads(self.key(x)),
      values=self._split_heads(self.value(x)),
    )

  def __call__(
    self,
    x: Float[Array, "B Q D"],
    context: KeysValues,
    *,
    mask: Bool[Array, "#B 1 #Q M"],
    bias: Float[Array, "#B H Q M"] | None = None,
    prompt: KeysValues | None = None,
    prompt_bias: Float[Array, "#B H Q P"] | None = None,
    deterministic: bool = True,
  ) -> Float[Array, "B Q D"]:
    """Attends from every position of `x`.

    Args:
      x: What asks.
      context: The keys and values that `mask` shows.
      mask: Which of them each position sees.
      bias: Added to the scores of the context.
      prompt: Keys and values in front of the context that all positions see.
      prompt_bias: Added to the scores of the prompt.
      deterministic: Whether nothing is dropped.
    """
    queries = self._split_heads(self.query(x))
    scores = [jnp.where(mask, _scores(queries, context, bias), _MASKED_SCORE)]
    read = [context]
    if prompt is not None:
      scores.insert(0, _scores(queries, prompt, prompt_bias))
      read.insert(0, prompt)
    powers, total = _powers(scores)
    powers = [part.astype(self.config.jax_dtype) for part in powers]
    mixed = functools.reduce(
      jnp.add,
      [
        _mix(dropout(self, part, deterministic=deterministic), each)
        for part, each in zip(powers, read, strict=True)
      ],
    )
    # Dividing here, not the weights, divides M / K times fewer numbers.
    mixed = mixed / jnp.swapaxes(total, 1, 2)  # [B, Q, H, 1]
    mixed = mixed.astype(self.config.jax_dtype)
    return self.out(mixed.reshape(*mixed.shape[:-2], -1))


def _scores(
  queries: Float[Array, "B Q H K"],
  context: KeysValues,
  bias: Float[Array, "#B H Q M"] | None,
) -> Float[Array, "B H Q M"]:
  """Returns the scores of the keys, float32."""
  if _is_shared(context, queries.shape[0]):
    scores = jnp.einsum(
      "bqhk,mhk->bhqm",
      queries,
      context.keys[0],
      preferred_element_type=jnp.float32,
    )
  else:
    scores = jnp.einsum(
      "bqhk,bmhk->bhqm",
      queries,
      context.keys,
      preferred_element_type=jnp.float32,
    )
  return scores if bias is None else scores + bias


def _mix(
  weights: Float[Array, "B H Q M"], context: KeysValues
) -> Float[Array, "B Q H K"]:
  """Returns the sum of the values under the weights."""
  if _is_shared(context, weights.shape[0]):
    return jnp.einsum("bhqm,mhk->bqhk", weights, context.values[0])
  return jnp.einsum("bhqm,bmhk->bqhk", weights, context.values)


def _is_shared(context: KeysValues, batch_size: int) -> bool:
  """Says whether one context serves a batch of several examples."""
  return context.keys.shape[0] == 1 and batch_size > 1


def _powers(scores: list[Array]) -> tuple[list[Array], Array]:
  """Returns softmax over the last axis of all parts before its division.

  Args:
    scores: [B, H, Q, M], M differs from part to part.

  Returns:
    Powers of e, at most 1, and their sum over all parts, [B, H, Q, 1].
  """
  highest = functools.reduce(
    jnp.maximum, [jnp.max(part, axis=-1, keepdims=True) for part in scores]
  )
  # The quotient does not depend on it, and neither does its gradient.
  highest = jax.lax.stop_gradient(highest)
  powers = [jnp.exp(part - highest) for part in scores]
  sums = [jnp.sum(part, axis=-1, keepdims=True) for part in powers]
  return powers, functools.reduce(jnp.add, sums)


class RelativePositionBias(nn.Module):
  """A learned score for each head and each bucket of distances.

  Attributes:
    config: The model's shape.
    bidirectional: Whether keys after the query have buckets of their own.
  """

  config: T5Config
  bidirectional: bool

  @nn.compact
  def __call__(
    self,
    query_positions: Int[Array, "#B Q"],
    key_positions: Int[Array, "#B M"],
  ) -> Float[Array, "#B H Q M"]:
    """Returns the bias that is added to the scores, float32."""
    config = self.config
    # Flax takes the box with the axis names off.
    embedding: Any = self.param(
      "rel_embedding",
      nn.with_logical_partitioning(
        nn.initializers.variance_scaling(1.0, "fan_avg", "uniform"),
        ("heads", "relpos_buckets"),
      ),
      (config.num_heads, config.relative_attention_buckets),
      jnp.float32,
    )
    distances = key_positions[:, None, :] - query_positions[:, :, None]
    buckets = relative_position_buckets(
      distances,
      bidirectional=self.bidirectional,
      num_buckets=config.relative_attention_buckets,
      max_distance=config.relative_attention_max_distance,
    )
    bias = jnp.take(embedding, buckets, axis=1)  # [H, B, Q, M]
    return jnp.moveaxis(bias, 0, 1).astype(jnp.float32)


def relative_position_buckets(
  distances: Int[Array, "*shape"],
  *,
  bidirectional: bool,
  num_buckets: int,
  max_distance: int,
) -> Int[Array, "*shape"]:
  """Returns the bucket of each distance (Raffel et al., 2020, sec. 2.1).

  Half the buckets hold one distance each; the others widen geometrically up to
  `max_distance`. The borders are found once as integers, so that the bucket of
  a distance does not depend on how a device rounds a logarithm.

  Args:
    distances: Key position minus query position, in tokens.
    bidirectional: Whether later keys take the upper half of the buckets;
      otherwise they all fall in bucket 0.
    num_buckets: Total number of buckets.
    max_distance: Distance from which all share the last bucket, in tokens.

  Returns:
    Buckets in [0, num_buckets), int32.
  """
  offset = jnp.zeros_like(distances)
  if bidirectional:
    num_buckets //= 2
    offset = jnp.where(distances > 0, num_buckets, 0)
    distances = jnp.abs(distances)
  else:
    distances = jnp.maximum(-distances, 0)
  exact = num_buckets // 2
  wide = num_buckets - exact
  buckets = jnp.minimum(distances, exact)
  for step in range(1, wide):
    # A border that is a whole number belongs to the upper bucket.
    border = exact * (max_distance / exact) ** (step / wide)
    buckets += distances >= math.ceil(border - 1e-6)
  return offset + buckets
