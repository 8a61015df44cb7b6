"""The training step: what changes, what it costs, and T5X's ten steps."""

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

from prompt_tuning.model.config import T5Config
from prompt_tuning.model.t5 import T5
from prompt_tuning.prompts.module import Prompt
from prompt_tuning.testing import fakes
from prompt_tuning.testing.fixtures import read_params
from prompt_tuning.testing.shared import fixture_path
from prompt_tuning.train import optimizers, partition
from prompt_tuning.train import step as step_lib

PROMPT_ONLY = (r"prompt/.*",)
EVERYTHING = (r".*",)


def adafactor(**overrides):
  settings = {
    "learning_rate": optimizers.constant(learning_rate=0.3),
    "multiply_by_parameter_scale": False,
    "weight_decay_rate": 1e-5,
  }
  return optimizers.adafactor(**{**settings, **overrides})


def start(model, patterns, *, optimizer=None, **settings):
  """Returns (step function, state, frozen) of a tiny run."""
  optimizer = optimizer or adafactor()
  params = fakes.tiny_params(model)
  parts = partition.split(params, patterns)
  step = step_lib.make_train_step(model, optimizer, **settings)
  return step, step_lib.init_state(parts.trainable, optimizer), parts.frozen


@pytest.mark.parametrize(
  ("first_step", "name"), [(0, "step0"), (1_100_000, "step1100000")]
)
def test_ten_steps_equal_t5x(first_step, name):
  expected = np.load(fixture_path(f"adafactor_10steps_{name}.npz"))
  batches = np.load(fixture_path("batches.npz"))
  config = T5Config(
    vocab_size=1024,
    embed_dim=48,
    num_heads=4,
    head_dim=16,
    mlp_dim=96,
    num_encoder_layers=3,
    num_decoder_layers=2,
  )
  model = T5(
    config,
    prompt=Prompt(
      length=10, features=48, initializer=jax.nn.initializers.zeros
    ),
  )
  frozen = read_params(fixture_path("params.npz"))
  optimizer = adafactor(step_offset=first_step)
  state = step_lib.init_state(
    {"prompt": {"embedding": jnp.asarray(expected["prompts"][0])}}, optimizer
  )
  step = jax.jit(step_lib.make_train_step(model, optimizer))
  slots = np.tile(config.vocab_size + np.arange(10, dtype=np.int32), (4, 1))
  for index in range(10):
    batch = {
      key.split("/")[1]: batches[key]
      for key in batches
      if key.startswith(f"{index}/")
    }
    batch["encoder_input_tokens"] = np.concatenate(
      [slots, batch["encoder_input_tokens"]], axis=1
    )
    state, metrics = step(state, frozen, batch, jax.random.key(0))
    np.testing.assert_allclose(
      metrics["loss_sum"], expected["losses"][index], rtol=1e-5
    )
    prompt = expected["prompts"][index + 1]
    error = np.abs(state.trainable["prompt"]["embedding"] - prompt).max()
    assert error <= 1e-5 * np.abs(prompt).max()
    second_moment = expected["v"][index]
    error = np.abs(state.opt_state[0].v["prompt"]["embedding"] - second_moment)
    assert error.max() <= 1e-5 * second_moment.max()


def test_only_the_prompt_changes_and_only_it_has_state():
  model = fakes.tiny_model(fakes.tiny_prompt(4))
  step, state, frozen = start(model, PROMPT_ONLY)
  before = jax.tree.map(np.array, (state.trainable, frozen))
  after, _ = jax.jit(step)(state, frozen, fakes.toy_batch(0), jax.random.key(0))
  assert list(after.trainable) == ["prompt"]
  assert np.all(
    before[0]["prompt"]["embedding"] != after.trainable["prompt"]["embedding"]
  )
  jax.tree.map(np.testing.assert_array_equal, before[1], frozen)
  frozen_shapes = {leaf.shape for leaf in jax.tree.leaves(frozen)}
  prompt_shape = after.trainable["prompt"]["embedding"].shape
  for leaf in jax.tree.leaves(after.opt_state):
    assert leaf.shape == prompt_shape or leaf.shape not in frozen_shapes


def flops(function, *args):
  return jax.jit(function).lower(*args).compile().cost_analysis()["flops"]


def test_the_compiled_step_computes_no_gradient_of_frozen_weights():
  # Wide enough that matrix products decide the count.
  model = fakes.tiny_model(
    fakes.tiny_prompt(8, features=64),
    embed_dim=64,
    mlp_dim=128,
    vocab_size=256,
  )
  batch = fakes.tiny_batch(
    np.random.default_rng(0),
    batch_size=8,
    inputs_length=40,
    prompt_length=8,
    vocab_size=256,
  )
  rng = jax.random.key(0)
  params = fakes.tiny_params(model)
  forward = flops(
    lambda p, b: step_lib.batch_loss(model, p, b).loss, params, batch
  )
  step, state, frozen = start(model, PROMPT_ONLY)
  prompt_tuning = flops(step, state, frozen, batch, rng)
  step, state, frozen = start(model, EVERYTHING)
  model_tuning = flops(step, state, frozen, batch, rng)
  assert prompt_tuning <= 2.2 * forward
  assert model_tuning >= 2.7 * forward


@pytest.mark.slow_after(1)
@pytest.mark.parametrize("patterns", [PROMPT_ONLY, EVERYTHING])
@pytest.mark.parametrize("normalization", list(step_lib.LossNormalization))
def test_microbatches_take_the_same_step(patterns, normalization):
  model = fakes.tiny_model(fakes.tiny_prompt(4))
  batch = fakes.tiny_batch(
    np.random.default_rng(1), batch_size=8, prompt_length=4
  )
  results = []
  for parts in (1, 2, 4):
    step, state, frozen = start(
      model,
      patterns,
      num_microbatches=parts,
      loss_normalization=normalization,
      # Steps proportional to the gradient, so that its scale shows too.
      optimizer=optimizers.Optimizer(
        *optax.sgd(1e-2), optimizers.constant(learning_rate=1.0)
      ),
    )
    results.append(jax.jit(step)(state, frozen, batch, jax.random.key(0)))
  for state, metrics in results[1:]:
    for actual, expected in zip(
      jax.tree.leaves((state.trainable, metrics)),
      jax.tree.leaves((results[0][0].trainable, results[0][1])),
      strict=True,
    ):
      np.testing.assert_allclose(actual, expected, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("named", [False, True])
def test_normalizing_by_tokens_divides_the_gradient(named):
  model = fakes.tiny_model(fakes.tiny_prompt(4))
  batch = fakes.toy_batch(0)
  norms = []
  for kind in step_lib.LossNormalization:
    step, state, frozen = start(
      model, PROMPT_ONLY, loss_normalization=kind.value if named else kind
    )
    _, metrics = jax.jit(step)(state, frozen, batch, jax.random.key(0))
    norms.append(float(metrics["grad_norm"]))
  tokens = batch["decoder_loss_weights"].sum()
  np.testing.assert_allclose(norms[0], norms[1] * tokens, rtol=1e-4)


def test_a_batch_that_microbatches_cannot_divide_is_an_error():
  model = fakes.tiny_model(fakes.tiny_prompt(4))
  step, state, frozen = start(model, PROMPT_ONLY, num_microbatches=3)
  with pytest.raises(ValueError, match="16 examples cannot be cut into"):
    step(state, frozen, fakes.toy_batch(0), jax.random.key(0))


def test_dropout_depends_on_the_key_and_the_step_alone():
  model = fakes.tiny_model(fakes.tiny_prompt(4), dropout_rate=0.3)
  step, state, frozen = start(model, PROMPT_ONLY)
  step = jax.jit(step)
  batch = fakes.toy_batch(0)

  def loss(state, seed):
    return float(step(state, frozen, batch, jax.random.key(seed))[1]["loss"])

  assert loss(state, 0) == loss(state, 0)
  assert loss(state, 0) != loss(state, 1)
  assert loss(state, 0) != loss(state.replace(step=state.step + 1), 0)


def test_padding_targets_do_not_count():
  model = fakes.tiny_model(fakes.tiny_prompt(4))
  step, state, frozen = start(model, PROMPT_ONLY)
  batch = fakes.toy_batch(0)
  padded = {
    key: np.pad(value, ((0, 0), (0, 3))) for key, value in batch.items()
  }
  rng = jax.random.key(0)
  plain, longer = (
    jax.jit(step)(state, frozen, each, rng) for each in (batch, padded)
  )
  np.testing.assert_allclose(
    plain[0].trainable["prompt"]["embedding"],
    longer[0].trainable["prompt"]["embedding"],
    rtol=1e-4,
    atol=1e-5,
  )
  np.testing.assert_allclose(plain[1]["loss"], longer[1]["loss"], rtol=1e-5)


def test_tuning_the_prompt_lowers_the_loss_of_a_frozen_model():
  model = fakes.tiny_model(fakes.tiny_prompt(4))
  step, state, frozen = start(model, PROMPT_ONLY)
  step = jax.jit(step)
  held_out = fakes.toy_batch(1_000)

  def held_out_loss(state):
    return float(step(state, frozen, held_out, jax.random.key(0))[1]["loss"])

  before = held_out_loss(state)
  for index in range(60):
    batch = fakes.toy_batch(index)
    state, _ = step(state, frozen, batch, jax.random.key(0))
  assert held_out_loss(state) < 0.85 * before
