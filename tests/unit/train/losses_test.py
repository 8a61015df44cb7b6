"""Targets taken a part at a time: the same loss, without the logits of all."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from prompt_tuning.train import losses

WIDTH, VOCAB = 6, 40


def _sums_of(params, hidden, targets, weights):
  return losses.loss_sums(
    hidden @ params["kernel"], targets, weights, z_loss=1e-2
  )


def _problem(length, *, batch_size=3):
  rng = np.random.default_rng(length)
  return (
    {"kernel": rng.normal(size=(WIDTH, VOCAB)).astype(np.float32)},
    rng.normal(size=(batch_size, length, WIDTH)).astype(np.float32),
    rng.integers(0, VOCAB, (batch_size, length)),
    (rng.random((batch_size, length)) < 0.8).astype(np.float32),
  )


# One part; parts that fill up; the last one padded; parts of one size.
LENGTHS = (5, 64, 65, 128, 130, 300)


@pytest.mark.parametrize("length", LENGTHS)
def test_sums_are_those_of_all_targets_at_once(length):
  problem = _problem(length)
  actual = losses.sum_over_targets(_sums_of, *problem)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5),
    actual,
    _sums_of(*problem),
  )


@pytest.mark.slow_after(3)
@pytest.mark.parametrize("length", LENGTHS)
def test_gradients_are_those_of_all_targets_at_once(length):
  params, hidden, targets, weights = _problem(length)

  def loss(function):
    def scaled(params, hidden):
      return 3.0 * function(params, hidden, targets, weights).loss

    return jax.grad(scaled, argnums=(0, 1))(params, hidden)

  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
    loss(lambda *args: losses.sum_over_targets(_sums_of, *args)),
    loss(_sums_of),
  )


def test_integers_among_the_parameters_have_no_gradient():
  params, *rest = _problem(130)
  integers = np.rint(8 * params["kernel"]).astype(np.int8)

  def sums_of(params, hidden, targets, weights):
    kernel = params["kernel"].astype(np.float32) * params["scale"]
    return _sums_of({"kernel": kernel}, hidden, targets, weights)

  def loss(scale, function):
    return function({"kernel": integers, "scale": scale}, *rest).loss

  scale = np.float32(1 / 8)
  in_parts = jax.grad(loss)(
    scale, lambda *args: losses.sum_over_targets(sums_of, *args)
  )
  np.testing.assert_allclose(
    in_parts, jax.grad(loss)(scale, sums_of), rtol=1e-4
  )


def test_runs_of_a_job_have_their_own_sums():
  params, hidden, targets, weights = _problem(130)
  two = jax.tree.map(lambda x: jnp.stack([x, x[::-1]]), (hidden, targets))

  def loss(hidden, targets):
    return losses.sum_over_targets(
      _sums_of, params, hidden, targets, weights
    ).loss

  together = jax.vmap(jax.grad(loss))(*two)
  for run in range(2):
    alone = jax.grad(loss)(two[0][run], two[1][run])
    np.testing.assert_allclose(together[run], alone, rtol=1e-4, atol=1e-5)


def test_long_targets_hold_no_logits_for_the_backward_pass():
  length = 8 * losses.TARGETS_AT_ONCE
  rng = np.random.default_rng(0)
  kernel = rng.normal(size=(WIDTH, 5_000)).astype(np.float32)
  _, hidden, targets, weights = _problem(length)

  def temporaries(function):
    def loss(hidden):
      return function({"kernel": kernel}, hidden, targets, weights).loss

    compiled = jax.jit(jax.grad(loss)).lower(hidden).compile()
    return compiled.memory_analysis().temp_size_in_bytes

  in_parts = temporaries(lambda *args: losses.sum_over_targets(_sums_of, *args))
  logits_of_a_part = 3 * losses.TARGETS_AT_ONCE * 5_000 * 4
  assert in_parts < 3 * logits_of_a_part
  assert temporaries(_sums_of) > 8 * logits_of_a_part
