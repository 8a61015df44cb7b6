"""The decoder of T5, teacher forced or step by step with a cache."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
from flax import linen as nn
from flax import struct
from jax import numpy as jnp

from prompt_tuning.model.attention import (
  Attention,
  KeysValues,
  RelativePositionBias,
)
from prompt_tuning.model.compiled_prompt import CompiledPrompt, of_rows
from prompt_tuning.model.config import T5Config
from prompt_tuning.model.layers import MLP, Projection, dropout, layer_norm
from prompt_tuning.model.method import Method
from prompt_tuning.model.stack import make_layers, run_layers
from prompt_tuning.types import Array, Bool, Float, Int


@struct.dataclass
class LayerCache:
  """What one decoder layer reads.

  Attributes:
    past: Of the targets, [B, T, H, K], filled up to the current step.
    encoded: Of the encoder's output, [B, L, H, K], a compiled prompt in front.
    ahead: What stands in front of the targets, [B, P, H, K], if anything.
  """

  past: KeysValues
  encoded: KeysValues
  ahead: KeysValues | None = None


@struct.dataclass
class Ahead:
  """What one decoder layer reads of a compiled prompt.

  Attributes:
    cross: In front of the encoder's output, [N, P, H, K].
    past: In front of the targets, if anything.
  """

  cross: KeysValues | None
  past: KeysValues | None


@struct.dataclass
class Cache:
  """What a decoder keeps between two steps.

  Attributes:
    index: The step to come, a scalar; the only leaf without a batch in front.
    visible: [B, L], which encoder positions may be attended to.
    layers: A `LayerCache` for each layer, see `model.stack`.
    ahead: How many positions what stands in front of the targets has.
  """

  index: Array
  visible: Array
  layers: Any
  ahead: int = struct.field(pytree_node=False, default=0)


Attend = Callable[[Float[Array, "B T D"]], Float[Array, "B T V"]]
"""Takes the product with every row of the embedding table, float32."""
Logits = Callable[[Float[Array, "B T D"]], Float[Array, "B T V"]]
"""Takes the logits of what the stack gave, float32."""


class DecoderLayer(nn.Module):
  """Causal self-attention, attention to the encoder, feed-forward."""

  config: T5Config
  method: Method | None = None

  def setup(self):
    """Declares the sub-layers under T5X's names."""
    config = self.config
    self.pre_self_attention_layer_norm = layer_norm(config)
    self.self_attention = Attention(config, self.method)
    self.pre_cross_attention_layer_norm = layer_norm(config)
    self.encoder_decoder_attention = Attention(config, self.method)
    self.pre_mlp_layer_norm = layer_norm(config)
    self.mlp = MLP(config, self.method)

  def __call__(
    self,
    x: Float[Array, "B T D"],
    prompt: Ahead | None,
    encoded: Float[Array, "B L D"],
    mask: Bool[Array, "#B 1 T T"],
    cross_mask: Bool[Array, "B 1 #T L"],
    bias: Float[Array, "#B H T T"],
    past_bias: Float[Array, "#B H T P"] | None,
    rows: Int[Array, " B"] | None,
    deterministic: bool,
  ) -> tuple[Float[Array, "B T D"], None]:
    """Returns the residual stream of all positions after this layer."""
    ahead = Ahead(None, None) if prompt is None else of_rows(prompt, rows)
    y = self.pre_self_attention_layer_norm(x)
    y = self.self_attention(
      y,
      self.self_attention.keys_values(y),
      mask=mask,
      bias=bias,
      prompt=ahead.past,
      prompt_bias=past_bias,
      deterministic=deterministic,
    )
    x = x + dropout(self, y, deterministic=deterministic)
    y = self.pre_cross_attention_layer_norm(x)
    y = self.encoder_decoder_attention(
      y,
      self.encoder_decoder_attention.keys_values(encoded),
      mask=cross_mask,
      prompt=ahead.cross,
      deterministic=deterministic,
    )
    x = x + dropout(self, y, deterministic=deterministic)
    y = self.mlp(self.pre_mlp_layer_norm(x), deterministic=deterministic)
    return x + dropout(self, y, deterministic=deterministic), None

  def cross_keys_values(
    self, carry: None, own: None, encoded: Float[Array, "B L D"]
  ) -> tuple[None, KeysValues]:
    """Returns what this layer's targets read of the encoder's output."""
    return carry, self.encoder_decoder_attention.keys_values(encoded)

  def decode_step(
    self,
    x: Float[Array, "B 1 D"],
    cache: LayerCache,
    index: Int[Array, ""],
    visible: Bool[Array, "B 1 1 L"],
    bias: Float[Array, "1 H 1 T"],
    past_bias: Float[Array, "1 H 1 P"] | None,
  ) -> tuple[Float[Array, "B 1 D"], LayerCache]:
    """Returns the residual stream of one position, and the grown cache."""
    y = self.pre_self_attention_layer_norm(x)
    past = jax.tree.map(
      lambda kept, new: jax.lax.dynamic_update_slice_in_dim(
        kept, new, index, axis=1
      ),
      cache.past,
      self.self_attention.keys_values(y),
    )
    written = jnp.arange(past.keys.shape[1])[None, None, None, :] <= index
    x = x + self.self_attention(
      y,
      past,
      mask=written,
      bias=bias,
      prompt=cache.ahead,
      prompt_bias=past_bias,
    )
    y = self.pre_cross_attention_layer_norm(x)
    x = x + self.encoder_decoder_attention(y, cache.encoded, mask=visible)
    x = x + self.mlp(self.pre_mlp_layer_norm(x), deterministic=True)
    return x, dataclasses.replace(cache, past=past)


class Decoder(nn.Module):
  """A stack of decoder layers and, unless tied, the logits' projection."""

  config: T5Config
  method: Method | None = None

  def setup(self):
    """Declares the stack under T5X's names."""
    config = self.config
    self.relpos_bias = RelativePositionBias(config, bidirectional=False)
    self.layers = make_layers(
      DecoderLayer,
      config,
      num_layers=config.num_decoder_layers,
      methods={"__call__": 7, "cross_keys_values": 1, "decode_step": 4},
      static=(6,),
      method=self.method,
    )
    self.decoder_norm = layer_norm(config)
    if not config.tie_embeddings:
      # Logits are float32 in every T5, whatever the activations are.
      self.logits_dense = Projection(
        features=config.vocab_size,
        axes=("embed", "vocab"),
        dtype=jnp.dtype("float32"),
      )

  def logits(
    self, x: Float[Array, "B T D"], attend: Attend | None
  ) -> Float[Array, "B T V"]:
    """Returns float32 logits of what the stack gave.

    Args:
      x: Normalised.
      attend: Where logits are tied to the embeddings.
    """
    if attend is None:
      return self.logits_dense(x)
    return attend(x.astype(jnp.float32) * self.config.embed_dim**-0.5)

  def __call__(
    self,
    x: Float[Array, "B T D"],
    encoded: Float[Array, "B L D"],
    *,
    mask: Bool[Array, "#B 1 T T"],
    cross_mask: Bool[Array, "B 1 #T L"],
    positions: Int[Array, "#B T"],
    prompt: CompiledPrompt | None,
    deterministic: bool,
  ) -> Float[Array, "B T D"]:
    """Returns what logits are taken from at all positions, teacher forced."""
    bias = self.relpos_bias(positions, positions)
    own = rows = past_bias = None
    if prompt is not None:
      own, rows = _ahead(prompt), prompt.rows
      if _num_ahead(prompt):
        past_bias = self.relpos_bias(positions, prompt.positions)
    x = dropout(self, x, deterministic=deterministic)
    x, _ = run_layers(
      self.layers,
      "__call__",
      x,
      own,
      encoded,
      mask,
      cross_mask,
      bias,
      past_bias,
      rows,
      deterministic,
    )
    return dropout(self, self.decoder_norm(x), deterministic=deterministic)

  def cross_keys_values(self, encoded: Float[Array, "B L D"]) -> Any:
    """Returns what targets read of the encoder's output in every layer."""
    _, read = run_layers(self.layers, "cross_keys_values", None, None, encoded)
    return read

  def start_cache(
    self,
    encoded: Float[Array, "B L D"],
    visible: Bool[Array, "B L"],
    *,
    prompt: CompiledPrompt | None,
    max_decode_length: int,
  ) -> Cache:
    """Returns the cache of a decoder that has read nothing yet."""
    read = self.cross_keys_values(encoded)
    past = None if prompt is None else prompt.past
    if prompt is not None and prompt.cross is not None:
      ahead = jnp.ones((visible.shape[0], prompt.length), visible.dtype)
      visible = jnp.concatenate([ahead, visible], axis=1)
      read = jax.tree.map(
        _put_in_front, of_rows(prompt.cross, prompt.rows), read
      )

    def empty(
      encoded: KeysValues, ahead: KeysValues | None = None
    ) -> LayerCache:
      *batch, _, num_heads, head_dim = encoded.keys.shape
      shape = (*batch, max_decode_length, num_heads, head_dim)
      zeros = jnp.zeros(shape, encoded.keys.dtype)
      if ahead is not None:
        # A cache has the batch in front of all it holds.
        ahead = jax.tree.map(
          lambda x: jnp.broadcast_to(x, (batch[0], *x.shape[1:])), ahead
        )
      return LayerCache(KeysValues(zeros, zeros), encoded, ahead)

    return Cache(
      index=jnp.zeros((), jnp.int32),
      visible=visible,
      layers=jax.tree.map(
        empty,
        read,
        *([] if past is None else [past]),
        is_leaf=lambda x: isinstance(x, KeysValues),
      ),
      ahead=0 if prompt is None else _num_ahead(prompt),
    )

  def decode_step(
    self,
    x: Float[Array, "B 1 D"],
    logits_of: Logits,
    cache: Cache,
  ) -> tuple[Float[Array, "B V"], Cache]:
    """Returns the logits that follow one position, and the grown cache."""
    length = jax.tree.leaves(
      cache.layers, is_leaf=lambda x: isinstance(x, LayerCache)
    )[0].past.keys.shape[-3]
    bias = self.relpos_bias(
      cache.index[None, None], jnp.arange(length, dtype=jnp.int32)[None]
    )
    past_bias = None
    if cache.ahead:
      ahead = jnp.arange(-cache.ahead, 0, dtype=jnp.int32)[None]
      past_bias = self.relpos_bias(cache.index[None, None], ahead)
    x, layers = run_layers(
      self.layers,
      "decode_step",
      x,
      cache.layers,
      cache.index,
      cache.visible[:, None, None, :],
      bias,
      past_bias,
    )
    logits = logits_of(self.decoder_norm(x))[:, 0]
    return logits, dataclasses.replace(
      cache, index=cache.index + 1, layers=layers
    )


def _num_ahead(prompt: CompiledPrompt) -> int:
  """Returns how many positions targets have in front of them."""
  has = prompt.past is not None and prompt.has_positions
  return prompt.length if has else 0


def _ahead(prompt: CompiledPrompt) -> Any:
  """Returns what each decoder layer reads of a prompt, see `model.stack`."""
  parts = (prompt.cross, prompt.past)
  given = [part for part in parts if part is not None]
  if not given:
    return None
  if not isinstance(given[0], tuple):
    return Ahead(*parts)
  nothing = (None,) * len(given[0])
  return tuple(map(Ahead, *(part or nothing for part in parts)))


def _put_in_front(prompt: Array, own: Array) -> Array:
  """Joins [1 or B, ..., P, H, K] and [B, ..., L, H, K]."""
  shape = (*own.shape[:-3], *prompt.shape[-3:])
  return jnp.concatenate([jnp.broadcast_to(prompt, shape), own], axis=-3)
