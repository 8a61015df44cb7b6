"""The machine's matrix rate: one product of two large square matrices a step.

It is what the floor of a job and the achieved FLOP/s are held against.
"""

import importlib.metadata

from benchmarks.jobs import Job
from benchmarks.systems import Facts


def step_flops(job: Job) -> int:
  """Returns the FLOPs of one step."""
  return 2 * job.matrix_width**3


class Xla:
  """Multiplies as our own system does."""

  def __init__(self, job: Job):
    """Makes the matrix."""
    import jax
    from jax import numpy as jnp

    shape = (job.matrix_width, job.matrix_width)
    self._matrix = jnp.ones(shape, jnp.dtype(job.dtype))
    self._product = jax.jit(lambda x: x @ x)

  def start(self) -> None:
    """Compiles."""
    self.run(1)

  def run(self, num_steps: int) -> None:
    """Multiplies, one product after the other."""
    for _ in range(num_steps):
      self._product(self._matrix).block_until_ready()

  def facts(self) -> Facts:
    """Returns the version."""
    return {"jax": importlib.metadata.version("jax")}


class Torch:
  """Multiplies as PEFT does, on the CPU."""

  def __init__(self, job: Job):
    """Makes the matrix."""
    import torch

    from benchmarks.systems import peft

    peft.use_cores(job)
    shape = (job.matrix_width, job.matrix_width)
    self._matrix = torch.ones(shape, dtype=getattr(torch, job.dtype))

  def start(self) -> None:
    """Multiplies once."""
    self.run(1)

  def run(self, num_steps: int) -> None:
    """Multiplies, one product after the other."""
    for _ in range(num_steps):
      _ = self._matrix @ self._matrix

  def facts(self) -> Facts:
    """Returns the version."""
    return {"torch": importlib.metadata.version("torch")}
