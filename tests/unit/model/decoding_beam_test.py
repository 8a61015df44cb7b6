"""Beam search against a plain one, and against trying every sequence."""

import itertools
import math

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from prompt_tuning.model import decoding, decoding_beam
from prompt_tuning.testing.steps import RecurrentStep
from prompt_tuning.types import EOS_ID, PAD_ID

LENGTH = 6
ROWS = 5


def search(step, cache, **options):
  settings = {"batch_size": ROWS, "max_decode_length": LENGTH} | options
  return decoding_beam.beam_search(step, cache, **settings)


def penalty(length, alpha):
  return ((5 + length) / 6) ** alpha


def padded(tokens, length=LENGTH):
  return [*tokens, *[PAD_ID] * (length - len(tokens))]


def plain_beam_search(step, state, *, num_decodes, alpha):
  """One example, Python lists, every prefix recomputed, no early stop.

  Returns:
    (tokens, score) of every beam in increasing score.
  """
  live, finished = [([], 0.0)], []
  for _ in range(LENGTH):
    grown = []
    for tokens, score in live:
      gains = step.log_probs(state, tokens)
      grown += [([*tokens, t], score + gain) for t, gain in enumerate(gains)]
    grown.sort(key=lambda hypothesis: -hypothesis[1])
    grown = grown[: 2 * num_decodes]
    finished += [
      (tokens, score / penalty(len(tokens), alpha))
      for tokens, score in grown
      if tokens[-1] == EOS_ID
    ]
    live = [h for h in grown if h[0][-1] != EOS_ID][:num_decodes]
  finished.sort(key=lambda hypothesis: -hypothesis[1])
  best = finished[:num_decodes] or live
  best += [([], -math.inf)] * (num_decodes - len(best))
  return [(padded(tokens), score) for tokens, score in best][::-1]


@pytest.mark.parametrize("alpha", [0.0, 0.6, 2.0])
@pytest.mark.parametrize("num_decodes", [1, 4])
@pytest.mark.parametrize("eos_bias", [-2.0, 0.0, 3.0])
def test_equals_a_plain_search_without_early_stop(eos_bias, num_decodes, alpha):
  step = RecurrentStep(seed=num_decodes, eos_bias=eos_bias)
  cache = step.start_cache(ROWS)
  decodes = search(step, cache, num_decodes=num_decodes, alpha=alpha)
  for row, state in enumerate(np.asarray(cache["state"], float)):
    expected = plain_beam_search(
      step, state, num_decodes=num_decodes, alpha=alpha
    )
    assert decodes.tokens[row].tolist() == [tokens for tokens, _ in expected]
    np.testing.assert_allclose(
      decodes.scores[row], [score for _, score in expected], rtol=1e-4
    )


@pytest.mark.parametrize("alpha", [0.0, 3.0])
def test_enough_beams_find_the_best_of_all_sequences(alpha):
  vocab_size, length = 4, 3
  step = RecurrentStep(seed=3, vocab_size=vocab_size)
  cache = step.start_cache(ROWS)
  decodes = search(
    step,
    cache,
    max_decode_length=length,
    num_decodes=vocab_size**length,
    alpha=alpha,
  )
  words = [t for t in range(vocab_size) if t != EOS_ID]
  for row, state in enumerate(np.asarray(cache["state"], float)):
    scores = {}
    for count in range(length):
      for start in itertools.product(words, repeat=count):
        tokens = (*start, EOS_ID)
        total = sum(
          step.log_probs(state, list(tokens[:i]))[token]
          for i, token in enumerate(tokens)
        )
        scores[tokens] = total / penalty(len(tokens), alpha)
    ranked = sorted(scores, key=scores.get)
    filled = np.isfinite(decodes.scores[row])
    assert filled.sum() == len(ranked)
    assert np.asarray(decodes.tokens)[row][filled].tolist() == [
      padded(tokens, length) for tokens in ranked
    ]
    np.testing.assert_allclose(
      np.asarray(decodes.scores)[row][filled],
      [scores[tokens] for tokens in ranked],
      rtol=1e-4,
    )


@pytest.mark.parametrize("eos_bias", [-100.0, 100.0])
def test_one_beam_is_greedy_where_ending_is_never_a_close_call(eos_bias):
  step = RecurrentStep(seed=1, eos_bias=eos_bias)
  cache = step.start_cache(ROWS)
  beam = search(step, cache, num_decodes=1, alpha=0.0)
  greedy = decoding.greedy(
    step, cache, batch_size=ROWS, max_decode_length=LENGTH
  )
  np.testing.assert_array_equal(beam.tokens[:, 0], greedy.tokens)
  np.testing.assert_allclose(
    beam.scores[:, 0], greedy.scores, rtol=1e-5, atol=1e-5
  )


def test_length_penalty_prefers_longer_sequences():
  step = RecurrentStep(seed=5)
  cache = step.start_cache(ROWS)

  def mean_length(alpha):
    best = search(step, cache, alpha=alpha, num_decodes=8).tokens[:, -1]
    return np.count_nonzero(best, axis=1).mean()

  assert mean_length(0.0) < mean_length(5.0)


def test_batch_order_and_company_change_nothing():
  step = RecurrentStep(seed=2)
  cache = step.start_cache(ROWS)
  rows = np.array([3, 0])
  whole = search(step, cache)
  part = search(step, {**cache, "state": cache["state"][rows]}, batch_size=2)
  np.testing.assert_array_equal(whole.tokens[rows], part.tokens)
  np.testing.assert_allclose(whole.scores[rows], part.scores, rtol=1e-6)


def test_early_stop_takes_few_steps():
  step = RecurrentStep(seed=0, eos_bias=12.0)
  steps = []

  def counting(tokens, cache):
    jax.debug.callback(lambda: steps.append(1))
    return step(tokens, cache)

  cache = step.start_cache(ROWS)
  decodes = search(
    counting, cache, max_decode_length=500, num_decodes=2, alpha=0.0
  )
  jax.block_until_ready(decodes)
  jax.effects_barrier()
  assert len(steps) < 10


def test_what_the_step_hands_through_is_shared_and_not_gathered():
  """A leaf of the encoder costs no gather, and each row sees its own."""
  step = RecurrentStep(seed=4)
  cache = step.start_cache(ROWS)

  def with_constant(tokens, cache):
    shifted = {**cache["own"], "state": cache["own"]["state"]}
    logits, own = step(tokens, shifted)
    return logits + cache["bias"], {"own": own, "bias": cache["bias"]}

  def with_copy(tokens, cache):
    logits, cache = with_constant(tokens, cache)
    return logits, {**cache, "bias": cache["bias"] + 0.0}

  bias = np.random.default_rng(0).normal(size=(ROWS, step.vocab_size))
  start = {"own": cache, "bias": jnp.asarray(bias, jnp.float32)}
  shared, copied = (search(s, start) for s in (with_constant, with_copy))
  np.testing.assert_array_equal(shared.tokens, copied.tokens)
  np.testing.assert_allclose(shared.scores, copied.scores, rtol=1e-6)

  def gathers(step):
    return str(jax.make_jaxpr(lambda c: search(step, c))(start)).count(
      "gather["
    )

  assert gathers(with_constant) == gathers(with_copy) - 1


def test_bfloat16_logits_are_searched_in_float32():
  step = RecurrentStep(seed=3, dtype=jnp.bfloat16)

  def widened(tokens, cache):
    logits, cache = step(tokens, cache)
    return logits.astype(jnp.float32), cache

  cache = step.start_cache(ROWS)
  decodes, expected = search(step, cache), search(widened, cache)
  assert decodes.scores.dtype == jnp.float32
  np.testing.assert_array_equal(decodes.tokens, expected.tokens)
  np.testing.assert_array_equal(decodes.scores, expected.scores)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"num_decodes": 0}, "num_decodes must be a positive number .* got 0"),
    ({"alpha": -0.1}, "alpha, .* must be at least 0, got -0.1"),
  ],
)
def test_parameters_are_checked(options, message):
  step = RecurrentStep(seed=0)
  with pytest.raises(ValueError, match=message):
    search(step, step.start_cache(ROWS), **options)
