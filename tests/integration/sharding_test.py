"""Eight devices, laid out in every way, against one: the same numbers.

In a process of its own, because the number of virtual devices is fixed when JAX
starts.
"""

import dataclasses
import functools
import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding

from prompt_tuning.model import t5
from prompt_tuning.model.sharding import ActivationSharding, feature_spec
from prompt_tuning.testing import fakes
from prompt_tuning.testing.toy_run import ToyRun
from prompt_tuning.train import mesh as mesh_lib
from prompt_tuning.train import optimizers, partition
from prompt_tuning.train.step import init_state, make_train_step

# One mesh that cuts all ways by default; all of them in the slow tests.
FIRST = "2x2x2"
# Data, sequence, model.
MESHES = {
  "8x1x1": (8, 1, 1),
  "4x1x2": (4, 1, 2),
  "1x1x8": (1, 1, 8),
  "2x2x2": (2, 2, 2),
  "2x4x1": (2, 4, 1),
}
LONG = 1024
PATTERNS = {"prompt tuning": ["prompt/.*"], "model tuning": [".*"]}
STEPS = 3
# Sums over devices are taken in another order.
RELATIVE = 1e-5

pytestmark = pytest.mark.multidevice


# What runs in the other process.


@functools.cache
def _model():
  return fakes.tiny_model(
    fakes.tiny_prompt(), num_encoder_layers=1, num_decoder_layers=1
  )


def _optimizer():
  # Factored as for a large model, so that row and column moments are cut too.
  return optimizers.adafactor(
    learning_rate=optax.constant_schedule(0.02), min_dim_size_to_factor=8
  )


def _mesh(name):
  data, sequence, model = MESHES[name]
  return mesh_lib.make_mesh(data, model, sequence=sequence)


def _step(mesh):
  """Returns the train step of a network that knows its mesh."""
  sharding = ActivationSharding(mesh, mesh_lib.DEFAULT_RULES)
  model = _model().clone(sharding=sharding)
  return make_train_step(model, _optimizer())


def _long_memory(mesh):
  """Returns bytes that one device needs besides its parameters and batch."""
  params = t5.abstract_params(_model())
  axes = t5.logical_axes(_model())
  parts = partition.split(params, ["prompt/.*"])
  state = jax.eval_shape(lambda p: init_state(p, _optimizer()), parts.trainable)
  everywhere = mesh_lib.replicated(mesh)
  batch = {
    "encoder_input_tokens": jax.ShapeDtypeStruct((8, LONG), np.int32),
    **{
      name: jax.ShapeDtypeStruct((8, 4), dtype)
      for name, dtype in (
        ("decoder_input_tokens", np.int32),
        ("decoder_target_tokens", np.int32),
        ("decoder_loss_weights", np.float32),
      )
    },
  }
  compiled = (
    jax.jit(
      _step(mesh),
      in_shardings=(
        everywhere,
        mesh_lib.param_shardings(parts.frozen, axes, mesh=mesh),
        {name: NamedSharding(mesh, feature_spec(name, 2)) for name in batch},
        everywhere,
      ),
    )
    .lower(state, parts.frozen, batch, jax.random.key(0))
    .compile()
  )
  return compiled.memory_analysis().temp_size_in_bytes


def _train(mesh, patterns):
  """Returns losses and parameters after some steps, and where things lay."""
  params = fakes.toy_params(_model())
  axes = t5.logical_axes(_model())
  shardings = mesh_lib.param_shardings(params, axes, mesh=mesh)
  parts = partition.split(jax.device_put(params, shardings), patterns)
  state = init_state(parts.trainable, _optimizer())
  where = jax.tree.map(lambda x: x.sharding, parts.trainable)
  lay_out = mesh_lib.state_shardings(state, where, mesh=mesh)
  state = jax.device_put(state, lay_out)
  step = jax.jit(
    _step(mesh),
    out_shardings=(lay_out, mesh_lib.replicated(mesh)),
  )
  rng = jax.device_put(jax.random.key(0), mesh_lib.replicated(mesh))
  losses = []
  for index in range(STEPS):
    batch = mesh_lib.shard_batch(fakes.toy_batch(index), mesh)
    state, metrics = step(state, parts.frozen, batch, rng)
    losses.append(float(metrics["loss"]))
  merged = partition.merge(state.trainable, parts.frozen)
  embedding = merged["token_embedder"]["embedding"]
  return {
    "losses": losses,
    "params": jax.device_get(state.trainable),
    "embedding shard": embedding.addressable_shards[0].data.shape,
    "batch shard": batch["encoder_input_tokens"]
    .addressable_shards[0]
    .data.shape,
  }


def _largest_difference(ours, theirs):
  """The largest difference, relative to the largest number of its array."""
  return max(
    float(np.abs(a - b).max() / np.abs(b).max())
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True)
  )


def _compare(names):
  one = mesh_lib.make_mesh(devices=jax.devices()[:1])
  results = {}
  for name in names:
    results[f"memory {name}"] = _long_memory(_mesh(name)) / _long_memory(one)
  for kind, patterns in PATTERNS.items():
    expected = _train(one, patterns)
    for name in names:
      result = _train(_mesh(name), patterns)
      results[f"{kind} {name}"] = {
        "losses": _largest_difference(result["losses"], expected["losses"]),
        "params": _largest_difference(result["params"], expected["params"]),
        "embedding shard": result["embedding shard"],
        "batch shard": result["batch shard"],
      }
  return results


def _move_between_meshes(folder):
  """Trains on one mesh, goes on on another; returns both runs' prompts."""
  run = ToyRun(model_dir=folder / "moved", steps=4, dropout_rate=0.0)
  run.run(mesh=mesh_lib.make_mesh(4, 2))
  run = dataclasses.replace(run, steps=8)
  moved = run.run(mesh=mesh_lib.make_mesh(2, 4))
  run = dataclasses.replace(run, model_dir=folder / "stayed")
  stayed = run.run()
  return {
    "moved": moved.state.trainable["prompt"]["embedding"].tolist(),
    "stayed": stayed.state.trainable["prompt"]["embedding"].tolist(),
  }


def _main(folder, *names):
  assert jax.device_count() == 8
  if names:
    print(json.dumps(_compare(names)))
  else:
    print(json.dumps(_move_between_meshes(pathlib.Path(folder))))


# What is checked of it.


def _run_elsewhere(folder, names):
  environment = os.environ | {
    "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
    "JAX_PLATFORMS": "cpu",
  }
  done = subprocess.run(
    [sys.executable, __file__, str(folder), *names],
    env=environment,
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr[-3000:]
  return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def first(tmp_path_factory):
  return _run_elsewhere(tmp_path_factory.mktemp("mesh"), [FIRST])


@pytest.fixture(scope="module")
def others(tmp_path_factory):
  names = [name for name in MESHES if name != FIRST]
  return _run_elsewhere(tmp_path_factory.mktemp("mesh"), names)


def _check(results, mesh):
  data, sequence, model = MESHES[mesh]
  # Examples are cut over data and sequence; what the parameters take is not.
  assert results[f"memory {mesh}"] < 1 / (data * sequence) + 0.15
  for kind in PATTERNS:
    result = results[f"{kind} {mesh}"]
    assert result["losses"] < RELATIVE
    assert result["params"] < RELATIVE
    assert result["batch shard"] == [16 // data, 12 // sequence]
    rows = fakes.VOCAB_SIZE // model
    assert result["embedding shard"] == [rows, fakes.EMBED_DIM]


@pytest.mark.slow
def test_a_mesh_gives_the_numbers_of_one_device(first):
  _check(first, FIRST)


@pytest.mark.slow
@pytest.mark.parametrize("mesh", [name for name in MESHES if name != FIRST])
def test_every_mesh_gives_the_numbers_of_one_device(others, mesh):
  _check(others, mesh)


@pytest.mark.slow
def test_a_run_may_be_resumed_on_another_mesh(tmp_path):
  resumed = _run_elsewhere(tmp_path, [])
  assert np.isfinite(resumed["moved"]).all()
  np.testing.assert_allclose(
    resumed["moved"], resumed["stayed"], rtol=1e-4, atol=1e-5
  )


if __name__ == "__main__":
  _main(*sys.argv[1:])
