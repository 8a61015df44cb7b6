"""Writing a sequence token by token: greedily or by sampling.

A decoder knows nothing of networks. It drives a *step*, a function that reads
one token of every example and returns the logits of the next one:

  step(tokens [B], cache) -> (logits [B, V], cache)

The cache is any pytree whose leaves have the batch in front, scalars excepted.
Logits are taken to float32 before anything is decided on them. They have one
column for each row of the embedding table, so a soft token, whose id lies above
it, can never be written. Beam search is in `decoding_beam`.
"""

from collections.abc import Callable
from typing import Any

import jax
from flax import struct
from jax import numpy as jnp

from prompt_tuning.types import EOS_ID, PAD_ID, Array, Bool, Float, Int

Cache = Any
"""A pytree; every leaf but scalars has the batch in front."""

Step = Callable[[Int[Array, " B"], Cache], tuple[Float[Array, "B V"], Cache]]
"""`(tokens, cache) -> (logits of the next token, cache)`."""

START_ID = PAD_ID
"""What the decoder of a T5 reads first."""


@struct.dataclass
class Decodes:
  """What a decoder wrote; N (the beams) is there for beam search alone.

  Attributes:
    tokens: int32 [B, T] or [B, N, T], up to and including the end of sequence,
      padding behind it. The start token is not part of it.
    scores: float32 [B] or [B, N], in nats; each decoder says of what.
  """

  tokens: Int[Array, "*BN T"]
  scores: Float[Array, "*BN"]


@struct.dataclass
class _State:
  """The carry of the decoding loop.

  Attributes:
    index: Number of tokens written, a scalar.
    last: The token to read next, [B].
    finished: Whether the end of sequence was written, [B].
    decodes: What was written so far.
    cache: The step's own.
  """

  index: Array
  last: Array
  finished: Array
  decodes: Decodes
  cache: Cache


def greedy(
  step: Step,
  cache: Cache,
  *,
  batch_size: int,
  max_decode_length: int,
  eos_id: int = EOS_ID,
) -> Decodes:
  """Writes the likeliest token at every position.

  Args:
    step: See the head of this module.
    cache: The cache before the first token.
    batch_size: B.
    max_decode_length: T, in tokens, the end of sequence included. A sequence
      that has not ended by then stays without it.
    eos_id: The token that ends a sequence.

  Returns:
    Tokens [B, T], and their summed log-likelihoods [B].
  """

  def likeliest(logits, index):
    del index
    return jnp.argmax(logits, axis=-1)

  return _write(
    step,
    cache,
    likeliest,
    batch_size=batch_size,
    max_decode_length=max_decode_length,
    eos_id=eos_id,
  )


def sample(
  step: Step,
  cache: Cache,
  *,
  rngs: jax.Array,
  batch_size: int,
  max_decode_length: int,
  temperature: float = 1.0,
  top_k: int = 0,
  top_p: float = 1.0,
  eos_id: int = EOS_ID,
) -> Decodes:
  """Draws every token from the model's distribution, or from its head.

  Args:
    step: See the head of this module.
    cache: The cache before the first token.
    rngs: Keys [B]; what a row draws depends on its own alone.
    batch_size: B.
    max_decode_length: T, in tokens, the end of sequence included.
    temperature: Divides the logits; 0 is `greedy`.
    top_k: If positive, draws only from that many likeliest tokens.
    top_p: If below 1, draws only from the nucleus, see `keep_likeliest`.
    eos_id: The token that ends a sequence.

  Returns:
    Tokens [B, T], and their summed log-likelihoods [B] under the model itself,
    at temperature 1 and with nothing masked, so that decodes drawn in different
    ways compare.

  Raises:
    ValueError: If temperature, top_k or top_p is outside its range.
  """
  check_sampling(temperature=temperature, top_k=top_k, top_p=top_p)

  def draw(logits, index):
    if temperature == 0:
      return jnp.argmax(logits, axis=-1)
    logits = keep_likeliest(logits / temperature, top_k=top_k, top_p=top_p)
    keys = jax.vmap(jax.random.fold_in, (0, None))(rngs, index)
    return jax.vmap(jax.random.categorical)(keys, logits)

  return _write(
    step,
    cache,
    draw,
    batch_size=batch_size,
    max_decode_length=max_decode_length,
    eos_id=eos_id,
  )


def check_sampling(*, temperature: float, top_k: int, top_p: float) -> None:
  """Raises a ValueError if a sampling parameter is outside its range."""
  if temperature < 0:
    raise ValueError(f"temperature must be at least 0, got {temperature!r}.")
  if top_k < 0:
    raise ValueError(
      f"top_k must be a number of tokens, or 0 for all, got {top_k!r}."
    )
  if not 0 < top_p <= 1:
    raise ValueError(
      "top_p must be a probability above 0 and at most 1 (1 for all tokens), "
      f"got {top_p!r}."
    )


def keep_likeliest(
  logits: Float[Array, "B V"], *, top_k: int = 0, top_p: float = 1.0
) -> Float[Array, "B V"]:
  """Masks all but the head of a distribution with minus infinity.

  The nucleus is the smallest set of likeliest tokens whose probabilities sum up
  to at least `top_p` (Holtzman et al., 2020, sec. 3.1); it has at least one
  token. With both arguments it is taken within the `top_k` tokens, after they
  were renormalised. Of equally likely tokens those with lower ids go first.

  Args:
    logits: [B, V].
    top_k: Number of tokens to keep; 0 keeps all.
    top_p: Probability to keep; 1 keeps all.
  """
  if not top_k and top_p == 1.0:
    return logits
  order = jnp.argsort(-logits, axis=-1, stable=True)
  ordered = jnp.take_along_axis(logits, order, axis=-1)
  keep = jnp.ones(logits.shape, bool)
  if top_k:
    keep = jnp.broadcast_to(jnp.arange(logits.shape[-1]) < top_k, keep.shape)
    ordered = jnp.where(keep, ordered, -jnp.inf)
  if top_p < 1.0:
    probabilities = jax.nn.softmax(ordered, axis=-1)
    before = jnp.cumsum(probabilities, axis=-1) - probabilities
    keep = keep & (before < top_p)
  return jnp.where(_unsort(keep, order), logits, -jnp.inf)


def _unsort(
  values: Bool[Array, "B V"], order: Int[Array, "B V"]
) -> Bool[Array, "B V"]:
  return jnp.take_along_axis(values, jnp.argsort(order, axis=-1), axis=-1)


def _write(
  step: Step,
  cache: Cache,
  choose: Callable[[Float[Array, "B V"], Int[Array, ""]], Int[Array, " B"]],
  *,
  batch_size: int,
  max_decode_length: int,
  eos_id: int,
) -> Decodes:
  """Writes what `choose(logits, index)` says until every row has ended."""

  def unfinished(state: _State):
    return (state.index < max_decode_length) & ~jnp.all(state.finished)

  def advance(state: _State) -> _State:
    logits, cache = step(state.last, state.cache)
    logits = logits.astype(jnp.float32)
    chosen = choose(logits, state.index).astype(jnp.int32)
    gains = jax.nn.log_softmax(logits, axis=-1)
    gains = jnp.take_along_axis(gains, chosen[:, None], axis=-1)[:, 0]
    written = jnp.where(state.finished, PAD_ID, chosen)
    return _State(
      index=state.index + 1,
      last=written,
      finished=state.finished | (written == eos_id),
      decodes=Decodes(
        tokens=state.decodes.tokens.at[:, state.index].set(written),
        scores=state.decodes.scores + jnp.where(state.finished, 0.0, gains),
      ),
      cache=cache,
    )

  first = _State(
    index=jnp.zeros((), jnp.int32),
    last=jnp.full((batch_size,), START_ID, jnp.int32),
    finished=jnp.zeros((batch_size,), bool),
    decodes=Decodes(
      tokens=jnp.full((batch_size, max_decode_length), PAD_ID, jnp.int32),
      scores=jnp.zeros((batch_size,), jnp.float32),
    ),
    cache=cache,
  )
  return jax.lax.while_loop(unfinished, advance, first).decodes
