"""LoRA: a low-rank product beside a frozen matrix (Hu et al., 2021, sec. 4)."""

import dataclasses
import re

from flax import linen as nn

from prompt_tuning.model.layers import FAN_IN_NORMAL
from prompt_tuning.model.method import Method, parameter
from prompt_tuning.types import Array, Float


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoRA(Method):
  """Adds `alpha / rank * (x A) B` to the output of projections.

  A [I, R] starts at random and B [R, O] at zero, so that training starts from
  the frozen model. Each projection has R (I + O) parameters; train them with
  `.*/lora/.*`.

  Attributes:
    rank: R.
    alpha: Scales what is added; at `rank` it is added as it is.
    targets: The projections, a regular expression of whole sites
      (`model.method`). By default the queries and the values of every
      attention.

  Raises:
    ValueError: If the rank is below 1.
  """

  rank: int = 8
  alpha: float = 16.0
  targets: str = r".*attention/(query|value)"

  def __post_init__(self):
    if self.rank < 1:
      raise ValueError(f"LoRA.rank must be at least 1, got {self.rank}.")

  def hook(self, site: str) -> nn.Module | None:
    """Returns the low-rank product of a target."""
    if not re.fullmatch(self.targets, site):
      return None
    return LowRank(rank=self.rank, scale=self.alpha / self.rank, name="lora")


class LowRank(nn.Module):
  """Parameters `down` [I, R] and `up` [R, O].

  Attributes:
    rank: R.
    scale: Of what is added.
  """

  rank: int
  scale: float

  @nn.compact
  def __call__(
    self, y: Float[Array, "*shape O"], x: Float[Array, "*shape I"]
  ) -> Float[Array, "*shape O"]:
    """Returns `y` and the product of `x`, in the type of `y`."""
    down = parameter(
      self, "down", (x.shape[-1], self.rank), initializer=FAN_IN_NORMAL
    )
    up = parameter(self, "up", (self.rank, y.shape[-1]))
    low = x.astype(y.dtype) @ down.astype(y.dtype)
    return y + self.scale * (low @ up.astype(y.dtype))
