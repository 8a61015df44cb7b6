"""The systems that are measured. A new one is one more entry of `SYSTEMS`."""

import dataclasses
import importlib
from collections.abc import Callable
from typing import Protocol

from benchmarks.flops import Mode
from benchmarks.jobs import Job, Kind

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
    kinds: The jobs that it does.
    settings: Fields of a job that it may be given another value of than other
      systems, see `benchmarks.variants`.
    interpreter: Variable of the environment that names the Python it runs in;
      empty for that of the measuring process.
  """

  module: str
  factory: str
  mode: Mode
  kinds: frozenset[Kind] = frozenset(Kind)
  settings: tuple[str, ...] = ()
  interpreter: str = ""

  def load(self) -> Callable[[Job], System]:
    """Imports the system; returns what builds it."""
    return getattr(importlib.import_module(self.module), self.factory)


def _ours(factory: str, mode: Mode) -> Entry:
  return Entry(
    "benchmarks.systems.ours",
    factory,
    mode,
    _SINGLE,
    ("length_multiple", "packed_length", "num_microbatches", "remat"),
  )


def _many(factory: str) -> Entry:
  return Entry(
    "benchmarks.systems.many_prompts",
    factory,
    Mode.FULL,
    frozenset({Kind.MANY_PROMPTS}),
    ("length_multiple", "num_microbatches", "remat"),
  )


def _t5x(factory: str) -> Entry:
  return Entry(
    "benchmarks.systems.t5x",
    factory,
    Mode.FULL,
    frozenset({Kind.TRAIN_STEP}),
    ("length_multiple", "num_microbatches"),
    interpreter="T5X_PYTHON",
  )


_SINGLE = frozenset(Kind) - {Kind.MANY_PROMPTS}

SYSTEMS = {
  "ours": _ours("prompt_tuning", Mode.FULL),
  "ours_prefix": _ours("prefix", Mode.PREFIX),
  "ours_model_tuning": _ours("model_tuning", Mode.MODEL),
  "ours_joint": _many("Joint"),
  "ours_in_turn": _many("InTurn"),
  "peft": Entry(
    "benchmarks.systems.peft",
    "prompt_tuning",
    Mode.FULL,
    _SINGLE,
    ("length_multiple", "num_threads"),
  ),
  "t5x": _t5x("recipe"),
  "t5x_gather": _t5x("gather"),
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
