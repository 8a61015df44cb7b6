"""T5, the encoder-decoder that prompts are tuned for (Raffel et al., 2020).

Parameters carry the names and shapes of T5X, so that public checkpoints map one
to one. Differences from T5X's network: soft prompts are token ids at or above
`vocab_size`, or keys and values that all inputs read; decoding passes its cache
as a value instead of a mutable collection; padded queries are not masked,
because no result depends on them.
"""

import dataclasses
from typing import Any, TypeGuard

import jax
from flax import linen as nn
from flax import traverse_util
from jax import numpy as jnp

from prompt_tuning.model.compiled_prompt import CompiledPrompt
from prompt_tuning.model.config import T5Config
from prompt_tuning.model.decoder import Attend, Cache, Decoder
from prompt_tuning.model.encoder import Encoder
from prompt_tuning.model.method import Method
from prompt_tuning.model.quantization import (
  product,
  scales_of,
  with_scale_axes,
)
from prompt_tuning.model.sharding import ActivationSharding
from prompt_tuning.model.stack import stack_layers
from prompt_tuning.prompts.module import Prompt, PromptAttention, PromptBank
from prompt_tuning.types import PAD_ID, Array, Float, Int, Params


class TokenEmbedder(nn.Module):
  """The embedding table, `embedding` [V, D].

  A frozen one may be int8, with `embedding_scale` [V] beside it.
  """

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
    self.scales = scales_of(self, "embedding", self.embedding)

  def __call__(self, ids: Int[Array, "*shape"]) -> Float[Array, "*shape D"]:
    """Returns the rows of `ids`; an id outside the table becomes NaN."""

    def rows_of(array, fill_value):
      return jnp.take(array, ids, axis=0, mode="fill", fill_value=fill_value)

    if self.scales is None:
      rows = rows_of(self.embedding, jnp.nan)
    else:
      # No integer is NaN, but a scale may be.
      rows = rows_of(self.embedding, 0).astype(jnp.float32)
      rows = rows * rows_of(self.scales, jnp.nan)[..., None]
    return rows.astype(self.config.jax_dtype)

  def attend(self, x: Float[Array, "B T D"]) -> Float[Array, "B T V"]:
    """Returns the product of `x` with every row, float32."""
    return product(x, self.embedding.T, self.scales, dtype=jnp.dtype("float32"))


class T5(nn.Module):
  """The whole model; `prompt` embeds the ids that the table does not hold.

  Attributes:
    config: The model's shape.
    prompt: Soft prompts, or None for the bare model, on which a slot becomes
      NaN.
    sharding: Where activations are held on a mesh that cuts the sequence.
    method: What is trained inside of the layers, None for nothing.
  """

  config: T5Config
  prompt: Prompt | PromptBank | None = None
  sharding: ActivationSharding | None = None
  method: Method | None = None

  def setup(self):
    """Declares the three parts under T5X's names."""
    self.token_embedder = TokenEmbedder(self.config)
    self.encoder = Encoder(self.config, self.sharding, self.method)
    self.decoder = Decoder(self.config, self.method)
    method = self.method
    self.prefix = None if method is None else method.prefix(self.config)
    self.head = None if method is None else method.head(self.config)

  @property
  def num_prompts(self) -> int:
    """N, how many prompts an example may name; 1 also without any."""
    return 1 if self.prompt is None else self.prompt.num_prompts

  def embed(self, ids: Int[Array, "B L"]) -> Float[Array, "B L D"]:
    """Returns the embeddings of tokens and slots."""
    if self.prompt is None or is_apart(self.prompt):
      return self.token_embedder(ids)
    vocab_size = self.config.vocab_size
    is_slot = ids >= vocab_size
    tokens = self.token_embedder(jnp.where(is_slot, PAD_ID, ids))
    if self.prompt.num_slots == 0:
      return tokens
    slots = self.prompt(jnp.where(is_slot, ids - vocab_size, 0))
    return jnp.where(is_slot[..., None], slots.astype(tokens.dtype), tokens)

  def compile_prompt(
    self, *, deterministic: bool = True
  ) -> CompiledPrompt | None:
    """Returns what inputs read of a prompt that attends to itself alone.

    It is what `encode`, `decode` and `start_cache` take as `prompt`: None where
    slots stand among the tokens, or where there is no prompt. The prefixes of a
    method stand for such a prompt.

    Raises:
      ValueError: There are both.
    """
    if self.prefix is not None:
      if is_apart(self.prompt):
        raise ValueError(
          "The model has both the prefixes of a method and a soft prompt that "
          "attends to itself alone (prompt_attention is 'prefix'), which would "
          "stand in the same place: set PROMPT_ATTENTION to 'full', or PROMPT "
          "to None."
        )
      return self.prefix()
    if not is_apart(self.prompt):
      return None
    x = self.prompt.vectors().astype(self.config.jax_dtype)
    encoded, read = self.encoder(
      x,
      mask=jnp.ones((1, 1, 1, x.shape[1]), bool),
      positions=jnp.arange(x.shape[1], dtype=jnp.int32)[None],
      slots=self._slots_apart(x),
      deterministic=deterministic,
      is_read=True,
    )
    return CompiledPrompt(
      encoder=read, cross=self.decoder.cross_keys_values(encoded)
    )

  def encode(
    self,
    encoder_input_tokens: Int[Array, "B L"],
    *,
    segment_ids: Int[Array, "B L"] | None = None,
    positions: Int[Array, "B L"] | None = None,
    prompt: CompiledPrompt | None = None,
    deterministic: bool = True,
  ) -> Float[Array, "B L D"]:
    """Returns the encoder's output; padded positions hold arbitrary values."""
    self._check_compiled(prompt, encoder_input_tokens)
    tokens = encoder_input_tokens
    encoded, _ = self.encoder(
      self.embed(tokens),
      mask=_visible(tokens, segment_ids, segment_ids),
      positions=_positions(tokens, positions),
      slots=self._slots(tokens),
      prompt=prompt,
      deterministic=deterministic,
    )
    return encoded

  def _slots(self, tokens: Int[Array, "B L"]) -> Int[Array, "B L"] | None:
    return None if self.method is None else tokens - self.config.vocab_size

  def _slots_apart(self, x: Float[Array, "N P D"]) -> Int[Array, "N P"] | None:
    if self.method is None:
      return None
    num_prompts, length, _ = x.shape
    slots = jnp.arange(num_prompts * length, dtype=jnp.int32)
    return slots.reshape(num_prompts, length)

  def _check_compiled(
    self, prompt: CompiledPrompt | None, tokens: Int[Array, "B L"]
  ) -> None:
    if prompt is not None:
      prompt.check_rows(tokens.shape[0])
    elif is_apart(self.prompt):
      raise ValueError(
        "This prompt attends to itself alone (prompt_attention is 'prefix'), "
        "so it is no part of the tokens: pass what compile_prompt() returns as "
        "`prompt`."
      )
    elif self.prefix is not None:
      raise ValueError(
        "The prefixes of this model's method are no part of the tokens: pass "
        "what compile_prompt() returns as `prompt`."
      )

  def logits(self, hidden: Float[Array, "B T D"]) -> Float[Array, "B T V"]:
    """Returns float32 logits of what `hidden` or `decode_hidden` returned."""
    logits = self.decoder.logits(hidden, self._attend())
    return logits if self.head is None else self.head(logits, hidden)

  def _attend(self) -> Attend | None:
    # Untied, the table need not be among the parameters.
    is_tied = self.config.tie_embeddings
    return self.token_embedder.attend if is_tied else None

  def decode(
    self,
    decoder_input_tokens: Int[Array, "B T"],
    encoded: Float[Array, "B L D"],
    encoder_input_tokens: Int[Array, "B L"],
    **settings: Any,
  ) -> Float[Array, "B T V"]:
    """Returns the logits of every target position, teacher forced.

    Args:
      decoder_input_tokens: Targets shifted right by one.
      encoded: What `encode` returned.
      encoder_input_tokens: Of which.
      **settings: Of `decode_hidden`.
    """
    return self.logits(
      self.decode_hidden(
        decoder_input_tokens, encoded, encoder_input_tokens, **settings
      )
    )

  def decode_hidden(
    self,
    decoder_input_tokens: Int[Array, "B T"],
    encoded: Float[Array, "B L D"],
    encoder_input_tokens: Int[Array, "B L"],
    *,
    decoder_segment_ids: Int[Array, "B T"] | None = None,
    encoder_segment_ids: Int[Array, "B L"] | None = None,
    decoder_positions: Int[Array, "B T"] | None = None,
    prompt: CompiledPrompt | None = None,
    deterministic: bool = True,
  ) -> Float[Array, "B T D"]:
    """Returns what the logits of every target position are taken from."""
    self._check_compiled(prompt, decoder_input_tokens)
    tokens = decoder_input_tokens
    steps = jnp.arange(tokens.shape[1])
    mask = (steps[:, None] >= steps[None, :])[None, None]  # [1, 1, T, T]
    if decoder_segment_ids is not None:
      mask = mask & _same_segment(decoder_segment_ids, decoder_segment_ids)
    return self.decoder(
      self.embed(tokens),
      encoded,
      mask=mask,
      cross_mask=_visible(
        encoder_input_tokens, decoder_segment_ids, encoder_segment_ids
      ),
      positions=_positions(tokens, decoder_positions),
      prompt=prompt,
      deterministic=deterministic,
    )

  def __call__(
    self,
    encoder_input_tokens: Int[Array, "B L"],
    decoder_input_tokens: Int[Array, "B T"],
    **settings: Any,
  ) -> Float[Array, "B T V"]:
    """Returns float32 logits of every target position, teacher forced.

    Args:
      encoder_input_tokens: Tokens and slots, padded on the right with 0.
      decoder_input_tokens: Targets shifted right by one, the first is 0.
      **settings: Of `hidden`.
    """
    return self.logits(
      self.hidden(encoder_input_tokens, decoder_input_tokens, **settings)
    )

  def hidden(
    self,
    encoder_input_tokens: Int[Array, "B L"],
    decoder_input_tokens: Int[Array, "B T"],
    *,
    encoder_segment_ids: Int[Array, "B L"] | None = None,
    encoder_positions: Int[Array, "B L"] | None = None,
    decoder_segment_ids: Int[Array, "B T"] | None = None,
    decoder_positions: Int[Array, "B T"] | None = None,
    prompt_index: Int[Array, " B"] | None = None,
    deterministic: bool = True,
  ) -> Float[Array, "B T D"]:
    """Returns what the logits of every target position are taken from.

    Args:
      encoder_input_tokens: Tokens and slots, padded on the right with 0.
      decoder_input_tokens: Targets shifted right by one, the first is 0.
      encoder_segment_ids: For packed rows, the segment of each position.
      encoder_positions: For packed rows, positions within the segment.
      decoder_segment_ids: As `encoder_segment_ids`, for the targets.
      decoder_positions: As `encoder_positions`, for the targets.
      prompt_index: Which prompt each row reads, of a bank whose slots do not
        stand among the tokens.
      deterministic: False in training, which needs the `dropout` stream.
    """
    prompt = self.compile_prompt(deterministic=deterministic)
    if prompt is not None:
      prompt = prompt.for_rows(prompt_index)
    encoded = self.encode(
      encoder_input_tokens,
      segment_ids=encoder_segment_ids,
      positions=encoder_positions,
      prompt=prompt,
      deterministic=deterministic,
    )
    return self.decode_hidden(
      decoder_input_tokens,
      encoded,
      encoder_input_tokens,
      decoder_segment_ids=decoder_segment_ids,
      encoder_segment_ids=encoder_segment_ids,
      decoder_positions=decoder_positions,
      prompt=prompt,
      deterministic=deterministic,
    )

  def start_cache(
    self,
    encoded: Float[Array, "B L D"],
    encoder_input_tokens: Int[Array, "B L"],
    *,
    prompt: CompiledPrompt | None = None,
    max_decode_length: int,
  ) -> Cache:
    """Returns the cache from which `decode_step` starts."""
    self._check_compiled(prompt, encoder_input_tokens)
    return self.decoder.start_cache(
      encoded,
      encoder_input_tokens != PAD_ID,
      prompt=prompt,
      max_decode_length=max_decode_length,
    )

  def decode_step(
    self, tokens: Int[Array, " B"], cache: Cache
  ) -> tuple[Float[Array, "B V"], Cache]:
    """Reads one token of each example; returns the next one's logits."""
    return self.decoder.decode_step(
      self.embed(tokens[:, None]), self.logits, cache
    )


def is_apart(
  prompt: Prompt | PromptBank | None,
) -> TypeGuard[Prompt | PromptBank]:
  """Says whether a prompt is computed apart from the inputs."""
  if prompt is None or prompt.num_slots == 0:
    return False
  return prompt.attention is PromptAttention.PREFIX


def logits_params(config: T5Config, params: Params) -> Params:
  """Returns the part of a model's parameters that `T5.logits` reads."""
  head = {"head": params["head"]} if "head" in params else {}
  if config.tie_embeddings:
    return {"token_embedder": params["token_embedder"], **head}
  dense = params["decoder"]["logits_dense"]
  return {"decoder": {"logits_dense": dense}, **head}


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
  first = jnp.zeros((1,), jnp.int32)
  return model.init({"params": rng}, tokens, tokens, prompt_index=first)[
    "params"
  ]


def init_params(model: T5, rng: jax.Array) -> Params:
  """Returns freshly initialised parameters, a nested dictionary."""
  return nn.meta.unbox(_init_boxed(model, rng))


def abstract_params(model: T5) -> Params:
  """Returns the shapes and types of the parameters, at no cost."""
  return jax.eval_shape(lambda: init_params(model, jax.random.key(0)))


def method_params(model: T5, rng: jax.Array) -> Params:
  """Returns fresh parameters of a model's method alone, a nested dictionary.

  They are the same whether layers are scanned or not, but for being stacked.
  Nothing is made of the weights around them.

  Args:
    model: The network; its prompt's parameters are not among those returned.
    rng: Key of their initialisers.
  """
  if model.method is None:
    return {}
  config = dataclasses.replace(model.config, scan_layers=False)
  whole = T5(config, method=model.method)
  known = traverse_util.flatten_dict(abstract_params(T5(config)))

  def own(rng):
    flat = traverse_util.flatten_dict(init_params(whole, rng))
    return {path: leaf for path, leaf in flat.items() if path not in known}

  # What is not returned is not computed.
  params = traverse_util.unflatten_dict(jax.jit(own)(rng))
  return stack_layers(params) if model.config.scan_layers else params


def logical_axes(model: T5) -> Params:
  """Returns the logical axis names of every parameter, as tuples.

  Scales are among them, which a matrix has only where it is kept in int8.
  """
  boxed = jax.eval_shape(lambda: _init_boxed(model, jax.random.key(0)))
  axes = jax.tree.map(
    tuple, nn.get_partition_spec(boxed), is_leaf=lambda x: x is None
  )
  return with_scale_axes(axes)
