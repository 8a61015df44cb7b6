"""T5, the encoder-decoder that prompts are tuned for (Raffel et al., 2020).

Parameters carry the names and shapes of T5X, so that public checkpoints map one
to one. Differences from T5X's network: soft prompts are token ids at or above
`vocab_size`; decoding passes its cache as a value instead of a mutable
collection; padded queries are not masked, because no result depends on them.
"""

import dataclasses
from typing import Any

import jax
from flax import linen as nn
from flax import struct
from jax import numpy as jnp

from prompt_tuning.model.attention import Attention, RelativePositionBias
from prompt_tuning.model.config import T5Config
from prompt_tuning.model.layers import MLP, Projection, RMSNorm, dropout
from prompt_tuning.prompts.module import Prompt, PromptBank
from prompt_tuning.types import PAD_ID, Array, Bool, Float, Int, Params


@struct.dataclass
class LayerCache:
  """Keys and values of one decoder layer.

  Attributes:
    self_keys: [B, T, H, K], filled up to the current step.
    self_values: [B, T, H, K].
    cross_keys: [B, L, H, K], of the encoder's output.
    cross_values: [B, L, H, K].
  """

  self_keys: Array
  self_values: Array
  cross_keys: Array
  cross_values: Array


@struct.dataclass
class Cache:
  """What a decoder keeps between two steps.

  Attributes:
    index: The step to come, a scalar; the only leaf without a batch in front.
    visible: [B, L], which encoder positions may be attended to.
    layers: One entry a decoder layer.
  """

  index: Array
  visible: Array
  layers: tuple[LayerCache, ...]


class EncoderLayer(nn.Module):
  """Self-attention and feed-forward, each on a normalised residual stream."""

  config: T5Config

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "B L D"],
    *,
    mask: Bool[Array, "B 1 #L L"],
    bias: Float[Array, "#B H L L"],
    deterministic: bool,
  ) -> Float[Array, "B L D"]:
    """Returns the residual stream after this layer."""
    config = self.config
    y = _norm(config, "pre_attention_layer_norm")(x)
    y = Attention(config, name="attention")(
      y, y, mask=mask, bias=bias, deterministic=deterministic
    )
    x = x + dropout(self, y, deterministic=deterministic)
    y = _norm(config, "pre_mlp_layer_norm")(x)
    y = MLP(config, name="mlp")(y, deterministic=deterministic)
    return x + dropout(self, y, deterministic=deterministic)


class Encoder(nn.Module):
  """A stack of encoder layers with one relative position bias."""

  config: T5Config

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "B L D"],
    *,
    mask: Bool[Array, "B 1 #L L"],
    positions: Int[Array, "#B L"],
    deterministic: bool,
  ) -> Float[Array, "B L D"]:
    """Returns the encoded inputs."""
    config = self.config
    bias = RelativePositionBias(config, bidirectional=True, name="relpos_bias")(
      positions, positions
    )
    x = dropout(self, x, deterministic=deterministic)
    for layer in range(config.num_encoder_layers):
      x = EncoderLayer(config, name=f"layers_{layer}")(
        x, mask=mask, bias=bias, deterministic=deterministic
      )
    x = _norm(config, "encoder_norm")(x)
    return dropout(self, x, deterministic=deterministic)


class DecoderLayer(nn.Module):
  """Causal self-attention, attention to the encoder, feed-forward."""

  config: T5Config

  def setup(self):
    """Declares the sub-layers under T5X's names."""
    config = self.config
    self.pre_self_attention_layer_norm = _norm(config)
    self.self_attention = Attention(config)
    self.pre_cross_attention_layer_norm = _norm(config)
    self.encoder_decoder_attention = Attention(config)
    self.pre_mlp_layer_norm = _norm(config)
    self.mlp = MLP(config)

  def __call__(
    self,
    x: Float[Array, "B T D"],
    encoded: Float[Array, "B L D"],
    *,
    mask: Bool[Array, "#B 1 T T"],
    cross_mask: Bool[Array, "B 1 #T L"],
    bias: Float[Array, "#B H T T"],
    deterministic: bool,
  ) -> Float[Array, "B T D"]:
    """Returns the residual stream of all positions after this layer."""
    y = self.pre_self_attention_layer_norm(x)
    y = self.self_attention(
      y, y, mask=mask, bias=bias, deterministic=deterministic
    )
    x = x + dropout(self, y, deterministic=deterministic)
    y = self.pre_cross_attention_layer_norm(x)
    y = self.encoder_decoder_attention(
      y, encoded, mask=cross_mask, deterministic=deterministic
    )
    x = x + dropout(self, y, deterministic=deterministic)
    y = self.mlp(self.pre_mlp_layer_norm(x), deterministic=deterministic)
    return x + dropout(self, y, deterministic=deterministic)

  def start_cache(
    self, encoded: Float[Array, "B L D"], *, max_decode_length: int
  ) -> LayerCache:
    """Returns an empty cache that holds the keys and values of `encoded`."""
    keys, values = self.encoder_decoder_attention.keys_values(encoded)
    shape = (keys.shape[0], max_decode_length, *keys.shape[2:])
    empty = jnp.zeros(shape, keys.dtype)
    return LayerCache(
      self_keys=empty, self_values=empty, cross_keys=keys, cross_values=values
    )

  def decode_step(
    self,
    x: Float[Array, "B 1 D"],
    cache: LayerCache,
    *,
    index: Int[Array, ""],
    visible: Bool[Array, "B 1 1 L"],
    bias: Float[Array, "1 H 1 T"],
  ) -> tuple[Float[Array, "B 1 D"], LayerCache]:
    """Returns the residual stream of one position, and the grown cache."""
    y = self.pre_self_attention_layer_norm(x)
    key, value = self.self_attention.keys_values(y)
    put = jax.lax.dynamic_update_slice_in_dim
    keys = put(cache.self_keys, key, index, axis=1)
    values = put(cache.self_values, value, index, axis=1)
    past = jnp.arange(keys.shape[1])[None, None, None, :] <= index
    x = x + self.self_attention.attend(y, keys, values, mask=past, bias=bias)
    y = self.pre_cross_attention_layer_norm(x)
    x = x + self.encoder_decoder_attention.attend(
      y, cache.cross_keys, cache.cross_values, mask=visible
    )
    x = x + self.mlp(self.pre_mlp_layer_norm(x), deterministic=True)
    return x, dataclasses.replace(cache, self_keys=keys, self_values=values)


class Decoder(nn.Module):
  """A stack of decoder layers and, unless tied, the logits' projection."""

  config: T5Config

  def setup(self):
    """Declares the stack under T5X's names."""
    config = self.config
    self.relpos_bias = RelativePositionBias(config, bidirectional=False)
    self.layers = [
      DecoderLayer(config) for _ in range(config.num_decoder_layers)
    ]
    self.decoder_norm = _norm(config)
    if not config.tie_embeddings:
      # Logits are float32 in every T5, whatever the activations are.
      self.logits_dense = Projection(
        features=config.vocab_size,
        axes=("embed", "vocab"),
        dtype=jnp.dtype("float32"),
      )

  def _logits(self, x, table, *, deterministic=True):
    x = dropout(self, self.decoder_norm(x), deterministic=deterministic)
    if not self.config.tie_embeddings:
      return self.logits_dense(x)
    x = x.astype(jnp.float32) * self.config.embed_dim**-0.5
    return x @ table.astype(jnp.float32).T

  def __call__(
    self,
    x: Float[Array, "B T D"],
    encoded: Float[Array, "B L D"],
    table: Float[Array, "V D"],
    *,
    mask: Bool[Array, "#B 1 T T"],
    cross_mask: Bool[Array, "B 1 #T L"],
    positions: Int[Array, "#B T"],
    deterministic: bool,
  ) -> Float[Array, "B T V"]:
    """Returns the logits of all positions, teacher forced."""
    bias = self.relpos_bias(positions, positions)
    x = dropout(self, x, deterministic=deterministic)
    for layer in self.layers:
      x = layer(
        x,
        encoded,
        mask=mask,
        cross_mask=cross_mask,
        bias=bias,
        deterministic=deterministic,
      )
    return self._logits(x, table, deterministic=deterministic)

  def start_cache(self, encoded, visible, *, max_decode_length):
    """Returns the cache of a decoder that has read nothing yet."""
    return Cache(
      index=jnp.zeros((), jnp.int32),
      visible=visible,
      layers=tuple(
        layer.start_cache(encoded, max_decode_length=max_decode_length)
        for layer in self.layers
      ),
    )

  def decode_step(
    self, x: Float[Array, "B 1 D"], table: Float[Array, "V D"], cache: Cache
  ) -> tuple[Float[Array, "B V"], Cache]:
    """Returns the logits that follow one position, and the grown cache."""
    length = cache.layers[0].self_keys.shape[1]
    bias = self.relpos_bias(
      cache.index[None, None], jnp.arange(length, dtype=jnp.int32)[None]
    )
    visible = cache.visible[:, None, None, :]
    layers = []
    for layer, layer_cache in zip(self.layers, cache.layers, strict=True):
      x, layer_cache = layer.decode_step(
        x, layer_cache, index=cache.index, visible=visible, bias=bias
      )
      layers.append(layer_cache)
    logits = self._logits(x, table)[:, 0]
    return logits, dataclasses.replace(
      cache, index=cache.index + 1, layers=tuple(layers)
    )


class TokenEmbedder(nn.Module):
  """The embedding table, `embedding` [V, D]."""

  config: T5Config

  def setup(self):
    """Declares the table."""
    # Flax takes the box with the axis names off.
    self.embedding: Any = self.param(
      "embedding",
      nn.with_logical_partitioning(
        nn.initializers.normal(1.0), ("vocab", "embed")
      ),
      (self.config.vocab_size, self.config.embed_dim),
      jnp.float32,
    )

  def __call__(self, ids: Int[Array, "*shape"]) -> Float[Array, "*shape D"]:
    """Returns the rows of `ids`; an id outside the table becomes NaN."""
    rows = jnp.take(
      self.embedding, ids, axis=0, mode="fill", fill_value=jnp.nan
    )
    return rows.astype(self.config.jax_dtype)


class T5(nn.Module):
  """The whole model; `prompt` embeds the ids that the table does not hold.

  Attributes:
    config: The model's shape.
    prompt: Soft prompts, or None for the bare model, on which a slot becomes
      NaN.
  """

  config: T5Config
  prompt: Prompt | PromptBank | None = None

  def setup(self):
    """Declares the three parts under T5X's names."""
    self.token_embedder = TokenEmbedder(self.config)
    self.encoder = Encoder(self.config)
    self.decoder = Decoder(self.config)

  @property
  def num_prompts(self) -> int:
    """N, how many prompts an example may name; 1 also without any."""
    return 1 if self.prompt is None else self.prompt.num_prompts

  def embed(self, ids: Int[Array, "B L"]) -> Float[Array, "B L D"]:
    """Returns the embeddings of tokens and slots."""
    if self.prompt is None:
      return self.token_embedder(ids)
    vocab_size = self.config.vocab_size
    is_slot = ids >= vocab_size
    tokens = self.token_embedder(jnp.where(is_slot, PAD_ID, ids))
    if self.prompt.num_slots == 0:
      return tokens
    slots = self.prompt(jnp.where(is_slot, ids - vocab_size, 0))
    return jnp.where(is_slot[..., None], slots.astype(tokens.dtype), tokens)

  def encode(
    self,
    encoder_input_tokens: Int[Array, "B L"],
    *,
    segment_ids: Int[Array, "B L"] | None = None,
    positions: Int[Array, "B L"] | None = None,
    deterministic: bool = True,
  ) -> Float[Array, "B L D"]:
    """Returns the encoder's output; padded positions hold arbitrary values."""
    tokens = encoder_input_tokens
    return self.encoder(
      self.embed(tokens),
      mask=_visible(tokens, segment_ids, segment_ids),
      positions=_positions(tokens, positions),
      deterministic=deterministic,
    )

  def decode(
    self,
    decoder_input_tokens: Int[Array, "B T"],
    encoded: Float[Array, "B L D"],
    encoder_input_tokens: Int[Array, "B L"],
    *,
    decoder_segment_ids: Int[Array, "B T"] | None = None,
    encoder_segment_ids: Int[Array, "B L"] | None = None,
    decoder_positions: Int[Array, "B T"] | None = None,
    deterministic: bool = True,
  ) -> Float[Array, "B T V"]:
    """Returns the logits of every target position, teacher forced."""
    tokens = decoder_input_tokens
    steps = jnp.arange(tokens.shape[1])
    mask = (steps[:, None] >= steps[None, :])[None, None]  # [1, 1, T, T]
    if decoder_segment_ids is not None:
      mask = mask & _same_segment(decoder_segment_ids, decoder_segment_ids)
    return self.decoder(
      self.embed(tokens),
      encoded,
      self.token_embedder.embedding,
      mask=mask,
      cross_mask=_visible(
        encoder_input_tokens, decoder_segment_ids, encoder_segment_ids
      ),
      positions=_positions(tokens, decoder_positions),
      deterministic=deterministic,
    )

  def __call__(
    self,
    encoder_input_tokens: Int[Array, "B L"],
    decoder_input_tokens: Int[Array, "B T"],
    *,
    encoder_segment_ids: Int[Array, "B L"] | None = None,
    encoder_positions: Int[Array, "B L"] | None = None,
    decoder_segment_ids: Int[Array, "B T"] | None = None,
    decoder_positions: Int[Array, "B T"] | None = None,
    deterministic: bool = True,
  ) -> Float[Array, "B T V"]:
    """Returns float32 logits of every target position, teacher forced.

    Args:
      encoder_input_tokens: Tokens and slots, padded on the right with 0.
      decoder_input_tokens: Targets shifted right by one, the first is 0.
      encoder_segment_ids: For packed rows, the segment of each position.
      encoder_positions: For packed rows, positions within the segment.
      decoder_segment_ids: As `encoder_segment_ids`, for the targets.
      decoder_positions: As `encoder_positions`, for the targets.
      deterministic: False in training, which needs the `dropout` stream.
    """
    encoded = self.encode(
      encoder_input_tokens,
      segment_ids=encoder_segment_ids,
      positions=encoder_positions,
      deterministic=deterministic,
    )
    return self.decode(
      decoder_input_tokens,
      encoded,
      encoder_input_tokens,
      decoder_segment_ids=decoder_segment_ids,
      encoder_segment_ids=encoder_segment_ids,
      decoder_positions=decoder_positions,
      deterministic=deterministic,
    )

  def start_cache(
    self,
    encoded: Float[Array, "B L D"],
    encoder_input_tokens: Int[Array, "B L"],
    *,
    max_decode_length: int,
  ) -> Cache:
    """Returns the cache from which `decode_step` starts."""
    return self.decoder.start_cache(
      encoded,
      encoder_input_tokens != PAD_ID,
      max_decode_length=max_decode_length,
    )

  def decode_step(
    self, tokens: Int[Array, " B"], cache: Cache
  ) -> tuple[Float[Array, "B V"], Cache]:
    """Reads one token of each example; returns the next one's logits."""
    return self.decoder.decode_step(
      self.embed(tokens[:, None]), self.token_embedder.embedding, cache
    )


def _norm(config: T5Config, name: str | None = None) -> RMSNorm:
  return RMSNorm(
    epsilon=config.layer_norm_epsilon, dtype=config.jax_dtype, name=name
  )


def _same_segment(queries, keys):
  return (queries[:, :, None] == keys[:, None, :])[:, None]


def _visible(keys, query_segments, key_segments):
  """Returns which keys may be seen, [B, 1, 1 or Q, M]."""
  mask = (keys != PAD_ID)[:, None, None, :]
  if query_segments is not None:
    mask = mask & _same_segment(query_segments, key_segments)
  return mask


def _positions(tokens, positions):
  if positions is not None:
    return positions
  return jnp.arange(tokens.shape[1], dtype=jnp.int32)[None]


def _init_boxed(model: T5, rng: jax.Array) -> Params:
  # A prompt's parameter exists only if a slot was embedded, which any input
  # does; the shapes of the inputs leave no trace in the parameters.
  tokens = jnp.zeros((1, 1), jnp.int32)
  return model.init({"params": rng}, tokens, tokens)["params"]


def init_params(model: T5, rng: jax.Array) -> Params:
  """Returns freshly initialised parameters, a nested dictionary."""
  return nn.meta.unbox(_init_boxed(model, rng))


def abstract_params(model: T5) -> Params:
  """Returns the shapes and types of the parameters, at no cost."""
  return jax.eval_shape(lambda: init_params(model, jax.random.key(0)))


def logical_axes(model: T5) -> Params:
  """Returns the logical axis names of every parameter, as tuples."""
  boxed = jax.eval_shape(lambda: _init_boxed(model, jax.random.key(0)))
  return jax.tree.map(
    tuple, nn.get_partition_spec(boxed), is_leaf=lambda x: x is None
  )
