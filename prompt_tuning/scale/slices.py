"""A TPU slice that this machine does not have, described to the compiler."""

import dataclasses
import math
import os
import re
from typing import Any

from prompt_tuning.scale.chips import CHIPS, Chip

_ENVIRONMENT = {
  # The TPU library would look for the machine that it believes to be on.
  "TPU_SKIP_MDS_QUERY": "1",
  "TPU_ACCELERATOR_TYPE": "v5litepod-8",
  "TPU_WORKER_HOSTNAMES": "localhost",
  # No chip is touched, so several plans may be made at once.
  "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
  "TPU_LOG_DIR": "disabled",
  "TPU_MIN_LOG_LEVEL": "3",
  "TPU_STDERR_LOG_LEVEL": "3",
  "JAX_PLATFORMS": "cpu",
}


def prepare_environment() -> None:
  """Lets the TPU compiler work without a TPU; call it before JAX starts."""
  for name, value in _ENVIRONMENT.items():
    os.environ.setdefault(name, value)


@dataclasses.dataclass(frozen=True)
class Slice:
  """Chips that are linked with each other.

  Attributes:
    chip: Their generation.
    shape: How many there are along each axis of the torus.

  Raises:
    ValueError: If there is no such slice.
  """

  chip: Chip
  shape: tuple[int, ...]

  def __post_init__(self):
    chip, shape = self.chip, self.shape
    if len(shape) != chip.torus_dimensions:
      example = "x".join("4" * chip.torus_dimensions)
      raise ValueError(
        f"A {chip.name} slice has {chip.torus_dimensions} dimensions, such as "
        f"{chip.name}:{example}; got {self.name!r}."
      )
    divides = all(
      size % hosts == 0
      for size, hosts in zip(shape, chip.chips_per_host, strict=True)
    )
    if shape not in chip.host_shapes and not divides:
      hosts = "x".join(map(str, chip.chips_per_host))
      raise ValueError(
        f"The slice {self.name!r} does not divide into hosts of {hosts} chips; "
        "use multiples of these sizes."
      )

  @classmethod
  def parse(cls, text: str) -> "Slice":
    """Reads a slice such as `v5e:4x4` or `v5p:2x2x1`.

    Raises:
      ValueError: If it is not written like that, or there is none.
    """
    match = re.fullmatch(r"(\w+):(\d+(?:x\d+)*)", text)
    if match is None or match[1] not in CHIPS or "0" in match[2].split("x"):
      raise ValueError(
        f"--topology: expected a chip ({', '.join(CHIPS)}) and a shape, such "
        f"as v5e:4x4 or v5p:2x2x1, got {text!r}."
      )
    return cls(CHIPS[match[1]], tuple(map(int, match[2].split("x"))))

  @property
  def name(self) -> str:
    """The slice as `parse` reads it."""
    return f"{self.chip.name}:{'x'.join(map(str, self.shape))}"

  @property
  def num_chips(self) -> int:
    """The number of chips, each of them one JAX device."""
    return math.prod(self.shape)

  def devices(self) -> list[Any]:
    """Returns devices that can be compiled for, and nothing else.

    Raises:
      ValueError: If the TPU compiler is not installed.
    """
    try:
      import libtpu  # noqa: F401  # pyright: ignore
    except ImportError as error:
      raise ValueError(
        "The TPU compiler is not installed: pip install 'prompt-tuning[plan]'."
      ) from error
    from jax.experimental import topologies

    options: dict[str, Any] = {}
    if self.chip.chip_config is not None:
      options["chip_config_name"] = self.chip.chip_config
    if self.shape in self.chip.host_shapes:
      bounds = (*self.shape, 1, 1)[:3]
      options["chips_per_host_bounds"] = list(bounds)
    topology = topologies.get_topology_desc(
      topology_name=self.name, platform="tpu", **options
    )
    return list(topology.devices)
