"""The machine's matrix rate: one product of two large square matrices a step.

It is what the floor of a job and the achieved FLOP/s are held against.
"""

import importlib.metadata

import numpy as np

from benchmarks.jobs import Job
from benchmarks.systems import Facts


def step_flops(job: Job) -> int:
  """Returns the FLOPs of one step."""
  return 2 * job.matrix_width**3


def _random_matrix(job: Job) -> np.ndarray:
  """Returns what is multiplied: an accelerator is faster with ones."""
  rng = np.random.default_rng(job.seed)
  return rng.standard_normal((job.matrix_width,) * 2, np.float32)


class Xla:
  """Multiplies as our own system does."""

  def __init__(self, job: Job):
    """Makes the matrix."""
    import jax
    from jax import numpy as jnp

    self._matrix = jnp.asarray(_random_matrix(job), jnp.dtype(job.dtype))
    self._product = jax.jit(lambda x: x @ x)

  def start(self) -> None:
    """Compiles."""
    self.run(1)

  def run(self, num_steps: int) -> None:
    """Multiplies, one product after the other."""
    product = None
    for _ in range(num_steps):
      product = self._product(self._matrix)
    if product is not None:
      product.block_until_ready()

  def facts(self) -> Facts:
    """Returns the version."""
    return {"jax": importlib.metadata.version("jax")}


class Torch:
  """Multiplies as PEFT does."""

  def __init__(self, job: Job):
    """Makes the matrix."""
    import torch

    from benchmarks.systems import torch_device

    torch_device.use_cores(job)
    values = torch.from_numpy(_random_matrix(job))
    self._matrix = values.to(
      torch_device.find_device(), dtype=getattr(torch, job.dtype)
    )
    self._wait = torch_device.wait

  def start(self) -> None:
    """Multiplies once."""
    self.run(1)

  def run(self, num_steps: int) -> None:
    """Multiplies, one product after the other."""
    for _ in range(num_steps):
      _ = self._matrix @ self._matrix
    self._wait()

  def facts(self) -> Facts:
    """Returns the version."""
    return {"torch": importlib.metadata.version("torch")}
