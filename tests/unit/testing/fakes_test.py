"""Tests of the public fakes."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from prompt_tuning.testing import fakes
from prompt_tuning.train import partition


def test_batches_are_laid_out_as_promised():
  rng = np.random.default_rng(0)
  batch = fakes.tiny_batch(rng, batch_size=50, prompt_length=3)
  slots = fakes.VOCAB_SIZE + np.arange(3)
  tokens = batch["encoder_input_tokens"]
  assert tokens.shape == (50, 12)
  assert (tokens[:, :3] == slots).all()
  words, targets = tokens[:, 3:], batch["decoder_target_tokens"]
  for ids in (words, targets):
    # One end of sequence, padding behind it and nowhere else.
    assert ((ids == 1).sum(1) == 1).all()
    behind = np.cumsum(ids == 1, axis=1) - (ids == 1)
    np.testing.assert_array_equal(ids == 0, behind == 1)
  assert (batch["decoder_input_tokens"][:, 0] == 0).all()
  np.testing.assert_array_equal(
    batch["decoder_input_tokens"][:, 1:], targets[:, :-1]
  )
  np.testing.assert_array_equal(batch["decoder_loss_weights"], targets > 0)
  assert {x.dtype.name for x in batch.values()} == {"int32", "float32"}


def test_batches_of_the_toy_task_can_be_left_and_continued():
  batches = fakes.ToyBatches()
  next(batches)
  position = batches.state()
  expected = next(batches)
  again = fakes.ToyBatches()
  again.restore(position)
  jax.tree.map(np.testing.assert_array_equal, next(again), expected)
  assert not np.array_equal(
    next(again)["encoder_input_tokens"], expected["encoder_input_tokens"]
  )


@pytest.fixture(scope="module")
def model():
  return fakes.tiny_model(fakes.tiny_prompt())


def _first_tokens(model, params, batch):
  logits = model.apply(
    {"params": params},
    batch["encoder_input_tokens"],
    batch["decoder_input_tokens"],
  )
  return logits[:, 0].argmax(-1)


def test_a_prompt_learns_what_the_frozen_model_cannot_do(model):
  params = fakes.toy_params(model)
  parts = partition.split(params, ["prompt/.*"])
  optimizer = optax.adam(0.1)

  def loss(trainable, batch):
    logits = model.apply(
      {"params": partition.merge(trainable, parts.frozen)},
      batch["encoder_input_tokens"],
      batch["decoder_input_tokens"],
    )
    return optax.softmax_cross_entropy_with_integer_labels(
      logits, batch["decoder_target_tokens"]
    ).mean()

  @jax.jit
  def step(trainable, state, batch):
    updates, state = optimizer.update(jax.grad(loss)(trainable, batch), state)
    return optax.apply_updates(trainable, updates), state

  trainable, state = parts.trainable, optimizer.init(parts.trainable)
  for batch, _ in zip(fakes.ToyBatches(), range(50), strict=False):
    trainable, state = step(trainable, state, batch)
  tuned = partition.merge(trainable, parts.frozen)

  held_out = fakes.toy_batch(10**6, batch_size=200)
  bare = fakes.toy_batch(10**6, batch_size=200, prompt_length=0)
  labels = held_out["decoder_target_tokens"][:, 0]
  assert np.isin(labels, fakes.TOY_LABELS).all()
  majority = max(np.mean(labels == label) for label in fakes.TOY_LABELS)
  frozen = jnp.mean(_first_tokens(model, params, bare) == labels)
  assert frozen <= majority
  assert jnp.mean(_first_tokens(model, tuned, held_out) == labels) >= 0.9
