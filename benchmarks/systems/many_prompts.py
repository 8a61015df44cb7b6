"""Many prompts of this library, tuned together and one after another.

Both take one step of every prompt per step of the job, on the same examples
from the same random prompts. What would flatter the joint step is avoided: in
turn, a prompt's step is started while the one before still runs, all share one
compiled program, and nothing is saved or evaluated between them.
"""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from benchmarks.jobs import Job
from benchmarks.systems import Facts, ours
from benchmarks.systems.ours_batches import Features, make_features
from benchmarks.systems.ours_training import Training
from prompt_tuning.model.t5 import T5
from prompt_tuning.train import mesh as mesh_lib
from prompt_tuning.train.step import (
  TrainState,
  init_state,
  make_joint_train_step,
  make_train_step,
)
from prompt_tuning.types import Params


class Joint(Training):
  """One step that updates every prompt on its own examples."""

  def __init__(self, job: Job):
    """Builds the model and N prompts."""
    model, prompts, frozen = _network(job)
    optimizers = [ours.prompt_optimizer() for _ in prompts]
    super().__init__(
      job,
      make_joint_train_step(
        model, optimizers, num_microbatches=job.num_microbatches
      ),
      state=_states(prompts),
      frozen=frozen,
      rngs=_keys(job),
      batches=_batches(job),
    )

  def place_batch(self, batch: Features) -> dict[str, jax.Array]:
    """Sends a batch to the devices, cut within each prompt's examples."""
    return mesh_lib.shard_batch(batch, self._mesh, axis=1)


class InTurn:
  """A step of each prompt, one dispatched after the other."""

  def __init__(self, job: Job):
    """Builds the model once, and N prompts."""
    model, prompts, frozen = _network(job)
    step = make_train_step(
      model, ours.prompt_optimizer(), num_microbatches=job.num_microbatches
    )
    batches = _batches(job)
    self._jobs = [
      Training(
        job,
        step,
        state=state,
        frozen=frozen,
        rngs=key,
        batches=[_of_prompt(batch, index) for batch in batches],
      )
      for index, (state, key) in enumerate(
        zip(_states(prompts), _keys(job), strict=True)
      )
    ]

  def start(self) -> None:
    """Compiles the step once for all prompts, with a step of every shape."""
    first, *others = self._jobs
    first.start()
    for other in others:
      other.start_like(first)

  def run(self, num_steps: int) -> None:
    """Takes steps; metrics are read while the prompts' next steps run."""
    pending = []
    for _ in range(num_steps):
      metrics = [job.take_next() for job in self._jobs]
      self._read(pending)
      pending = metrics
    self._read(pending)
    for job in self._jobs:
      job.wait()

  def _read(self, pending: Sequence[Any]) -> None:
    for job, metrics in zip(self._jobs, pending, strict=bool(pending)):
      job.read(metrics)

  def facts(self) -> Facts:
    """Returns versions; what XLA counts is one prompt's step."""
    facts = self._jobs[0].facts()
    if "compiled_flops" in facts:
      facts["compiled_flops"] *= len(self._jobs)
    return facts


def _network(job: Job) -> tuple[T5, list[Params], Params]:
  """Returns the model, N random prompts, and the frozen weights."""
  model = ours.make_model(job, ours.prompt_spec(job))
  prompt, frozen = ours.split_params(job, model, ours.PROMPT)
  rng = np.random.default_rng(job.seed)

  def draw(leaf):
    return jnp.asarray(rng.permuted(np.asarray(leaf), axis=0))

  prompts = [jax.tree.map(draw, prompt) for _ in range(job.num_prompts)]
  return model, prompts, frozen


def _states(prompts: Sequence[Params]) -> tuple[TrainState, ...]:
  optimizer = ours.prompt_optimizer()
  return tuple(init_state(prompt, optimizer) for prompt in prompts)


def _keys(job: Job) -> jax.Array:
  return jax.random.split(jax.random.key(job.seed), job.num_prompts)


def _batches(job: Job) -> list[Features]:
  """Returns batches [N, B, ...]."""
  return [
    {
      name: array.reshape(job.num_prompts, job.batch_size, *array.shape[1:])
      for name, array in batch.items()
    }
    for batch in make_features(job, ours.prompt_spec(job))
  ]


def _of_prompt(batch: Features, index: int) -> Features:
  return {name: array[index] for name, array in batch.items()}
