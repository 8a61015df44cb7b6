"""Steps of this library as `train.loop` takes them."""

import importlib.metadata
import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from benchmarks.jobs import Job
from benchmarks.systems import Facts
from benchmarks.systems.ours_batches import Features, shape_of
from prompt_tuning.train import mesh as mesh_lib
from prompt_tuning.types import Params


class Training:
  """Compiles a step with its state donated, and takes it again and again."""

  def __init__(
    self,
    job: Job,
    step: Callable[..., Any],
    *,
    state: Any,
    frozen: Params,
    rngs: jax.Array,
    batches: Sequence[Features],
  ):
    """Lays the state and the frozen weights out on all devices.

    Args:
      job: What is done.
      step: `(state, frozen, batch, rngs) -> (state, metrics)`.
      state: What changes.
      frozen: What does not.
      rngs: The key, or keys, of the run.
      batches: Gone through again and again.
    """
    self._mesh = mesh_lib.make_mesh()
    self._rngs = mesh_lib.replicate_key(rngs, self._mesh)
    self._frozen = self._place(frozen)
    self._state = self._place(state)
    self._batches = batches
    self._next = itertools.cycle(batches)
    self._step = jax.jit(
      step,
      donate_argnums=0,
      out_shardings=(
        jax.tree.map(lambda leaf: leaf.sharding, self._state),
        mesh_lib.replicated(self._mesh),
      ),
    )
    # XLA counts the body of a loop once; packed rows are no plain batch.
    self._counts_flops = job.num_microbatches == 1 and not job.packed_length
    self._facts: Facts = {}

  def _place(self, tree: Any) -> Any:
    return jax.device_put(tree, mesh_lib.replicated(self._mesh))

  def place_batch(self, batch: Features) -> dict[str, jax.Array]:
    """Sends a batch to the devices."""
    return mesh_lib.shard_batch(batch, self._mesh)

  def start(self) -> None:
    """Compiles the step for every shape, with a step of each."""
    self._compiled = {}
    begin = time.perf_counter()
    for shape, batch in self._by_shape().items():
      self._compiled[shape] = self._step.lower(
        self._state, self._frozen, self.place_batch(batch), self._rngs
      ).compile()
    self._facts["compile_seconds"] = time.perf_counter() - begin
    if self._counts_flops:
      largest = self._compiled[max(self._compiled)]
      costs: Any = largest.cost_analysis()
      if jax.default_backend() == "cpu":
        # On a GPU most products are calls of a library, which nobody counts.
        self._facts["compiled_flops"] = costs["flops"]
      memory: Any = largest.memory_analysis()
      self._facts["compiled_temporaries"] = memory.temp_size_in_bytes
    self._take_first()

  def start_like(self, other: "Training") -> None:
    """Starts with what another one has compiled for the same shapes."""
    self._compiled = other._compiled
    self._take_first()

  def _by_shape(self) -> dict[Any, Features]:
    return {shape_of(batch): batch for batch in self._batches}

  def _take_first(self) -> None:
    for batch in self._by_shape().values():
      self.read(self.take(batch))

  def run(self, num_steps: int) -> None:
    """Takes steps; the metrics of one are read while the next one runs."""
    pending = None
    for _ in range(num_steps):
      metrics = self.take_next()
      if pending is not None:
        self.read(pending)
      pending = metrics
    self.read(pending)
    self.wait()

  def take_next(self) -> Any:
    """Starts a step on the next batch; returns its metrics."""
    return self.take(next(self._next))

  def wait(self) -> None:
    """Returns when the last step is done."""
    jax.block_until_ready(self._state)

  def take(self, batch: Features) -> Any:
    """Starts a step; returns its metrics, which may not be there yet."""
    compiled = self._compiled[shape_of(batch)]
    self._state, metrics = compiled(
      self._state, self._frozen, self.place_batch(batch), self._rngs
    )
    return metrics

  def read(self, metrics: Any) -> None:
    """Takes all metrics to the host, as a run does, and looks at the loss.

    Raises:
      FloatingPointError: If it is not finite.
    """
    loss = np.asarray(jax.device_get(metrics)["loss"])
    if not np.all(np.isfinite(loss)):
      raise FloatingPointError(f"ours: the loss is {loss}.")

  def facts(self) -> Facts:
    """Returns versions, and what XLA counts for the longest batch."""
    return self._facts | versions()


def versions() -> Facts:
  """Returns the version and the device."""
  device = jax.devices()[0]
  facts: Facts = {
    "jax": importlib.metadata.version("jax"),
    "device": device.device_kind,
    "num_devices": jax.device_count(),
  }
  # A CPU's is that of the process; an accelerator has its own.
  memory = device.memory_stats() or {}
  if "peak_bytes_in_use" in memory:
    facts["device_peak_memory"] = memory["peak_bytes_in_use"]
  return facts
