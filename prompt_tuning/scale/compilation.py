"""Compiles a program for chips that are not there; says what a run costs."""

import dataclasses
import re
import time
from typing import Any

import jax

from prompt_tuning.scale import hlo
from prompt_tuning.scale.chips import Chip
from prompt_tuning.scale.programs import Program
from prompt_tuning.scale.work import Work, count_work


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cost:
  """One run of a compiled program, on each chip.

  Attributes:
    name: Of the program.
    argument_bytes: Parameters, optimizer state and batch, as they lie tiled.
    temporary_bytes: Activations, those kept for the backward pass included,
      and whatever else is written and read again.
    code_bytes: The program itself, and results that overwrite no argument.
    work: What is computed, moved and sent.
    chip: Where.
    compile_seconds: Wall time of the compiler.
  """

  name: str
  argument_bytes: int
  temporary_bytes: int
  code_bytes: int
  work: Work
  chip: Chip
  compile_seconds: float

  @property
  def memory_bytes(self) -> int:
    """All that it needs of the chip's memory."""
    return self.argument_bytes + self.temporary_bytes + self.code_bytes

  @property
  def bounds(self) -> dict[str, float]:
    """The seconds that compute, memory and links take at their peak rates."""
    return {
      "compute": self.work.flops / self.chip.flops_per_second,
      "memory": self.work.hbm_bytes / self.chip.hbm_bytes_per_second,
      "links": self.work.sent_bytes / self.chip.ring_bytes_per_second,
    }

  @property
  def seconds(self) -> float:
    """The roofline: no run is faster than its slowest part."""
    return max(self.bounds.values())

  @property
  def bound(self) -> str:
    """The slowest part: `compute`, `memory` or `links`."""
    return max(self.bounds, key=self.bounds.__getitem__)


class DoesNotFit(Exception):
  """The compiler found no room for a program in the chip's memory."""


def compile_for(chip: Chip, program: Program) -> Cost:
  """Compiles a program, and counts what it does.

  Args:
    chip: What its devices are.
    program: What to compile.

  Raises:
    DoesNotFit: If it needs more memory than a chip has.
  """
  lowered = program.lower()
  start = time.monotonic()
  try:
    compiled = lowered.compile()
  except jax.errors.JaxRuntimeError as error:
    if "RESOURCE_EXHAUSTED" not in str(error):
      raise
    raise DoesNotFit(_reason(str(error))) from error
  seconds = time.monotonic() - start
  memory: Any = compiled.memory_analysis()
  return Cost(
    name=program.name,
    argument_bytes=memory.argument_size_in_bytes,
    temporary_bytes=memory.temp_size_in_bytes,
    code_bytes=memory.generated_code_size_in_bytes
    + memory.output_size_in_bytes
    - memory.alias_size_in_bytes,
    work=count_work(hlo.parse(compiled.as_text())),
    chip=chip,
    compile_seconds=seconds,
  )


def _reason(message: str) -> str:
  first = message.splitlines()[0]
  sizes = re.search(
    r"\(([\d.]+\w)\) exceeds available HBM \(([\d.]+\w)\)", first
  )
  if sizes is None:
    sizes = re.search(r"Used ([\d.]+\w) of ([\d.]+\w) hbm", message)
  if sizes is None:
    return first
  return f"needs {sizes[1]}iB of the {sizes[2]}iB that a program may use"
