"""Adafactor against T5X's, and the schedules against their formulas."""

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

from prompt_tuning.model.stack import stack_layers, unstack_layers
from prompt_tuning.testing.shared import fixture_path
from prompt_tuning.train import optimizers


def reference_adafactor(**overrides):
  """Returns the optimizer that the reference recipe runs."""
  settings = {
    "learning_rate": optimizers.constant(learning_rate=0.3),
    "multiply_by_parameter_scale": False,
    "weight_decay_rate": 1e-5,
  }
  return optimizers.adafactor(**{**settings, **overrides})


def relative_error(actual, expected):
  """Returns the largest error over the largest magnitude."""
  return np.abs(np.asarray(actual) - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize("case", ["100x136", "130x136"])
def test_five_given_gradients_move_the_parameter_as_in_t5x(case):
  fixture = np.load(fixture_path(f"adafactor_opt_only_{case}.npz"))
  optimizer = reference_adafactor()
  params = {"p": jnp.asarray(fixture["p0"])}
  state = optimizer.init(params)
  for step in range(5):
    gradients = {"p": jnp.asarray(fixture[f"g{step}"])}
    updates, state = optimizer.update(gradients, state, params)
    params = optax.apply_updates(params, updates)
    expected = fixture[f"p{step + 1}"]
    assert relative_error(params["p"], expected) <= 1e-5


@pytest.mark.parametrize(
  ("length", "factored"), [(100, False), (127, False), (128, True)]
)
def test_a_prompt_of_128_tokens_or_more_is_factored(length, factored):
  optimizer = reference_adafactor()
  state = optimizer.init({"prompt": jnp.zeros((length, 512))})[0]
  assert (state.v["prompt"].shape == (length, 512)) is not factored
  assert (state.v_row["prompt"].size > 1) is factored


def test_weight_decay_does_not_depend_on_the_learning_rate():
  params = {"p": jnp.full((2, 3), 5.0)}
  for learning_rate in (0.3, 0.003):
    optimizer = reference_adafactor(
      learning_rate=optimizers.constant(learning_rate=learning_rate),
      weight_decay_rate=0.1,
    )
    zeros = {"p": jnp.zeros((2, 3))}
    updates, _ = optimizer.update(zeros, optimizer.init(params), params)
    np.testing.assert_allclose(updates["p"], -0.5, rtol=1e-6)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_the_scale_of_the_gradient_does_not_matter(scale):
  params = {"p": jnp.ones((4, 8))}
  gradient = jnp.asarray(np.random.default_rng(0).normal(size=(4, 8)))
  optimizer = reference_adafactor()
  state = optimizer.init(params)
  plain, _ = optimizer.update({"p": gradient}, state, params)
  scaled, _ = optimizer.update({"p": gradient * scale}, state, params)
  np.testing.assert_allclose(scaled["p"], plain["p"], rtol=1e-5)


@pytest.mark.parametrize(
  ("step", "expected"), [(0, 0.1), (9, 0.1), (99, 0.1), (399, 0.05)]
)
def test_inverse_square_root_holds_then_falls(step, expected):
  schedule = optimizers.inverse_square_root(learning_rate=1.0, warmup_steps=100)
  np.testing.assert_allclose(schedule(step), expected, rtol=1e-6)


def test_inverse_square_root_is_ppts_noam_without_warmup():
  schedule = optimizers.inverse_square_root(learning_rate=0.1)
  for step in (0, 1, 7, 1000):
    np.testing.assert_allclose(schedule(step), 0.1 / np.sqrt(step + 1), 1e-6)


def test_linear_warmup_reaches_the_schedule():
  schedule = optimizers.linear_warmup(
    schedule=optimizers.constant(learning_rate=0.3), warmup_steps=10
  )
  np.testing.assert_allclose(
    [schedule(step) for step in (0, 5, 10, 50)], [0, 0.15, 0.3, 0.3]
  )


def test_linear_warmup_needs_steps():
  with pytest.raises(ValueError, match="warmup_steps must be at least 1"):
    optimizers.linear_warmup(
      schedule=optimizers.constant(learning_rate=1.0), warmup_steps=0
    )


def test_linear_cooldown_leaves_the_schedule_until_its_last_steps():
  schedule = optimizers.linear_cooldown(
    schedule=optimizers.constant(learning_rate=0.3),
    total_steps=50,
    cooldown_steps=10,
  )
  np.testing.assert_allclose(
    [schedule(step) for step in (0, 40, 45, 50, 60)],
    [0.3, 0.3, 0.15, 0, 0],
    rtol=1e-6,
  )


@pytest.mark.parametrize("cooldown_steps", [0, 51])
def test_linear_cooldown_fits_the_run(cooldown_steps):
  with pytest.raises(ValueError, match="cooldown_steps must lie between"):
    optimizers.linear_cooldown(
      schedule=optimizers.constant(learning_rate=1.0),
      total_steps=50,
      cooldown_steps=cooldown_steps,
    )


def test_adamw_equals_optax_with_clipping():
  gradient = {"p": jnp.full((3,), 10.0)}
  params = {"p": jnp.ones((3,))}
  ours = optimizers.adamw(
    learning_rate=optimizers.constant(learning_rate=0.1),
    weight_decay_rate=0.01,
    clip_global_norm=1.0,
  )
  theirs = optax.chain(
    optax.clip_by_global_norm(1.0), optax.adamw(0.1, weight_decay=0.01)
  )
  actual, _ = ours.update(gradient, ours.init(params), params)
  expected, _ = theirs.update(gradient, theirs.init(params), params)
  np.testing.assert_allclose(actual["p"], expected["p"], rtol=1e-7)


def test_adafactor_takes_a_scanned_layer_for_a_weight_of_its_own():
  rng = np.random.default_rng(0)
  # Layers of very different sizes, one of them factored.
  layers = {
    f"layers_{index}": {
      "wide": jnp.asarray(10.0**-index * rng.normal(size=(128, 130))),
      "scale": jnp.asarray(10.0**-index * rng.normal(size=(5,))),
    }
    for index in range(3)
  }
  in_turn = {"encoder": layers, "decoder": layers}
  optimizer = optimizers.adafactor(
    learning_rate=optimizers.constant(learning_rate=0.1)
  )

  def trained(params):
    state = optimizer.init(params)
    for step in range(3):
      gradients = jax.tree.map(lambda x, step=step: x * (step + 1.0), params)
      updates, state = optimizer.update(gradients, state, params)
      params = optax.apply_updates(params, updates)
    return params

  scanned = unstack_layers(trained(stack_layers(in_turn)))
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5),
    scanned,
    trained(in_turn),
  )
