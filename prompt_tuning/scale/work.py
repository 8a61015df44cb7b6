"""Counts what a chip does in a compiled program: FLOPs, bytes, collectives."""

import collections
import dataclasses
import math
import re
from collections.abc import Mapping

import numpy as np

from prompt_tuning.scale.hlo import Computation, Instruction, Module, Shape

# What is sent by a chip, as a multiple of the bytes of the whole array, in a
# ring of n chips.
_SENT = {
  "all-reduce": lambda n: 2 * (n - 1) / n,
  "all-gather": lambda n: (n - 1) / n,
  "reduce-scatter": lambda n: (n - 1) / n,
  "all-to-all": lambda n: (n - 1) / n,
  "collective-permute": lambda n: 1.0,
}
# They name memory, or what they run is counted inside them.
_NO_TRAFFIC = {
  "parameter",
  "constant",
  "tuple",
  "get-tuple-element",
  "bitcast",
  "while",
  "call",
  "conditional",
  "after-all",
  "partition-id",
  "opt-barrier",
}


@dataclasses.dataclass(frozen=True)
class Collectives:
  """What chips tell each other by one kind of collective, in one run.

  Attributes:
    count: How many.
    num_bytes: Of the arrays that are gathered, reduced or passed on.
    sent_bytes: What one chip sends, in rings.
  """

  count: int = 0
  num_bytes: int = 0
  sent_bytes: float = 0.0

  def plus(self, count: int, num_bytes: int, factor: float) -> "Collectives":
    """Returns these and `count` more of `num_bytes` each."""
    return Collectives(
      count=self.count + count,
      num_bytes=self.num_bytes + count * num_bytes,
      sent_bytes=self.sent_bytes + count * num_bytes * factor,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Work:
  """What one chip does in one run of a program.

  Attributes:
    flops: Of matrix products, two per multiplication and addition.
    hbm_bytes: Read from and written to the chip's memory.
    collectives: By kind.
    unknown_loops: Loops of which the text does not tell how often they run;
      they are counted as running once.
  """

  flops: int
  hbm_bytes: int
  collectives: Mapping[str, Collectives]
  unknown_loops: int = 0

  @property
  def sent_bytes(self) -> float:
    """What one chip sends to others."""
    return sum(each.sent_bytes for each in self.collectives.values())


def count_work(module: Module) -> Work:
  """Counts a program, loops as often as they run."""
  flops = hbm_bytes = unknown = 0
  kinds: dict[str, Collectives] = collections.defaultdict(Collectives)
  for instruction, computation, times, fused in module.walk():
    opcode = instruction.opcode
    if opcode in ("convolution", "dot"):
      flops += times * _product_flops(instruction, computation)
    elif opcode == "while":
      unknown += module.trip_count(instruction) is None
    kind = opcode.removesuffix("-start")
    if kind in _SENT:
      size, ways = _collective(instruction, computation)
      if ways > 1:
        kinds[kind] = kinds[kind].plus(times, size, _SENT[kind](ways))
    if not fused:
      hbm_bytes += times * _traffic(module, instruction, computation)
  return Work(
    flops=flops,
    hbm_bytes=hbm_bytes,
    collectives=dict(sorted(kinds.items())),
    unknown_loops=unknown,
  )


def _product_flops(product: Instruction, computation: Computation) -> int:
  """Returns the FLOPs of a matrix product, which TPUs write as convolution."""
  left, right = (computation[name].shapes[0].dims for name in product.operands)
  if product.opcode == "dot":
    contracted = re.search(
      r"lhs_contracting_dims=\{([\d,]*)\}", product.attributes
    )
    axes = contracted[1].split(",") if contracted and contracted[1] else []
    inner = int(np.prod([left[int(axis)] for axis in axes], dtype=np.int64))
    return 2 * product.shapes[0].num_elements * inner
  labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", product.attributes)
  assert labels is not None, product
  lhs, rhs, out = labels.groups()
  result = product.shapes[0].dims
  count = result[out.index("b")] * result[out.index("f")]
  count *= right[rhs.index("i")]
  for axis in filter(str.isdigit, out):
    count *= _window_hits(
      product.attributes,
      int(axis),
      size_in=left[lhs.index(axis)],
      size_out=result[out.index(axis)],
    )
  return 2 * count


def _window_hits(
  attributes: str, axis: int, *, size_in: int, size_out: int
) -> int:
  """Returns how many pairs of output and kernel place meet a real input.

  A batch of matrix products is one convolution along a mostly empty axis.
  """

  def field(name, default):
    found = re.search(rf"[{{ ]{name}=([\dx_\-]+)", attributes)
    return found[1].split("x")[axis] if found else default

  size = int(field("size", "1"))
  low = int(field("pad", "0_0").split("_")[0])
  stride = int(field("stride", "1"))
  dilation = int(field("lhs_dilate", "1"))
  reach = int(field("rhs_dilate", "1"))
  place = np.arange(size_out)[:, None] * stride + np.arange(size) * reach - low
  inside = (place >= 0) & (place <= (size_in - 1) * dilation)
  return int(np.count_nonzero(inside & (place % dilation == 0)))


def _collective(
  instruction: Instruction, computation: Computation
) -> tuple[int, int]:
  """Returns the bytes of the whole array, and how many chips share it."""
  read = sum(
    shape.num_bytes
    for name in instruction.operands
    for shape in computation[name].shapes
  )
  ways = _group_size(instruction.attributes)
  if instruction.opcode.startswith("all-gather"):
    return read * ways, ways
  return read, ways


def _group_size(attributes: str) -> int:
  """Returns the number of chips in a group of a collective."""
  if "source_target_pairs=" in attributes:
    return 2
  tiled = re.search(r"replica_groups=\[\d+,(\d+)\]<=", attributes)
  if tiled is not None:
    return int(tiled[1])
  listed = re.search(r"replica_groups=\{\{([\d,]+)\}", attributes)
  if listed is not None:
    return len(listed[1].split(","))
  # Axes of a mesh by name: all, then those that a group lies along.
  named = re.search(
    r"replica_groups=mesh\[([^\]]*)\][^{]*\{([^}]*)\}", attributes
  )
  if named is None:
    raise ValueError(
      f"A collective with groups of unknown form: {attributes[:200]!r}."
    )
  sizes = dict(axis.split("=") for axis in named[1].split(","))
  return math.prod(int(sizes[axis]) for axis in named[2].split(","))


def _traffic(
  module: Module, instruction: Instruction, computation: Computation
) -> int:
  """Returns the bytes that an instruction moves from and to memory."""
  opcode = instruction.opcode
  if opcode in _NO_TRAFFIC or opcode.endswith("-done"):
    return 0
  if "AllocateBuffer" in instruction.attributes:
    return 0
  read = sum(
    _read(module, instruction, computation, place)
    for place in range(len(instruction.operands))
  )
  return read + _written(module, instruction, computation)


def _read(module, instruction, computation, place) -> int:
  """Returns the bytes that an instruction reads of one operand."""
  shapes = computation[instruction.operands[place]].shapes
  full = sum(shape.num_bytes for shape in shapes if shape.in_hbm)
  if not full:
    return 0
  match instruction.opcode.removesuffix("-start"):
    case "dynamic-slice" | "slice" | "gather" if place == 0:
      return min(full, _results(instruction)[0].num_bytes)
    case "dynamic-update-slice" | "scatter" if place == 0:
      return 0
    case "fusion":
      inner = module.computations[instruction.called[0]]
      return min(full, _read_inside(module, inner, place))
  return full


def _read_inside(module: Module, inner: Computation, place: int) -> int:
  """Returns the bytes that a fusion reads of its operand number `place`."""
  parameter = next(
    each
    for each in inner.values()
    if each.opcode == "parameter" and each.arguments == str(place)
  )
  total = 0
  names = [parameter.name]
  while names:
    name = names.pop()
    for user in inner.values():
      for position, operand in enumerate(user.operands):
        if operand != name:
          continue
        if user.opcode == "bitcast" and not user.is_root:
          names.append(user.name)
        else:
          total += _read_whole_or_part(module, user, inner, position)
  return total


def _read_whole_or_part(module, user, inner, position) -> int:
  size = inner[user.operands[position]].shapes[0].num_bytes
  match user.opcode:
    case "dynamic-slice" | "slice" | "gather" if position == 0:
      return user.shapes[0].num_bytes
    case "dynamic-update-slice" if position == 0:
      return 0
    case "fusion":
      called = module.computations[user.called[0]]
      return min(size, _read_inside(module, called, position))
  return size


def _written(module, instruction, computation) -> int:
  """Returns the bytes that an instruction writes."""
  shapes = _results(instruction)
  if instruction.opcode == "dynamic-update-slice":
    return computation[instruction.operands[1]].shapes[0].num_bytes
  if instruction.opcode != "fusion":
    return sum(shape.num_bytes for shape in shapes if shape.in_hbm)
  parts = _sizes_written(module, module.computations[instruction.called[0]])
  return sum(
    min(shape.num_bytes, size)
    for shape, size in zip(shapes, parts, strict=True)
    if shape.in_hbm
  )


def _results(instruction: Instruction) -> tuple[Shape, ...]:
  """Returns the arrays that an instruction makes.

  The start of an asynchronous one also lists what it reads, in front, except
  where it copies, and what the call needs.
  """
  opcode, shapes = instruction.opcode, instruction.shapes
  if not opcode.endswith("-start") or opcode == "all-reduce-start":
    return shapes
  first = 0 if opcode == "copy-start" else len(instruction.operands)
  return shapes[first : first + 1]


def _sizes_written(module: Module, inner: Computation) -> list[int]:
  """Returns the bytes that a fusion writes into each array of its result."""
  root = next(each for each in inner.values() if each.is_root)
  parts = [inner[name] for name in root.operands]
  sizes = []
  for part in parts if root.opcode == "tuple" else [root]:
    while part.opcode == "bitcast":
      part = inner[part.operands[0]]
    if part.opcode == "dynamic-update-slice":
      sizes.append(inner[part.operands[1]].shapes[0].num_bytes)
    elif part.opcode == "fusion":
      sizes += _sizes_written(module, module.computations[part.called[0]])
    else:
      sizes += [shape.num_bytes for shape in part.shapes]
  return sizes
