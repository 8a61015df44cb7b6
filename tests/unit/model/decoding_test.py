"""Greedy decoding and sampling, on a step that remembers what it read."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from prompt_tuning.model import decoding
from prompt_tuning.testing import fakes
from prompt_tuning.testing.steps import RecurrentStep
from prompt_tuning.types import EOS_ID, PAD_ID

VOCAB = 12
LENGTH = 7


def reference_greedy(step, state):
  tokens, score = [], 0.0
  while len(tokens) < LENGTH and EOS_ID not in tokens:
    log_probs = step.log_probs(state, tokens)
    tokens.append(int(np.argmax(log_probs)))
    score += log_probs[tokens[-1]]
  return tokens + [PAD_ID] * (LENGTH - len(tokens)), score


@pytest.mark.parametrize("eos_bias", [-100.0, 0.0, 2.0, 100.0])
def test_greedy_equals_a_search_from_scratch(eos_bias):
  step = RecurrentStep(seed=9, eos_bias=eos_bias)
  cache = step.start_cache(9)
  decodes = decoding.greedy(step, cache, batch_size=9, max_decode_length=LENGTH)
  for row, state in enumerate(np.asarray(cache["state"], float)):
    tokens, score = reference_greedy(step, state)
    assert decodes.tokens[row].tolist() == tokens
    np.testing.assert_allclose(decodes.scores[row], score, rtol=1e-5)


def test_greedy_ends_in_different_ways():
  """The test above would show nothing if all rows ended alike."""
  step = RecurrentStep(seed=9, eos_bias=2.0)
  decodes = decoding.greedy(
    step, step.start_cache(9), batch_size=9, max_decode_length=LENGTH
  )
  ends = np.argmax(np.asarray(decodes.tokens) == EOS_ID, axis=1)
  assert len(set(ends.tolist())) > 2


def test_the_loop_stops_when_all_rows_have_ended():
  step = RecurrentStep(seed=0, eos_bias=100.0)
  steps = []

  def counting(tokens, cache):
    jax.debug.callback(lambda: steps.append(1))
    return step(tokens, cache)

  jax.block_until_ready(
    decoding.greedy(
      counting, step.start_cache(2), batch_size=2, max_decode_length=1000
    )
  )
  jax.effects_barrier()
  assert len(steps) == 1


def test_batch_order_and_company_change_nothing():
  step = RecurrentStep(seed=2, eos_bias=1.0)
  state = step.start_cache(6)["state"]
  index = jnp.zeros((), jnp.int32)

  def decode(rows):
    cache = {"state": state[np.asarray(rows)], "index": index}
    return decoding.greedy(
      step, cache, batch_size=len(rows), max_decode_length=LENGTH
    )

  whole = decode(range(6))
  shuffled = decode([4, 0, 5])
  np.testing.assert_array_equal(
    whole.tokens[np.array([4, 0, 5])], shuffled.tokens
  )
  np.testing.assert_allclose(
    whole.scores[np.array([4, 0, 5])], shuffled.scores, rtol=1e-6
  )


def test_bfloat16_logits_are_scored_in_float32():
  step = RecurrentStep(seed=3, dtype=jnp.bfloat16)

  def widened(tokens, cache):
    logits, cache = step(tokens, cache)
    return logits.astype(jnp.float32), cache

  decodes, expected = (
    decoding.greedy(
      each, step.start_cache(4), batch_size=4, max_decode_length=LENGTH
    )
    for each in (step, widened)
  )
  assert decodes.scores.dtype == jnp.float32
  np.testing.assert_array_equal(decodes.tokens, expected.tokens)
  np.testing.assert_array_equal(decodes.scores, expected.scores)


def sample(step, cache, *, seed=0, **options):
  return decoding.sample(
    step,
    cache,
    rngs=jax.random.split(jax.random.key(seed), cache["state"].shape[0]),
    batch_size=cache["state"].shape[0],
    max_decode_length=LENGTH,
    **options,
  )


@pytest.mark.parametrize(
  "options", [{"temperature": 0.0}, {"top_k": 1}, {"top_p": 1e-6}]
)
def test_sampling_the_likeliest_token_is_greedy(options):
  step = RecurrentStep(seed=4)
  cache = step.start_cache(5)
  greedy = decoding.greedy(step, cache, batch_size=5, max_decode_length=LENGTH)
  sampled = sample(step, cache, **options)
  np.testing.assert_array_equal(sampled.tokens, greedy.tokens)
  np.testing.assert_allclose(sampled.scores, greedy.scores, rtol=1e-6)


def test_samples_differ_by_key_and_by_row():
  step = RecurrentStep(seed=5, eos_bias=-100.0)
  state = jnp.tile(step.start_cache(1)["state"], (8, 1))
  cache = {"state": state, "index": jnp.zeros((), jnp.int32)}
  first, again, other = (sample(step, cache, seed=s) for s in (0, 0, 1))
  np.testing.assert_array_equal(first.tokens, again.tokens)
  assert np.any(np.asarray(first.tokens) != np.asarray(other.tokens))
  assert len({tuple(row) for row in first.tokens.tolist()}) > 1


def test_sample_scores_are_the_models_own():
  step = RecurrentStep(seed=6)
  cache = step.start_cache(4)
  decodes = sample(step, cache, temperature=0.7, top_k=5, top_p=0.9)
  for row, state in enumerate(np.asarray(cache["state"], float)):
    tokens = decodes.tokens[row].tolist()
    if EOS_ID in tokens:
      tokens = tokens[: tokens.index(EOS_ID) + 1]
    score = sum(
      step.log_probs(state, tokens[:i])[token] for i, token in enumerate(tokens)
    )
    np.testing.assert_allclose(decodes.scores[row], score, rtol=1e-5)


def reference_head(logits, top_k, top_p):
  """Probabilities of the head of a distribution, one row at a time."""
  result = np.zeros(logits.shape)
  for row, scores in enumerate(logits.astype(float)):
    order = sorted(range(scores.size), key=lambda i: (-scores[i], i))
    order = order[: top_k or scores.size]
    weights = np.exp(scores[order] - scores[order[0]])
    weights /= weights.sum()
    head, total = [], 0.0
    for token, weight in zip(order, weights, strict=True):
      head.append((token, weight))
      total += weight
      if total >= top_p:
        break
    for token, weight in head:
      result[row, token] = weight / sum(w for _, w in head)
  return result


@pytest.mark.parametrize("top_p", [1.0, 0.95, 0.5, 0.1])
@pytest.mark.parametrize("top_k", [0, 1, 3, 50])
def test_head_equals_a_plain_reference(top_k, top_p):
  logits = np.random.default_rng(0).normal(size=(20, VOCAB)) * 3
  logits = logits.astype(np.float32)
  kept = decoding.keep_likeliest(jnp.asarray(logits), top_k=top_k, top_p=top_p)
  np.testing.assert_allclose(
    jax.nn.softmax(kept), reference_head(logits, top_k, top_p), atol=1e-6
  )


def test_ties_keep_exactly_k_tokens():
  kept = decoding.keep_likeliest(jnp.zeros((1, VOCAB)), top_k=3)
  np.testing.assert_array_equal(np.isfinite(kept[0]), np.arange(VOCAB) < 3)


@pytest.mark.parametrize(
  "options",
  [
    {},
    {"temperature": 0.5},
    {"temperature": 2.0, "top_k": 4},
    {"top_p": 0.8},
    {"temperature": 1.5, "top_k": 8, "top_p": 0.7},
  ],
)
def test_draws_follow_the_distribution(options):
  draws = 40_000
  logits = np.random.default_rng(1).normal(size=(1, VOCAB)).astype(np.float32)
  decodes = decoding.sample(
    lambda tokens, cache: (jnp.tile(logits, (draws, 1)), cache),
    jnp.zeros(()),
    rngs=jax.random.split(jax.random.key(0), draws),
    batch_size=draws,
    max_decode_length=1,
    **options,
  )
  scaled = logits / options.get("temperature", 1.0)
  wanted = reference_head(
    scaled, options.get("top_k", 0), options.get("top_p", 1.0)
  )[0]
  counts = np.bincount(np.asarray(decodes.tokens)[:, 0], minlength=VOCAB)
  # Five standard deviations of a binomial share.
  margin = 5 * np.sqrt(wanted * (1 - wanted) / draws)
  assert np.all(np.abs(counts / draws - wanted) <= margin + 1e-12)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"temperature": -1.0}, "temperature must be at least 0, got -1.0"),
    ({"top_k": -2}, "top_k must be a number of tokens.* got -2"),
    ({"top_p": 0.0}, "top_p must be a probability above 0.* got 0.0"),
    ({"top_p": 1.5}, "top_p .* got 1.5"),
  ],
)
def test_sampling_parameters_are_checked(options, message):
  step = RecurrentStep(seed=0)
  with pytest.raises(ValueError, match=message):
    sample(step, step.start_cache(1), **options)


def t5_step(model, params, batch, length):
  """Returns the step and the first cache of a T5, as a generator does."""

  def apply(*args, **options):
    return model.apply({"params": params}, *args, **options)

  tokens = batch["encoder_input_tokens"]
  encoded = apply(tokens, method="encode")
  cache = apply(encoded, tokens, max_decode_length=length, method="start_cache")
  return lambda t, c: apply(t, c, method="decode_step"), cache


def test_greedy_on_a_t5_is_the_argmax_of_its_teacher_forced_logits():
  """Cached steps equal a full, masked recomputation; slots are not written."""
  model = fakes.tiny_model(fakes.tiny_prompt(4))
  params = fakes.tiny_params(model)
  batch = fakes.tiny_batch(np.random.default_rng(0), prompt_length=4)

  @jax.jit
  def run(params, batch):
    step, cache = t5_step(model, params, batch, LENGTH)
    decodes = decoding.greedy(
      step, cache, batch_size=4, max_decode_length=LENGTH
    )
    read = jnp.pad(decodes.tokens[:, :-1], ((0, 0), (1, 0)))
    logits = model.apply(
      {"params": params}, batch["encoder_input_tokens"], read
    )
    return decodes, jax.nn.log_softmax(logits)

  decodes, log_probs = jax.tree.map(np.asarray, run(params, batch))
  for tokens, score, rows in zip(
    decodes.tokens, decodes.scores, log_probs, strict=True
  ):
    ended = np.flatnonzero(tokens == EOS_ID)
    length = ended[0] + 1 if ended.size else LENGTH
    np.testing.assert_array_equal(
      tokens[:length], rows[:length].argmax(axis=-1)
    )
    np.testing.assert_array_equal(tokens[length:], PAD_ID)
    np.testing.assert_allclose(
      score, rows[np.arange(length), tokens[:length]].sum(), rtol=1e-5
    )
  assert decodes.tokens.max() < fakes.VOCAB_SIZE


def test_padding_of_the_inputs_changes_nothing():
  model = fakes.tiny_model(fakes.tiny_prompt(4))
  params = fakes.tiny_params(model)
  batch = fakes.tiny_batch(np.random.default_rng(1), prompt_length=4)
  longer = np.pad(batch["encoder_input_tokens"], ((0, 0), (0, 5)))

  @jax.jit
  def run(tokens):
    step, cache = t5_step(
      model, params, {"encoder_input_tokens": tokens}, LENGTH
    )
    return decoding.greedy(step, cache, batch_size=4, max_decode_length=LENGTH)

  plain, padded = run(batch["encoder_input_tokens"]), run(longer)
  np.testing.assert_array_equal(plain.tokens, padded.tokens)
  np.testing.assert_allclose(plain.scores, padded.scores, rtol=1e-5)
