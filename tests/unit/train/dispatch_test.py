"""A step that is compiled ahead is the step, compiled once."""

import contextlib
import threading

import jax
import numpy as np
import pytest
from jax import monitoring
from jax import numpy as jnp

from prompt_tuning.train import mesh as mesh_lib
from prompt_tuning.train.dispatch import Steps

_COMPILED = "/jax/core/compile/backend_compile_duration"


@pytest.fixture
def mesh():
  return mesh_lib.make_mesh(devices=jax.devices()[:2])


@pytest.fixture
def given(mesh):
  """State, frozen parameters, and the key, as they lie on the devices."""
  place = lambda x: jax.device_put(x, mesh_lib.replicated(mesh))  # noqa: E731
  return {
    "state": place({"prompt": jnp.ones(3)}),
    # Of a weak type, which the program depends on too.
    "frozen": place({"weight": jnp.full(3, 2.0)}),
    "rng": mesh_lib.replicate_key(jax.random.key(0), mesh),
  }


def make_step():
  """Returns a step that JAX has not seen."""

  def step(state, frozen, batch, rng):
    noise = jax.random.normal(rng, (3,))
    moved = batch["tokens"].sum() * frozen["weight"] + noise
    return {"prompt": state["prompt"] + moved}, {"loss": moved.sum()}

  return step


def batches(count, value=1):
  return [{"tokens": np.full((4, 5), value, np.int32)}] * count


@contextlib.contextmanager
def programs_compiled():
  """Counts the programs that are compiled in the block, in any thread."""
  names = []

  def listen(event: str, duration_secs: float, **about: str | int) -> None:
    del duration_secs
    if event == _COMPILED:
      names.append(about.get("fun_name"))

  monitoring.register_event_duration_secs_listener(listen)
  try:
    yield names
  finally:
    monitoring.unregister_event_duration_listener(listen)


@pytest.mark.parametrize("count", [1, 3])
def test_a_step_is_the_same_and_compiled_once(mesh, given, count):
  expected, metrics = Steps(make_step(), given["state"], mesh=mesh, axis=0)(
    jax.tree.map(jnp.copy, given["state"]),
    given["frozen"],
    batches(count, 7),
    given["rng"],
  )
  steps = Steps(make_step(), given["state"], mesh=mesh, axis=0)
  with programs_compiled() as ahead:
    steps.compile_ahead(
      given["state"], given["frozen"], batches(count, 0), given["rng"]
    )
    steps.wait()
  assert len(ahead) == 1
  with programs_compiled() as later:
    state, found = steps(
      given["state"], given["frozen"], batches(count, 7), given["rng"]
    )
  assert not later
  jax.tree.map(np.testing.assert_array_equal, state, expected)
  index = () if count == 1 else (2,)
  assert found.at(index) == metrics.at(index)


def test_batches_of_another_shape_are_compiled_when_they_come(mesh, given):
  steps = Steps(make_step(), given["state"], mesh=mesh, axis=0)
  steps.compile_ahead(given["state"], given["frozen"], batches(1), given["rng"])
  longer = [{"tokens": np.ones((4, 9), np.int32)}]
  _, metrics = steps(given["state"], given["frozen"], longer, given["rng"])
  assert np.isfinite(metrics.at(())["loss"])


def test_what_does_not_compile_is_an_error_of_the_first_step(mesh, given):
  def broken(state, frozen, batch, rng):
    raise ValueError(f"traced in {threading.current_thread().name}")

  steps = Steps(broken, given["state"], mesh=mesh, axis=0)
  steps.compile_ahead(given["state"], given["frozen"], batches(1), given["rng"])
  with pytest.raises(ValueError, match="traced in compile"):
    steps(given["state"], given["frozen"], batches(1), given["rng"])
