"""Several runs in one step: what each of them would do alone."""

import jax
import numpy as np
import optax
import pytest

from prompt_tuning.model import quantization
from prompt_tuning.prompts.module import Prompt, PromptAttention
from prompt_tuning.testing import fakes
from prompt_tuning.train import optimizers, partition
from prompt_tuning.train import step as step_lib

NUM_STEPS = 2
OPTIMIZERS = (
  optimizers.adafactor(
    learning_rate=optimizers.constant(learning_rate=0.3),
    multiply_by_parameter_scale=False,
    weight_decay_rate=1e-5,
  ),
  optimizers.adamw(
    learning_rate=optimizers.inverse_square_root(learning_rate=0.1),
    weight_decay_rate=1e-2,
    clip_global_norm=1.0,
  ),
)


def _model(attention="full", **overrides):
  prompt = Prompt(
    length=4,
    features=fakes.EMBED_DIM,
    initializer=jax.nn.initializers.normal(0.5),
    attention=PromptAttention(attention),
  )
  layers = {"num_encoder_layers": 1, "num_decoder_layers": 1}
  return fakes.tiny_model(prompt, **(layers | overrides))


def _runs(model, patterns=("prompt/.*",)):
  """Returns the states of runs with prompts of their own, and what is frozen.

  The second run is two steps ahead of the others.
  """
  states = []
  frozen = None
  for seed, optimizer in enumerate(OPTIMIZERS):
    params = fakes.tiny_params(model, seed=seed)
    parts = partition.split(params, patterns)
    frozen = parts.frozen if frozen is None else frozen
    state = step_lib.init_state(parts.trainable, optimizer)
    states.append(state.replace(step=state.step + 2 * (seed == 1)))
  return tuple(states), frozen


def _batches(model, number):
  in_rows = model.prompt.attention is PromptAttention.FULL
  return [
    fakes.tiny_batch(
      np.random.default_rng([number, run]), prompt_length=4 * in_rows
    )
    for run in range(len(OPTIMIZERS))
  ]


def _stacked(trees):
  return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def _joint(model, states, frozen, steps=NUM_STEPS, **settings):
  step = jax.jit(step_lib.make_joint_train_step(model, OPTIMIZERS, **settings))
  metrics = []
  for number in range(steps):
    states, measured = step(
      states, frozen, _stacked(_batches(model, number)), _keys()
    )
    metrics.append(measured)
  return states, metrics


def _keys():
  return jax.vmap(jax.random.key)(np.arange(len(OPTIMIZERS)))


def _alone(model, run, state, frozen, steps=NUM_STEPS, **settings):
  step = jax.jit(step_lib.make_train_step(model, OPTIMIZERS[run], **settings))
  metrics = []
  for number in range(steps):
    batch = _batches(model, number)[run]
    state, measured = step(state, frozen, batch, jax.random.key(run))
    metrics.append(measured)
  return state, metrics


def _assert_close(actual, expected):
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6),
    actual,
    expected,
  )


@pytest.mark.slow_after(2)
@pytest.mark.parametrize(
  ("settings", "overrides"),
  [
    ({}, {}),
    ({}, {"attention": "prefix"}),
    ({}, {"dropout_rate": 0.2}),
    ({"num_microbatches": 2, "loss_normalization": "tokens"}, {}),
    ({}, {"scan_layers": True, "remat": "layer", "num_encoder_layers": 2}),
  ],
  ids=["full", "prefix", "dropout", "microbatches", "scanned"],
)
def test_every_run_takes_the_steps_that_it_takes_alone(settings, overrides):
  model = _model(**overrides)
  states, frozen = _runs(model)
  together, metrics = _joint(model, states, frozen, **settings)
  for run, state in enumerate(states):
    alone, measured = _alone(model, run, state, frozen, **settings)
    _assert_close(together[run], alone)
    for joint, single in zip(metrics, measured, strict=True):
      _assert_close({name: x[run] for name, x in joint.items()}, single)


def test_other_parts_than_prompts_are_tuned_together_too():
  model = _model()
  patterns = ("prompt/.*", ".*norm/scale")
  states, frozen = _runs(model, patterns)
  together, _ = _joint(model, states, frozen, steps=1)
  for run, state in enumerate(states):
    alone, _ = _alone(model, run, state, frozen, steps=1)
    _assert_close(together[run].trainable, alone.trainable)


def test_an_int8_backbone_serves_all_runs():
  model = _model()
  states, frozen = _runs(model)
  frozen = quantization.quantize_params(frozen)
  together, _ = _joint(model, states, frozen, steps=1)
  for run, state in enumerate(states):
    alone, _ = _alone(model, run, state, frozen, steps=1)
    _assert_close(together[run].trainable, alone.trainable)


def test_a_run_that_leaves_the_numbers_disturbs_no_other():
  model = _model()
  states, frozen = _runs(model)
  expected, _ = _joint(model, states, frozen)
  lost = states[1].replace(
    trainable=jax.tree.map(lambda x: x * np.nan, states[1].trainable)
  )
  together, metrics = _joint(model, (states[0], lost), frozen)
  assert not np.isfinite(metrics[0]["loss"][1])
  jax.tree.map(np.testing.assert_array_equal, together[0], expected[0])


def test_the_work_is_that_of_the_runs_alone():
  model = _model()
  states, frozen = _runs(model)
  batches = _batches(model, 0)
  joint = jax.jit(step_lib.make_joint_train_step(model, OPTIMIZERS))
  together = _flops(joint, states, frozen, _stacked(batches), _keys())
  alone = sum(
    _flops(
      jax.jit(step_lib.make_train_step(model, optimizer)),
      state,
      frozen,
      batch,
      jax.random.key(0),
    )
    for optimizer, state, batch in zip(OPTIMIZERS, states, batches, strict=True)
  )
  assert together <= 1.02 * alone


def _flops(step, *arguments):
  return step.lower(*arguments).compile().cost_analysis()["flops"]


def test_several_steps_in_one_dispatch_are_the_same_steps():
  model = _model()
  states, frozen = _runs(model)
  expected, metrics = _joint(model, states, frozen)
  step = step_lib.repeat(step_lib.make_joint_train_step(model, OPTIMIZERS))
  batches = _stacked(
    [_stacked(_batches(model, number)) for number in range(NUM_STEPS)]
  )
  actual, measured = jax.jit(step)(states, frozen, batches, _keys())
  _assert_close(actual, expected)
  _assert_close(measured, _stacked(metrics))
  assert optax.tree.norm(actual[0].trainable) != optax.tree.norm(
    states[0].trainable
  )
