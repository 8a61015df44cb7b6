"""Likelihoods of given sequences."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from prompt_tuning.evaluate.generation import BeamSearch, Generator
from prompt_tuning.model import scoring
from prompt_tuning.model.decoding_beam import length_penalty
from prompt_tuning.testing import fakes
from prompt_tuning.types import EOS_ID

CANDIDATES = np.array(
  [[20, 1, 0, 0], [21, 22, 23, 1], [7, 8, 1, 0], [20, 9, 1, 0], [33, 1, 0, 0]],
  np.int32,
)


@pytest.fixture(scope="module")
def prompted():
  # One layer of each, because compiling takes most of the time.
  model = fakes.tiny_model(
    fakes.tiny_prompt(4), num_encoder_layers=1, num_decoder_layers=1
  )
  batch = fakes.tiny_batch(np.random.default_rng(0), prompt_length=4)
  return model, fakes.tiny_params(model), batch["encoder_input_tokens"]


@pytest.fixture(scope="module")
def one_by_one(prompted):
  """Scores every pair by a forward pass of its own, in float64 NumPy."""
  model, params, tokens = prompted
  apply = jax.jit(model.apply)
  scores = np.zeros((len(tokens), len(CANDIDATES)))
  for i, row in enumerate(tokens):
    for j, candidate in enumerate(CANDIDATES):
      targets = candidate[candidate > 0]
      read = np.concatenate([[0], targets[:-1]]).astype(np.int32)
      logits = apply({"params": params}, row[None], read[None])[0]
      logits = np.asarray(logits, float)
      log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
      scores[i, j] = log_probs[np.arange(len(targets)), targets].sum()
  return scores


@pytest.mark.parametrize("per_pass", [None, 2, 100])
def test_candidates_score_as_each_alone(prompted, one_by_one, per_pass):
  model, params, tokens = prompted
  scores = jax.jit(
    lambda p, t: scoring.score_candidates(
      model, p, t, CANDIDATES, candidates_per_pass=per_pass
    )
  )(params, tokens)
  assert scores.dtype == jnp.float32
  np.testing.assert_allclose(scores, one_by_one, rtol=1e-5)


def test_inputs_are_encoded_once_and_their_keys_never_repeated(prompted):
  """The cost of one more candidate is that of its own tokens."""
  model, params, tokens = prompted
  tokens = np.tile(tokens, (1, 20))

  def flops(num_candidates):
    candidates = np.resize(CANDIDATES, (num_candidates, 4))
    run = jax.jit(
      lambda p, t: scoring.score_candidates(model, p, t, candidates)
    )
    compiled = run.lower(params, tokens).compile()
    return compiled.cost_analysis()["flops"]

  one, two, three = flops(1), flops(2), flops(3)
  assert three - two < 0.25 * one


def test_zero_weights_hide_impossible_tokens():
  logits = jnp.asarray([[[0.0, 0.0], [0.0, -jnp.inf]]])
  targets = jnp.asarray([[1, 1]])
  score = scoring.sequence_log_likelihood(
    logits, targets, jnp.asarray([[1.0, 0.0]])
  )
  np.testing.assert_allclose(score, [np.log(0.5)], rtol=1e-6)


def test_bfloat16_logits_are_summed_in_float32():
  rng = np.random.default_rng(0)
  logits = jnp.asarray(rng.normal(size=(2, 300, 9)), jnp.bfloat16)
  targets = rng.integers(0, 9, (2, 300))
  weights = np.ones((2, 300), np.float32)
  score = scoring.sequence_log_likelihood(logits, jnp.asarray(targets), weights)
  exact = np.asarray(logits, float)
  exact -= np.log(np.exp(exact).sum(-1, keepdims=True))
  exact = np.take_along_axis(exact, targets[..., None], -1).sum((1, 2))
  assert score.dtype == jnp.float32
  np.testing.assert_allclose(score, exact, rtol=1e-5)


def test_beam_scores_are_teacher_forced_scores(prompted):
  """Cached steps, gathered from beam to beam, equal a full recomputation."""
  model, params, tokens = prompted
  generator = Generator(
    model, max_decode_length=6, decoder=BeamSearch(num_decodes=3, alpha=0.6)
  )
  # Ending is made likely, so that beams of several lengths finish.
  params = jax.tree.map(jnp.asarray, params)
  kernel = params["decoder"]["logits_dense"]["kernel"]
  params["decoder"]["logits_dense"]["kernel"] = kernel.at[:, EOS_ID].mul(3.0)
  decodes = generator.decode(params, {"encoder_input_tokens": tokens})
  checked = 0
  for beam in range(3):
    targets = np.asarray(decodes.tokens[:, beam])
    logits = jax.jit(model.apply)(
      {"params": params}, tokens, scoring.shift_right(jnp.asarray(targets))
    )
    counts = np.arange(6) <= np.argmax(targets == EOS_ID, axis=1)[:, None]
    scores = scoring.sequence_log_likelihood(logits, targets, counts)
    scores = np.asarray(scores / length_penalty(counts.sum(1), 0.6))
    ended = (targets == EOS_ID).any(axis=1)
    checked += ended.sum()
    np.testing.assert_allclose(
      decodes.scores[ended, beam], scores[ended], rtol=1e-4
    )
  assert checked >= 6


def test_candidates_per_pass_is_checked(prompted):
  model, params, tokens = prompted
  with pytest.raises(ValueError, match=r"candidates_per_pass .* got 0"):
    scoring.score_candidates(
      model, params, tokens, CANDIDATES, candidates_per_pass=0
    )
