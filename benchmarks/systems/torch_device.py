"""Where PyTorch computes: where JAX does in the same comparison."""

import os

import torch

from benchmarks.jobs import Job


def find_device() -> str:
  """Returns "cuda" or "cpu", as JAX_PLATFORMS says it."""
  platform = os.environ.get("JAX_PLATFORMS", "cpu")
  if platform == "cpu":
    return "cpu"
  if platform == "cuda" and torch.cuda.is_available():
    # By default XLA multiplies float32 in TF32 there, and PyTorch does not.
    torch.set_float32_matmul_precision("high")
    return "cuda"
  raise ValueError(
    f"PyTorch does not compute on {platform!r} here; leave its systems out, or "
    "install a build of it that does."
  )


def use_cores(job: Job) -> None:
  """Gives PyTorch the job's threads; by default as many as there are cores."""
  torch.set_num_threads(job.num_threads or len(os.sched_getaffinity(0)))


def wait() -> None:
  """Returns when the device has done all that it was given."""
  if find_device() == "cuda":
    torch.cuda.synchronize()
