"""Beam search with the length penalty of T5.

Differences from T5X's beam search: an example whose beams can no longer improve
is known sooner, which changes no result; a slot that no hypothesis ever filled
has a score of minus infinity and nothing but padding; what the step hands
through unchanged (keys and values of the encoder) is not gathered again.
"""

import dataclasses

import jax
from flax import struct
from jax import numpy as jnp

from prompt_tuning.model.decoding import START_ID, Cache, Decodes, Step
from prompt_tuning.types import EOS_ID, PAD_ID, Array, Float, Int


@struct.dataclass
class _Hypotheses:
  """N sequences for each example, best first.

  Attributes:
    tokens: [B, N, T].
    scores: [B, N]; minus infinity where a slot is empty.
  """

  tokens: Array
  scores: Array


@struct.dataclass
class _State:
  """The carry of the search.

  Attributes:
    index: Number of tokens written, a scalar.
    last: The last token of every live hypothesis, [B, N].
    live: Hypotheses that go on, scored by their log-likelihood.
    finished: Hypotheses that have ended, scored with the length penalty.
    cache: The step's own, for the live hypotheses, [B * N, ...].
  """

  index: Array
  last: Array
  live: _Hypotheses
  finished: _Hypotheses
  cache: Cache


def length_penalty(length: Int[Array, ""] | int, alpha: float) -> Array:
  """Returns ((5 + length) / 6) ** alpha (Wu et al., 2016, sec. 7).

  Args:
    length: Number of tokens, the end of sequence included.
    alpha: 0 for none.
  """
  return ((5.0 + jnp.asarray(length, jnp.float32)) / 6.0) ** alpha


def beam_search(
  step: Step,
  cache: Cache,
  *,
  batch_size: int,
  max_decode_length: int,
  num_decodes: int = 4,
  alpha: float = 0.6,
  eos_id: int = EOS_ID,
) -> Decodes:
  """Searches for the sequences with the best penalised log-likelihood.

  Twice as many continuations as beams are looked at, so that enough live ones
  remain if all the best ones end at once. One beam is therefore not `greedy`:
  it also considers ending where that is only second best.

  Args:
    step: See `decoding`; it is called with B * N rows, those of one example
      side by side.
    cache: The cache before the first token, with B rows.
    batch_size: B.
    max_decode_length: T, in tokens, the end of sequence included.
    num_decodes: N, the number of beams.
    alpha: Exponent of the length penalty, at least 0.
    eos_id: The token that ends a sequence.

  Returns:
    Tokens [B, N, T] and scores [B, N], in increasing score: the best is last.
    The scores are log-likelihoods over the length penalty. Of an example of
    which nothing has ended within T tokens the live hypotheses come back, with
    plain log-likelihoods; otherwise only those that have ended.

  Raises:
    ValueError: If num_decodes or alpha is outside its range.
  """
  check_beam_search(num_decodes=num_decodes, alpha=alpha)

  def unfinished(state: _State):
    # A live hypothesis loses likelihood with every token, and no penalty is
    # kinder than the last one.
    bound = state.live.scores[:, 0] / length_penalty(max_decode_length, alpha)
    hopeless = state.finished.scores[:, -1] > bound
    return (state.index < max_decode_length) & ~jnp.all(hopeless)

  def advance(state: _State) -> _State:
    logits, cache = step(state.last.reshape(-1), state.cache)
    new, tokens, parents = _extend(state, logits)
    ended = tokens == eos_id  # [B, 2N]
    live, kept = _best(new, num_decodes, where=~ended)
    penalty = length_penalty(state.index + 1, alpha)
    new = dataclasses.replace(new, scores=new.scores / penalty)
    finished, _ = _best(_join(state.finished, new, ended), num_decodes)
    return _State(
      index=state.index + 1,
      last=_gather(tokens, kept),
      live=live,
      finished=finished,
      cache=_gather_cache(
        cache, before=state.cache, beams=_gather(parents, kept)
      ),
    )

  first = _first_state(cache, batch_size, num_decodes, max_decode_length)
  last = jax.lax.while_loop(unfinished, advance, first)
  return _increasing(last)


def check_beam_search(*, num_decodes: int, alpha: float) -> None:
  """Raises a ValueError if a parameter of the search is outside its range."""
  if num_decodes < 1:
    raise ValueError(
      f"num_decodes must be a positive number of beams, got {num_decodes!r}."
    )
  if alpha < 0:
    raise ValueError(
      "alpha, the exponent of the length penalty, must be at least 0, got "
      f"{alpha!r}."
    )


def _first_state(cache, batch_size, num_decodes, max_decode_length) -> _State:
  shape = (batch_size, num_decodes)
  nothing = _Hypotheses(
    tokens=jnp.full((*shape, max_decode_length), PAD_ID, jnp.int32),
    scores=jnp.full(shape, -jnp.inf, jnp.float32),
  )
  return _State(
    index=jnp.zeros((), jnp.int32),
    last=jnp.full(shape, START_ID, jnp.int32),
    # All beams start alike; were they all alive, they would stay alike.
    live=dataclasses.replace(nothing, scores=nothing.scores.at[:, 0].set(0.0)),
    finished=nothing,
    cache=jax.tree.map(
      lambda leaf: jnp.repeat(leaf, num_decodes, 0) if jnp.ndim(leaf) else leaf,
      cache,
    ),
  )


def _extend(
  state: _State, logits: Float[Array, "BN V"]
) -> tuple[_Hypotheses, Int[Array, "B 2N"], Int[Array, "B 2N"]]:
  """Returns the 2N best continuations, their last tokens and their parents."""
  batch_size, num_decodes = state.last.shape
  vocab_size = logits.shape[-1]
  gains = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
  gains = gains.reshape(batch_size, num_decodes, vocab_size)
  scores = state.live.scores[..., None] + gains
  scores, flat = jax.lax.top_k(scores.reshape(batch_size, -1), 2 * num_decodes)
  parents, tokens = flat // vocab_size, (flat % vocab_size).astype(jnp.int32)
  sequences = _gather(state.live.tokens, parents)
  sequences = sequences.at[:, :, state.index].set(tokens)
  return _Hypotheses(tokens=sequences, scores=scores), tokens, parents


def _join(finished: _Hypotheses, new: _Hypotheses, ended) -> _Hypotheses:
  """Returns the finished hypotheses and those new ones that have ended."""
  scores = jnp.where(ended, new.scores, -jnp.inf)
  return _Hypotheses(
    tokens=jnp.concatenate([finished.tokens, new.tokens], axis=1),
    scores=jnp.concatenate([finished.scores, scores], axis=1),
  )


def _best(
  hypotheses: _Hypotheses, num_decodes: int, *, where: Array | bool = True
) -> tuple[_Hypotheses, Int[Array, "B N"]]:
  """Returns the N best hypotheses in order, and where they stood."""
  scores = jnp.where(where, hypotheses.scores, -jnp.inf)
  scores, kept = jax.lax.top_k(scores, num_decodes)
  tokens = _gather(hypotheses.tokens, kept)
  return _Hypotheses(tokens=tokens, scores=scores), kept


def _gather(values: Array, indices: Int[Array, "B M"]) -> Array:
  """Returns [B, M, ...] from [B, N, ...], each example by its own indices."""
  # Mapped over the batch, the gather stays local to a device that holds part
  # of the batch.
  return jax.vmap(lambda row, index: row[index])(values, indices)


def _gather_cache(
  cache: Cache, *, before: Cache, beams: Int[Array, "B N"]
) -> Cache:
  def gather(leaf, old):
    # A leaf that the step handed through is what all beams of an example have
    # shared from the start.
    if leaf is old or not leaf.ndim:
      return leaf
    rows = leaf.reshape(*beams.shape, *leaf.shape[1:])
    return _gather(rows, beams).reshape(leaf.shape)

  return jax.tree.map(gather, cache, before)


def _increasing(state: _State) -> Decodes:
  # An empty slot may hold the tokens of a continuation that did not end.
  finished = state.finished
  empty = jnp.isneginf(finished.scores)
  tokens = jnp.where(empty[..., None], PAD_ID, finished.tokens)
  none = empty.all(axis=1, keepdims=True)
  return Decodes(
    tokens=jnp.where(none[..., None], state.live.tokens, tokens)[:, ::-1],
    scores=jnp.where(none, state.live.scores, finished.scores)[:, ::-1],
  )
