"""A generator drives each decoder with a T5's own steps."""

import jax
import numpy as np
import pytest

from prompt_tuning.evaluate.generation import (
  BeamSearch,
  Generator,
  Greedy,
  Sampling,
)
from prompt_tuning.testing import fakes

LENGTH = 5


@pytest.fixture(scope="module")
def prompted():
  # One layer of each, because compiling takes most of the time.
  model = fakes.tiny_model(
    fakes.tiny_prompt(4), num_encoder_layers=1, num_decoder_layers=1
  )
  batch = fakes.tiny_batch(np.random.default_rng(0), prompt_length=4)
  return model, fakes.tiny_params(model), batch


def generator(model, decoder, max_decode_length=LENGTH):
  return Generator(model, max_decode_length=max_decode_length, decoder=decoder)


def keys(seed):
  return jax.random.split(jax.random.key(seed), 4)


@pytest.mark.parametrize(
  ("decoder", "shape"),
  [
    (Greedy(), (4, LENGTH)),
    (BeamSearch(num_decodes=3), (4, 3, LENGTH)),
    (Sampling(top_p=0.9), (4, LENGTH)),
  ],
)
def test_decodes_and_predictions_have_their_shapes(prompted, decoder, shape):
  model, *rest = prompted
  written = generator(model, decoder)
  decodes = written.decode(*rest, rngs=keys(0))
  assert decodes.tokens.shape == shape
  assert decodes.scores.shape == shape[:-1]
  predictions = written.predict(*rest, rngs=keys(0))
  best = decodes.tokens[:, -1] if len(shape) == 3 else decodes.tokens
  np.testing.assert_array_equal(predictions, best)
  assert np.max(predictions) < fakes.VOCAB_SIZE


def test_beam_predictions_are_the_best_scored(prompted):
  model, *rest = prompted
  scores = generator(model, BeamSearch(num_decodes=4)).decode(*rest).scores
  assert np.all(np.diff(scores, axis=1) >= 0)


def test_sampling_at_temperature_zero_is_greedy(prompted):
  model, *rest = prompted
  sampled = generator(model, Sampling(temperature=0.0)).predict(
    *rest, rngs=keys(3)
  )
  greedy = generator(model, Greedy()).predict(*rest)
  np.testing.assert_array_equal(sampled, greedy)


def test_the_prompt_is_that_of_the_call(prompted):
  """A training loop evaluates its current prompt with the same generator."""
  model, params, batch = prompted
  written = generator(model, Greedy())
  before = written.decode(params, batch).scores
  prompt = jax.tree.map(lambda x: -3.0 * x, params["prompt"])
  after = written.decode({**params, "prompt": prompt}, batch).scores
  assert np.all(np.asarray(before) != np.asarray(after))


def test_is_compiled_once_a_shape(prompted, caplog):
  model, params, batch = prompted
  generator(model, Greedy()).predict(params, batch)
  tokens = batch["encoder_input_tokens"]
  again = generator(model, Greedy())
  with jax.log_compiles():
    again.predict(params, {"encoder_input_tokens": tokens[::-1]})
  assert not caplog.text
  with jax.log_compiles():
    again.predict(params, {"encoder_input_tokens": tokens[:2]})
  assert "_generate_tokens" in caplog.text


@pytest.mark.parametrize(
  ("decoder", "length"), [(BeamSearch(num_decodes=2), LENGTH), (Greedy(), 2)]
)
def test_other_settings_are_compiled_anew(prompted, decoder, length):
  model, params, batch = prompted
  generator(model, Greedy()).predict(params, batch)
  other = generator(model, decoder, max_decode_length=length)
  assert other.predict(params, batch).shape == (4, length)


def test_what_a_row_draws_does_not_depend_on_its_batch(prompted):
  model, params, batch = prompted
  sampled = generator(model, Sampling())
  whole = np.asarray(sampled.predict(params, batch, rngs=keys(0)))
  order = np.array([2, 0])
  tokens = np.pad(batch["encoder_input_tokens"][order], [(0, 0), (0, 3)])
  part = sampled.predict(
    params, {"encoder_input_tokens": tokens}, rngs=keys(0)[order]
  )
  np.testing.assert_array_equal(part, whole[order])
  assert np.any(sampled.predict(params, batch, rngs=keys(1)) != whole)


@pytest.mark.parametrize("rngs", [None, jax.random.key(0), keys(0)[:3]])
def test_sampling_without_a_key_for_each_row_is_an_error(prompted, rngs):
  model, *rest = prompted
  with pytest.raises(ValueError, match="a random key for each of the 4 rows"):
    generator(model, Sampling()).predict(*rest, rngs=rngs)


def test_a_packed_batch_is_an_error(prompted):
  model, params, batch = prompted
  packed = {**batch, "encoder_segment_ids": np.ones((4, 12), np.int32)}
  with pytest.raises(ValueError, match=r"packed .*'encoder_segment_ids'"):
    generator(model, Greedy()).predict(params, packed)


@pytest.mark.parametrize(
  ("build", "message"),
  [
    (lambda: BeamSearch(num_decodes=0), "num_decodes must be"),
    (lambda: BeamSearch(alpha=-1.0), "alpha, the exponent"),
    (lambda: Sampling(temperature=-1.0), "temperature must be"),
    (lambda: Sampling(top_p=2.0), "top_p must be"),
    (
      lambda: generator(fakes.tiny_model(), Greedy(), max_decode_length=0),
      "max_decode_length must be a positive number of tokens, got 0",
    ),
  ],
)
def test_settings_are_checked_when_they_are_made(build, message):
  with pytest.raises(ValueError, match=message):
    build()
