"""How much memory of a host it takes to load a checkpoint, and how long.

python -m benchmarks.loading

Writes random weights of T5 1.1 base, or small, in each form, and loads each in
a process of its own: as a whole, and only what one device of four holds, as a
process of a pod slice does. Memory is the peak above that of the process
before, over the size of the weights.
"""

import argparse
import dataclasses
import json
import pathlib
import subprocess
import sys
import tempfile
import time

import jax
import numpy as np

from prompt_tuning.checkpoints import load, tree
from prompt_tuning.checkpoints.stored import Stored
from prompt_tuning.model import t5
from prompt_tuning.model.config import T5Config
from prompt_tuning.model.stack import reading_order
from prompt_tuning.testing import checkpoints
from prompt_tuning.train import mesh as mesh_lib
from prompt_tuning.types import Params

BASE = T5Config(
  vocab_size=32128,
  embed_dim=768,
  num_heads=12,
  head_dim=64,
  mlp_dim=2048,
  num_encoder_layers=12,
  num_decoder_layers=12,
)
SMALL = dataclasses.replace(
  BASE,
  embed_dim=512,
  num_heads=8,
  mlp_dim=1024,
  num_encoder_layers=8,
  num_decoder_layers=8,
)
SIZES = {"base": BASE, "small": SMALL}
PARTS = ("whole", "a quarter")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Taken:
  """What loading has taken.

  Attributes:
    mib: Memory at the peak, above what the process had before.
    seconds: How long.
  """

  mib: float
  seconds: float


def main() -> None:
  """Measures, and prints a table in Markdown."""
  parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
  parser.add_argument("--size", choices=SIZES, default="base")
  parser.add_argument("--load", nargs=2, help=argparse.SUPPRESS)
  arguments = parser.parse_args()
  config = SIZES[arguments.size]
  if arguments.load is not None:
    print(json.dumps(dataclasses.asdict(_measured(config, *arguments.load))))
    return
  print("| form | size, MiB | loaded | peak / size | seconds |")
  print("| --- | --- | --- | --- | --- |")
  with tempfile.TemporaryDirectory() as folder:
    for form in checkpoints.FORMS:
      checkpoint = write(form, pathlib.Path(folder) / form, config)
      for part in PARTS:
        taken = in_a_process(checkpoint, part, size=arguments.size)
        mib = size_mib(config)
        print(
          f"| {form} | {mib:.0f} | {part} | {taken.mib / mib:.2f} | "
          f"{taken.seconds:.1f} |"
        )


def size_mib(config: T5Config) -> float:
  """Returns the size of the weights of a T5."""
  shapes = jax.tree.leaves(t5.abstract_params(t5.T5(config)))
  return sum(leaf.size * 4 for leaf in shapes) / 2**20


def write(form: str, folder: pathlib.Path, config: T5Config) -> pathlib.Path:
  """Writes random weights; returns the checkpoint."""
  rng = np.random.default_rng(0)
  shapes = tree.flatten(t5.abstract_params(t5.T5(config)))
  params = tree.unflatten(
    {
      path: rng.standard_normal(leaf.shape, np.float32)
      for path, leaf in shapes.items()
    }
  )
  return checkpoints.write(form, folder, config, params)


def in_a_process(
  checkpoint: pathlib.Path, part: str, *, size: str = "base"
) -> Taken:
  """Returns what loading takes in a process of its own.

  Args:
    checkpoint: Which.
    part: One of `PARTS`.
    size: One of `SIZES`, of the checkpoint.
  """
  command = [sys.executable, "-m", "benchmarks.loading", "--size", size]
  found = subprocess.run(
    [*command, "--load", str(checkpoint), part],
    capture_output=True,
    text=True,
    check=True,
  )
  return Taken(**json.loads(found.stdout.splitlines()[-1]))


def _measured(config: T5Config, folder: str, part: str) -> Taken:
  # The weights alone: what the backend and the libraries take is there before.
  import tensorstore as ts

  ts.Context()
  jax.block_until_ready(jax.numpy.zeros(1))
  t5.abstract_params(t5.T5(config))
  _forget_peak()
  before, start = _memory("VmRSS"), time.monotonic()
  opened = load.load_backbone(folder, config=config, in_parts=part != "whole")
  kept = opened.params if part == "whole" else _quarter(opened.params, config)
  seconds = time.monotonic() - start
  assert jax.tree.leaves(kept)
  return Taken(mib=_memory("VmHWM") - before, seconds=seconds)


def _quarter(params: Params, config: T5Config) -> list[np.ndarray]:
  """Reads what the first of four devices holds of each weight."""
  mesh = jax.sharding.AbstractMesh((1, 1, 4), mesh_lib.AXES)
  axes = t5.logical_axes(t5.T5(config))
  shardings = tree.flatten(mesh_lib.param_shardings(params, axes, mesh=mesh))
  flat, kept = tree.flatten(params), []
  for path in reading_order(flat):
    stored = flat[path]
    assert isinstance(stored, Stored)
    shape = shardings[path].shard_shape(stored.shape)
    kept.append(stored[tuple(slice(size) for size in shape)])
  return kept


def _forget_peak() -> None:
  """Lets the system take the memory of this process now for its peak."""
  pathlib.Path("/proc/self/clear_refs").write_text("5")


def _memory(name: str) -> float:
  """Returns what the system says of this process, in MiB."""
  for line in pathlib.Path("/proc/self/status").read_text().splitlines():
    if line.startswith(f"{name}:"):
      return int(line.split()[1]) / 1024
  raise RuntimeError("the system does not say how much memory a process has")


if __name__ == "__main__":
  main()
