"""How much memory of a host it takes to load a checkpoint.

python -m benchmarks.loading

Writes random weights of T5 1.1 base in each form, and loads each in a
process of its own: as a whole, and only what one device of four holds, as a
process of a pod slice does. Memory is the peak above that of the process
before, over the size of the weights.
"""

import argparse
import dataclasses
import pathlib
import subprocess
import sys
import tempfile
import threading
import time

import jax
import numpy as np

from prompt_tuning.checkpoints import huggingface, load, t5x, tree
from prompt_tuning.checkpoints.stored import Stored
from prompt_tuning.model import t5
from prompt_tuning.model.config import T5Config
from prompt_tuning.train import mesh as mesh_lib

CONFIG = T5Config(
  vocab_size=32128,
  embed_dim=768,
  num_heads=12,
  head_dim=64,
  mlp_dim=2048,
  num_encoder_layers=12,
  num_decoder_layers=12,
)
FORMS = ("T5X, zarr", "T5X, Orbax", "Hugging Face")
PARTS = ("whole", "a quarter")


def main() -> None:
  """Measures, and prints a table in Markdown."""
  parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
  parser.add_argument("--load", nargs=2, help=argparse.SUPPRESS)
  arguments = parser.parse_args()
  if arguments.load is not None:
    print(_measured(*arguments.load))
    return
  print("| form | size, MiB | loaded | peak / size |")
  print("| --- | --- | --- | --- |")
  with tempfile.TemporaryDirectory() as folder:
    for form in FORMS:
      place = pathlib.Path(folder) / form
      size = _write(form, place)
      for part in PARTS:
        peak = _in_a_process(place, part)
        print(f"| {form} | {size:.0f} | {part} | {peak / size:.2f} |")


def _write(form: str, folder: pathlib.Path) -> float:
  """Writes random weights; returns their size in MiB."""
  rng = np.random.default_rng(0)
  shapes = tree.flatten(t5.abstract_params(t5.T5(CONFIG)))
  params = tree.unflatten(
    {
      path: rng.standard_normal(leaf.shape, np.float32)
      for path, leaf in shapes.items()
    }
  )
  if form == "T5X, zarr":
    t5x.save(params, folder, step=0)
  elif form == "Hugging Face":
    huggingface.write(CONFIG, params, folder)
  else:
    import orbax.checkpoint as ocp

    with ocp.StandardCheckpointer() as checkpointer:
      checkpointer.save(folder / "checkpoint_0" / "state", {"target": params})
  return sum(leaf.size * 4 for leaf in shapes.values()) / 2**20


def _in_a_process(folder: pathlib.Path, part: str) -> float:
  command = [sys.executable, "-m", "benchmarks.loading", "--load"]
  found = subprocess.run(
    [*command, str(folder), part], capture_output=True, text=True, check=True
  )
  return float(found.stdout)


def _measured(folder: str, part: str) -> float:
  """Returns the MiB that loading takes at its peak."""
  # The weights alone: what the backend and the libraries take is there before.
  jax.block_until_ready(jax.numpy.zeros(1))
  t5.abstract_params(t5.T5(CONFIG))
  before = _resident()
  watch = _Watch()
  opened = load.load_backbone(folder, config=CONFIG, in_parts=part != "whole")
  kept = opened.params if part == "whole" else _quarter(opened.params)
  peak = watch.stop()
  assert jax.tree.leaves(kept)
  return peak - before


def _quarter(params) -> list[np.ndarray]:
  """Reads what the first of four devices holds of each weight."""
  mesh = jax.sharding.AbstractMesh((1, 1, 4), mesh_lib.AXES)
  axes = t5.logical_axes(t5.T5(CONFIG))
  shardings = tree.flatten(mesh_lib.param_shardings(params, axes, mesh=mesh))
  kept = []
  for path, stored in tree.flatten(params).items():
    assert isinstance(stored, Stored)
    shape = shardings[path].shard_shape(stored.shape)
    kept.append(stored[tuple(slice(size) for size in shape)])
  return kept


@dataclasses.dataclass
class _Watch:
  """Looks every few milliseconds how much memory the process has."""

  def __post_init__(self):
    self._peak, self._stopped = 0.0, threading.Event()
    self._thread = threading.Thread(target=self._look, daemon=True)
    self._thread.start()

  def _look(self) -> None:
    while not self._stopped.is_set():
      self._peak = max(self._peak, _resident())
      time.sleep(0.002)

  def stop(self) -> float:
    """Returns the most that was seen, in MiB."""
    self._stopped.set()
    self._thread.join()
    return max(self._peak, _resident())


def _resident() -> float:
  for line in pathlib.Path("/proc/self/status").read_text().splitlines():
    if line.startswith("VmRSS:"):
      return int(line.split()[1]) / 1024
  raise RuntimeError("the system does not say how much memory a process has")


if __name__ == "__main__":
  main()
