"""Compiled training steps, and what goes to the device with each."""

import functools
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from prompt_tuning.data.features import Features
from prompt_tuning.train import mesh as mesh_lib
from prompt_tuning.train.step import repeat
from prompt_tuning.types import Params


class StepMetrics:
  """Metrics of the steps that went to the device together, read once."""

  def __init__(self, values: Mapping[str, jax.Array]):
    """Holds metrics, each with an axis for the steps if there are several."""
    self._values = values

  @functools.cached_property
  def _on_host(self) -> Mapping[str, np.ndarray]:
    return jax.device_get(self._values)

  def at(self, index: tuple[int, ...]) -> dict[str, float]:
    """Waits for the steps; returns the metrics of one step of one run."""
    return {
      name: float(np.asarray(value)[index])
      for name, value in self._on_host.items()
    }


class Steps:
  """A training step as a program for one step and one for several.

  The state is donated, and nothing but the batch goes to the device.
  """

  def __init__(
    self, train_step: Callable[..., Any], state: Any, *, mesh: Mesh, axis: int
  ):
    """Compiles nothing yet.

    Args:
      train_step: As `make_train_step` or `make_joint_train_step` returns it.
      state: A state as it lies on the devices.
      mesh: Where batches are laid out.
      axis: Where the features that the step takes have the batch: 0 for one
        run, 1 for several.
    """
    self._mesh = mesh
    self._axis = axis
    # Of a state that was given away already, this is still known.
    shardings = jax.tree.map(lambda leaf: leaf.sharding, state)
    compiled = functools.partial(
      jax.jit,
      donate_argnums=0,
      out_shardings=(shardings, mesh_lib.replicated(mesh)),
    )
    self._one = compiled(train_step)
    self._several = compiled(repeat(train_step))
    self._ahead: futures.Future[Any] | None = None

  def compile_ahead(
    self,
    state: Any,
    frozen: Params,
    batches: Sequence[Features],
    rng: jax.Array,
  ) -> None:
    """Starts to compile in another thread; the first step waits for it.

    XLA compiles without holding Python up, which goes on meanwhile. What does
    not compile is an error of the first step. A process that ends before ends
    when the compiler is done, which cannot be stopped.

    Args:
      state: As of the steps to come; only shapes and shardings matter.
      frozen: Likewise.
      batches: As many as go to the device together, of the shape to come.
      rng: As of the steps to come.

    Raises:
      ValueError: If a batch does not divide over the mesh.
    """
    step, on_device = self._program(batches)
    # Shapes alone, for the state is donated to what comes first.
    shapes = jax.tree.map(_shape, (state, frozen, on_device, rng))
    pool = futures.ThreadPoolExecutor(1, thread_name_prefix="compile")
    # What is compiled is kept by JAX, by shapes: a call finds it there.
    self._ahead = pool.submit(lambda: step.lower(*shapes).compile())
    pool.shutdown(wait=False)

  def __call__(
    self,
    state: Any,
    frozen: Params,
    batches: Sequence[Features],
    rng: jax.Array,
  ) -> tuple[Any, StepMetrics]:
    """Starts as many steps as there are batches; waits for nothing.

    Raises:
      ValueError: If a batch does not divide over the mesh.
    """
    self.wait()
    step, on_device = self._program(batches)
    # Whatever still moves between host and device here is a mistake.
    with jax.transfer_guard("disallow"):
      state, metrics = step(state, frozen, on_device, rng)
    return state, StepMetrics(metrics)

  def wait(self) -> None:
    """Returns when what `compile_ahead` began is done.

    Raises:
      Exception: What it raised.
    """
    ahead, self._ahead = self._ahead, None
    if ahead is not None:
      ahead.result()

  def _program(self, batches: Sequence[Features]) -> tuple[Any, Any]:
    """Returns what runs so many batches, and these on the devices."""
    is_one = len(batches) == 1
    on_device = mesh_lib.shard_batch(
      batches[0] if is_one else stack_padded(batches),
      self._mesh,
      axis=self._axis if is_one else self._axis + 1,
    )
    return self._one if is_one else self._several, on_device


def _shape(leaf: jax.Array) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(
    leaf.shape,
    leaf.dtype,
    sharding=leaf.sharding,
    weak_type=getattr(leaf, "weak_type", False),  # Keys have none.
  )


def stack_padded(batches: Sequence[Features]) -> Features:
  """Returns the features of several batches along a new first axis.

  Packed batches differ in shape: they are padded with 0, which changes none.
  """
  return {
    name: _stack_padded([batch[name] for batch in batches])
    for name in batches[0]
  }


def _stack_padded(arrays: Sequence[np.ndarray]) -> np.ndarray:
  shape = np.max([array.shape for array in arrays], axis=0)
  stacked = np.zeros((len(arrays), *shape), arrays[0].dtype)
  for place, array in zip(stacked, arrays, strict=True):
    place[tuple(slice(size) for size in array.shape)] = array
  return stacked
