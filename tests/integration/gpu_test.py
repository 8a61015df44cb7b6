"""A GPU computes what a CPU does. On a machine with one, `pytest -m gpu`."""

import chex
import jax
import numpy as np
import optax
import pytest

from prompt_tuning.evaluate.generation import Generator
from prompt_tuning.evaluate.rank_classification import (
  RankClassifier,
  Verbalizers,
)
from prompt_tuning.model.quantization import quantize_params
from prompt_tuning.testing import fakes
from prompt_tuning.train import optimizers, partition
from prompt_tuning.train.step import (
  init_state,
  make_joint_train_step,
  make_train_step,
  stack,
)

pytestmark = pytest.mark.gpu

STEPS = 10


@pytest.fixture(autouse=True)
def _full_precision():
  # By default a GPU multiplies float32 in TF32.
  with jax.default_matmul_precision("highest"):
    yield


def device(platform):
  return jax.devices(platform)[0]


def optimizer():
  return optimizers.adamw(learning_rate=optax.constant_schedule(0.1))


def parts(model, pattern):
  return partition.split(fakes.toy_params(model), [pattern])


def tuned(platform, model, pattern, **options):
  """Returns the parameters after some steps, and the losses on the way."""
  with jax.default_device(device("cpu")):
    split = parts(model, pattern)
    fresh = init_state(split.trainable, optimizer())
  step = jax.jit(make_train_step(model, optimizer(), **options))
  place = lambda tree: jax.device_put(tree, device(platform))  # noqa: E731
  state, frozen = place(fresh), place(split.frozen)
  key = place(jax.random.key(0))
  losses = []
  for index in range(STEPS):
    batch = place(fakes.toy_batch(index))
    state, metrics = step(state, frozen, batch, key)
    losses.append(float(metrics["loss"]))
  return jax.device_get(state.trainable), losses


@pytest.mark.parametrize("attention", ["full", "prefix"])
@pytest.mark.parametrize(
  ("model", "options"),
  [
    ({}, {}),
    ({"scan_layers": True, "remat": "layer"}, {}),
    ({}, {"num_microbatches": 4}),
    ({"dropout_rate": 0.1}, {}),
  ],
  ids=["plain", "scan", "microbatches", "dropout"],
)
def test_prompt_tuning_takes_the_same_steps(attention, model, options):
  prompt = fakes.tiny_prompt().clone(attention=attention)
  network = fakes.tiny_model(prompt, **model)
  expected, losses = tuned("cpu", network, "prompt/.*", **options)
  got, on_gpu = tuned("gpu", network, "prompt/.*", **options)
  assert losses[-1] < losses[0]
  np.testing.assert_allclose(on_gpu, losses, rtol=1e-4)
  chex.assert_trees_all_close(got, expected, atol=1e-4)


def test_model_tuning_takes_the_same_steps():
  network = fakes.tiny_model(fakes.tiny_prompt())
  _, losses = tuned("cpu", network, ".*")
  _, on_gpu = tuned("gpu", network, ".*")
  # Adam makes whole steps of the roundings of gradients that are nearly 0.
  np.testing.assert_allclose(on_gpu[:3], losses[:3], rtol=1e-3)


def test_runs_of_a_job_take_the_same_steps():
  network = fakes.tiny_model(fakes.tiny_prompt())
  step = jax.jit(make_joint_train_step(network, [optimizer()] * 2))
  batches = [
    stack([fakes.toy_batch(index, seed=seed) for seed in range(2)])
    for index in range(STEPS)
  ]
  results = []
  for platform in ("cpu", "gpu"):
    split = parts(network, "prompt/.*")
    states = (init_state(split.trainable, optimizer()),) * 2
    arguments = jax.device_put(
      (states, split.frozen, jax.random.split(jax.random.key(0), 2)),
      device(platform),
    )
    states, frozen, keys = arguments
    for batch in batches:
      batch = jax.device_put(batch, device(platform))
      states, _ = step(states, frozen, batch, keys)
    results.append(jax.device_get([state.trainable for state in states]))
  chex.assert_trees_all_close(results[1], results[0], atol=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "int8"])
@pytest.mark.parametrize("attention", ["full", "prefix"])
def test_answers_are_the_same(attention, dtype):
  network = fakes.tiny_model(fakes.tiny_prompt().clone(attention=attention))
  params = fakes.toy_params(network)
  if dtype == "int8":
    frozen = {name: part for name, part in params.items() if name != "prompt"}
    params = quantize_params(frozen) | {"prompt": params["prompt"]}
  batch = fakes.toy_batch(0, batch_size=64)
  words = Verbalizers(
    texts=("first", "second"),
    tokens=((fakes.TOY_LABELS[0],), (fakes.TOY_LABELS[1],)),
  )
  answers = []
  for platform in ("cpu", "gpu"):
    with jax.default_device(device(platform)):
      placed = jax.device_put(params, device(platform))
      written = Generator(network, max_decode_length=4).predict(placed, batch)
      ranked = RankClassifier(network, words).rank(placed, batch)
      answers.append(jax.device_get((written, ranked)))
  chex.assert_trees_all_close(answers[1], answers[0], atol=1e-4)
