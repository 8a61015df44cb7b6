"""What the maker states about TPU chips.

Compute, memory and interconnect are from the pages of the generations,
cloud.google.com/tpu/docs/v4 (v5e, v5p, v6e). Google gives the interconnect as a
sum over all links and both directions, of which a link and direction has an
equal part: v5e 400 GB/s and 4 links, v6e 800 and 4, v5p 1,200 and 6. For v4 the
page has none; 6 links of 50 GB/s each way are in Jouppi et al. (2023,
arXiv:2304.01433, table 4).
"""

import dataclasses

_GIB = 2**30


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chip:
  """One generation.

  Attributes:
    name: As Google and the compiler call it.
    flops_per_second: Peak in bfloat16.
    hbm_bytes: Memory, before the part that the system takes for itself.
    hbm_bytes_per_second: Rate of the memory.
    link_bytes_per_second: Rate of one link in one direction.
    torus_dimensions: Of the interconnect; a chip has two links in each.
    host_shapes: Chips of a slice that lies within one host.
    chips_per_host: Shape of what each host holds of a larger slice.
    chip_config: The compiler's name for using a chip's two cores as one, where
      that is not its default.
  """

  name: str
  flops_per_second: float
  hbm_bytes: int
  hbm_bytes_per_second: float
  link_bytes_per_second: float
  torus_dimensions: int
  host_shapes: tuple[tuple[int, ...], ...]
  chips_per_host: tuple[int, ...]
  chip_config: str | None = None

  @property
  def ring_bytes_per_second(self) -> float:
    """What a chip sends in a ring along one axis of the torus.

    Rings run both ways round, over two links.
    """
    return 2 * self.link_bytes_per_second


_FLAT = {
  "torus_dimensions": 2,
  "host_shapes": ((1, 1), (2, 2), (2, 4)),
  "chips_per_host": (2, 2),
}
_DEEP = {
  "torus_dimensions": 3,
  "host_shapes": ((2, 2, 1),),
  "chips_per_host": (2, 2, 1),
}

CHIPS = {
  chip.name: chip
  for chip in (
    Chip(
      name="v4",
      flops_per_second=275e12,
      hbm_bytes=32 * _GIB,
      hbm_bytes_per_second=1200e9,
      link_bytes_per_second=50e9,
      chip_config="megacore",
      **_DEEP,
    ),
    Chip(
      name="v5e",
      flops_per_second=197e12,
      hbm_bytes=16 * _GIB,
      hbm_bytes_per_second=819e9,
      link_bytes_per_second=50e9,
      **_FLAT,
    ),
    Chip(
      name="v5p",
      flops_per_second=459e12,
      hbm_bytes=95 * _GIB,
      hbm_bytes_per_second=2765e9,
      link_bytes_per_second=100e9,
      **_DEEP,
    ),
    Chip(
      name="v6e",
      flops_per_second=918e12,
      hbm_bytes=32 * _GIB,
      hbm_bytes_per_second=1638e9,
      link_bytes_per_second=100e9,
      **_FLAT,
    ),
  )
}
