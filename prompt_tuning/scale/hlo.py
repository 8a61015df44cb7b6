"""Reads the text of a compiled program.

The compiler's own cost analysis takes the body of a loop once, however often it
runs; so what is counted here is counted from the text, loop by loop.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Iterator

_BITS = {"pred": 8, "token": 0, "opaque": 0}
_SHAPE = re.compile(r"(\w+)\[([\d,]*)\](?:\{([^{}]*)\})?")
_HEADER = re.compile(r"(ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"\s*(ROOT )?%?([\w.\-]+) = ")
_OPERAND = re.compile(r"%([\w.\-]+)")
_CALLED = re.compile(
  r"(?:calls|body|to_apply|branch_computations)=\{?(%[\w.\-]+(?:, %[\w.\-]+)*)"
)


@dataclasses.dataclass(frozen=True)
class Shape:
  """One array of a program.

  Attributes:
    dtype: As HLO writes it, such as `bf16`.
    dims: Of the part that one chip holds.
    in_hbm: Whether it lies in the chip's main memory, and not on the core.
  """

  dtype: str
  dims: tuple[int, ...]
  in_hbm: bool = True

  @property
  def num_elements(self) -> int:
    """The number of elements."""
    return math.prod(self.dims)

  @property
  def num_bytes(self) -> int:
    """Bytes without the padding of a tiled layout."""
    digits = re.search(r"\d+", self.dtype)
    bits = _BITS.get(self.dtype, int(digits[0]) if digits else 0)
    return -(-self.num_elements * bits // 8)


@dataclasses.dataclass(frozen=True)
class Instruction:
  """One line of a computation.

  Attributes:
    name: Unique in the program.
    opcode: Such as `fusion`.
    shapes: Of the result; several if it is a tuple.
    operands: Names of what it reads.
    arguments: The text in its parentheses.
    attributes: The text behind them.
    is_root: Whether it is the computation's result.
  """

  name: str
  opcode: str
  shapes: tuple[Shape, ...]
  operands: tuple[str, ...]
  arguments: str
  attributes: str
  is_root: bool

  @functools.cached_property
  def called(self) -> tuple[str, ...]:
    """Names of the computations that it runs, a loop's condition excepted."""
    return tuple(
      name.strip().lstrip("%")
      for match in _CALLED.finditer(self.attributes)
      for name in match[1].split(",")
    )


Computation = dict[str, Instruction]


@dataclasses.dataclass(frozen=True)
class Module:
  """A program.

  Attributes:
    computations: Instructions by name, by the name of their computation.
    entry: Name of the computation that is run.
  """

  computations: dict[str, Computation]
  entry: str

  def walk(self) -> Iterator[tuple[Instruction, Computation, int, bool]]:
    """Yields every instruction with how often it runs.

    Yields:
      The instruction, the computation that it stands in, the number of times,
      and whether it lies inside a fusion, where nothing goes through memory.
    """
    yield from self._walk(self.entry, 1, False)

  def _walk(self, name, times, fused):
    for instruction in self.computations[name].values():
      yield instruction, self.computations[name], times, fused
      inner = times
      if instruction.opcode == "while":
        inner *= self.trip_count(instruction) or 1
      elif instruction.opcode not in _RUNS_CALLED:
        continue
      for called in instruction.called:
        is_fusion = fused or instruction.opcode == "fusion"
        yield from self._walk(called, inner, is_fusion)

  def trip_count(self, loop: Instruction) -> int | None:
    """Returns how often a loop runs at most, None if its text does not tell.

    It is the constant that the condition finds something less than: a scan
    counts up to its length, a decoder to the longest answer.
    """
    condition = re.search(r"condition=%?([\w.\-]+)", loop.attributes)
    assert condition is not None, loop
    return next(self._upper_bounds(self.computations[condition[1]], {}), None)

  def _upper_bounds(
    self, computation: Computation, given: dict[str, int]
  ) -> Iterator[int]:
    """Yields constants at the right of `<`, in fusions too.

    Args:
      computation: Where to look.
      given: What is known of its parameters, by their number.
    """
    known = {}
    for instruction in computation.values():
      text = instruction.arguments
      if instruction.opcode == "constant" and text.lstrip("-").isdigit():
        known[instruction.name] = int(text)
      elif instruction.opcode == "parameter" and text in given:
        known[instruction.name] = given[text]
      elif instruction.opcode == "fusion":
        places = {
          str(place): known[name]
          for place, name in enumerate(instruction.operands)
          if name in known
        }
        called = self.computations[instruction.called[0]]
        yield from self._upper_bounds(called, places)
      elif instruction.opcode == "compare":
        bound = instruction.operands[1]
        if "direction=LT" in instruction.attributes and bound in known:
          yield known[bound]


_RUNS_CALLED = {"fusion", "call", "conditional", "async-start"}


def parse(text: str) -> Module:
  """Reads what `compiled.as_text()` returns.

  Raises:
    ValueError: If there is no entry computation.
  """
  computations: dict[str, Computation] = {}
  entry = None
  current: Computation | None = None
  for line in re.sub(r"/\*.*?\*/", "", text).splitlines():
    if current is None:
      header = _HEADER.match(line)
      if header is not None:
        current = computations.setdefault(header[2], {})
        entry = header[2] if header[1] else entry
    elif line.startswith("}"):
      current = None
    else:
      instruction = _instruction(line)
      if instruction is not None:
        current[instruction.name] = instruction
  if entry is None:
    raise ValueError("The text is no HLO program: it has no ENTRY computation.")
  return Module(computations, entry)


def _instruction(line: str) -> Instruction | None:
  start = _INSTRUCTION.match(line)
  if start is None:
    return None
  rest = line[start.end() :]
  end = _closing(rest) if rest.startswith("(") else rest.index(" ")
  result, rest = rest[:end], rest[end:].lstrip()
  opcode, rest = rest.split("(", 1)
  end = _closing("(" + rest) - 2
  arguments, attributes = rest[:end], rest[end + 1 :]
  return Instruction(
    name=start[2],
    opcode=opcode,
    shapes=tuple(_shapes(result)),
    operands=tuple(_OPERAND.findall(arguments)),
    arguments=arguments,
    attributes=attributes,
    is_root=start[1] is not None,
  )


def _closing(text: str) -> int:
  """Returns the place behind the parenthesis that closes the first one."""
  depth = 0
  for match in re.finditer(r"[()]", text):
    depth += 1 if match[0] == "(" else -1
    if depth == 0:
      return match.end()
  raise ValueError(f"Unbalanced parentheses in the HLO line {text[:200]!r}.")


def _shapes(text: str) -> Iterator[Shape]:
  for dtype, dims, layout in _SHAPE.findall(text):
    yield Shape(
      dtype,
      tuple(int(size) for size in dims.split(",") if size),
      # Memory spaces other than the first are on the core.
      in_hbm="S(" not in layout,
    )
