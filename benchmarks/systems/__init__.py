"""The systems that are measured. A new one is one more entry of `SYSTEMS`."""

import dataclasses
import importlib
from collections.abc import Callable
from typing import Protocol

from benchmarks.flops import Mode
from benchmarks.jobs import Job

Facts = dict[str, str | float]
"""What else is to be known of a system, by name."""


class System(Protocol):
  """One system at one job, in a process of its own.

  It is made with its model built, random weights included.
  """

  def start(self) -> None:
    """Runs one step of every shape of batch, compiling what it must."""
    ...

  def run(self, num_steps: int) -> None:
    """Takes the next steps; returns when the last is done.

    Every call goes on with the batch after the last one's.
    """
    ...

  def facts(self) -> Facts:
    """Returns what else is to be known, such as versions; after `start`."""
    ...


@dataclasses.dataclass(frozen=True)
class Entry:
  """How a system is made.

  Attributes:
    module: Where it is; imported in its own process alone.
    factory: Name of the function or class there, which takes the job.
    mode: What it tunes, which decides the FLOPs that it needs.
  """

  module: str
  factory: str
  mode: Mode

  def load(self) -> Callable[[Job], System]:
    """Imports the system; returns what builds it."""
    return getattr(importlib.import_module(self.module), self.factory)


SYSTEMS = {
  "ours": Entry("benchmarks.systems.ours", "prompt_tuning", Mode.FULL),
  "ours_prefix": Entry("benchmarks.systems.ours", "prefix", Mode.PREFIX),
  "ours_model_tuning": Entry(
    "benchmarks.systems.ours", "model_tuning", Mode.MODEL
  ),
  "peft": Entry("benchmarks.systems.peft", "prompt_tuning", Mode.FULL),
}

# The matrix rate, by which the floor is known, is measured as a system is.
MATRIX = {
  "matrix_xla": Entry("benchmarks.systems.matrix", "Xla", Mode.FULL),
  "matrix_torch": Entry("benchmarks.systems.matrix", "Torch", Mode.FULL),
}


def find(name: str) -> Entry:
  """Returns the entry of a system.

  Raises:
    ValueError: If there is none of that name.
  """
  entries = SYSTEMS | MATRIX
  if name not in entries:
    raise ValueError(
      f"unknown system {name!r}; there are {', '.join(SYSTEMS)}."
    )
  return entries[name]
