"""Answers of a batch from all devices are those of one."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from prompt_tuning.data.batches import EvaluationBatch
from prompt_tuning.evaluate import over_devices
from prompt_tuning.train import mesh as mesh_lib

pytestmark = pytest.mark.multidevice


def _params(mesh=None):
  weights = np.arange(12.0, dtype=np.float32).reshape(3, 4)
  if mesh is None:
    return {"w": jnp.asarray(weights)}
  where = NamedSharding(mesh, PartitionSpec(None, "model"))
  return {"w": jax.device_put(weights, where)}


def _batches(*sizes):
  rng = np.random.default_rng(0)
  for index, size in enumerate(sizes):
    features = {
      # Positive, so that no sum cancels to less than its rounding.
      "x": rng.uniform(size=(size, 3)).astype(np.float32),
      "weights": rng.uniform(1, 2, size=(size,)).astype(np.float32),
    }
    numbers = 10 * index + np.arange(size)
    yield EvaluationBatch(features, numbers >= 0, numbers)


def _function(layouts):
  @jax.jit
  def function(params, batch, rngs):
    noise = jax.vmap(jax.random.uniform)(rngs)[:, None]
    return (batch["x"] @ params["w"]) * batch["weights"][:, None] + noise

  def remembering(params, batch, rngs):
    layouts.append(getattr(batch["x"], "sharding", None))
    return function(params, batch, rngs)

  return remembering


@pytest.mark.parametrize("sizes", [(8, 8), (6,), (1, 1, 1), ()])
@pytest.mark.parametrize("mesh", [(8, 1), (4, 2)])
def test_answers_do_not_depend_on_the_devices(mesh, sizes):
  layouts = []
  function = _function(layouts)
  params = _params(mesh_lib.make_mesh(*mesh))
  expected = list(over_devices.answers(function, _params(), _batches(*sizes)))
  found = list(over_devices.answers(function, params, _batches(*sizes)))
  assert len(found) == len(expected) == len(sizes)
  for (batch, answers), (same, wanted) in zip(found, expected, strict=True):
    np.testing.assert_array_equal(batch.indices, same.indices)
    assert isinstance(answers, np.ndarray)
    assert answers.shape == (len(batch.indices), 4)
    np.testing.assert_allclose(answers, wanted, rtol=1e-6)
  # On one device the batch stays as it came, and is cut over several.
  alone, spread = layouts[: len(sizes)], layouts[len(sizes) :]
  assert alone == [None] * len(sizes)
  assert {each.spec for each in spread} <= {PartitionSpec("data")}


def test_a_key_is_that_of_an_example_and_of_the_seed():
  def draws(numbers, seed):
    numbers = np.array(numbers)
    batch = EvaluationBatch({"x": numbers}, numbers >= 0, numbers)
    [(_, drawn)] = over_devices.answers(
      lambda params, batch, rngs: jax.vmap(jax.random.uniform)(rngs),
      {},
      [batch],
      seed=seed,
    )
    return drawn.tolist()

  first = draws([0, 1, 2, 3], seed=5)
  assert draws([3, 1, -1], seed=5)[:2] == [first[3], first[1]]
  assert len({*first, *draws([0, 1, 2, 3], seed=6)}) == 8


def test_the_next_batch_is_asked_for_before_answers_are_read():
  events = []

  class Answers:
    def __init__(self, number):
      events.append(f"ask {number}")
      self._number = number

    def __array__(self, dtype=None, copy=None):
      events.append(f"read {self._number}")
      return np.zeros(2)

  def laid_out():
    for batch in _batches(2, 2, 2):
      events.append(f"lay out {batch.indices[0]}")
      yield batch

  asked = iter(range(3))
  for _ in over_devices.answers(
    lambda *_: Answers(next(asked)), {}, laid_out()
  ):
    pass
  assert events == [
    *("lay out 0", "ask 0", "lay out 10", "ask 1", "read 0"),
    *("lay out 20", "ask 2", "read 1", "read 2"),
  ]
