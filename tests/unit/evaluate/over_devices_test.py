"""Answers of a batch from all devices are those of one."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from prompt_tuning.evaluate import over_devices
from prompt_tuning.train import mesh as mesh_lib

pytestmark = pytest.mark.multidevice


def _params(mesh=None):
  weights = np.arange(12.0, dtype=np.float32).reshape(3, 4)
  if mesh is None:
    return {"w": jnp.asarray(weights)}
  where = NamedSharding(mesh, PartitionSpec(None, "model"))
  return {"w": jax.device_put(weights, where)}


def _batch(size):
  rng = np.random.default_rng(0)
  return {
    "x": rng.normal(size=(size, 3)).astype(np.float32),
    "weights": rng.normal(size=(size,)).astype(np.float32),
  }


def _function(layouts):
  @jax.jit
  def function(params, batch, rng):
    noise = jax.random.uniform(rng)
    return (batch["x"] @ params["w"]) * batch["weights"][:, None] + noise

  def remembering(params, batch, rng):
    layouts.append(getattr(batch["x"], "sharding", None))
    return function(params, batch, rng)

  return remembering


@pytest.mark.parametrize("size", [8, 6, 1])
@pytest.mark.parametrize("mesh", [(8, 1), (4, 2)])
def test_answers_do_not_depend_on_the_devices(mesh, size):
  key, layouts = jax.random.key(1), []
  function = _function(layouts)
  expected = over_devices.answer(function, _params(), _batch(size), key)
  answers = over_devices.answer(
    function, _params(mesh_lib.make_mesh(*mesh)), _batch(size), key
  )
  assert isinstance(answers, np.ndarray)
  assert answers.shape == (size, 4)
  np.testing.assert_allclose(answers, expected, rtol=1e-6)
  # On one device the batch stays as it came, and is cut over several.
  assert layouts[0] is None
  assert layouts[1].spec == PartitionSpec("data")
