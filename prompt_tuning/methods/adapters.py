"""Adapters: bottlenecks behind attention and feed-forward layers.

Houlsby et al., 2019, sec. 2.1.
"""

import dataclasses
import re

import jax
from flax import linen as nn

from prompt_tuning.model.layers import FAN_IN_NORMAL
from prompt_tuning.model.method import Method, parameter
from prompt_tuning.types import Array, Float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adapters(Method):
  """Adds `gelu(y W + b) V + c` to what a layer is about to add to the stream.

  W [D, M] starts at random, V [M, D] and both biases at zero, so that training
  starts from the frozen model. An adapter has 2 D M + D + M parameters, and
  there are two in a layer of the encoder and three in one of the decoder; train
  them with `.*/adapter/.*`.

  Attributes:
    width: M, of the bottleneck.
    targets: Behind what they stand, a regular expression of whole sites
      (`model.method`).

  Raises:
    ValueError: If the width is below 1.
  """

  width: int = 64
  targets: str = r".*(attention/out|mlp/wo)"

  def __post_init__(self):
    if self.width < 1:
      raise ValueError(f"Adapters.width must be at least 1, got {self.width}.")

  def hook(self, site: str) -> nn.Module | None:
    """Returns the adapter of a target."""
    if not re.fullmatch(self.targets, site):
      return None
    return Bottleneck(width=self.width, name="adapter")


class Bottleneck(nn.Module):
  """Parameters `down` [D, M], `down_bias`, `up` [M, D] and `up_bias`.

  Attributes:
    width: M.
  """

  width: int

  @nn.compact
  def __call__(
    self, y: Float[Array, "*shape D"], x: Array | None
  ) -> Float[Array, "*shape D"]:
    """Returns `y` and what the bottleneck makes of it, in its type."""
    del x

    def own(name, *shape, **options):
      return parameter(self, name, shape, **options).astype(y.dtype)

    features = y.shape[-1]
    down = own("down", features, self.width, initializer=FAN_IN_NORMAL)
    hidden = jax.nn.gelu(y @ down + own("down_bias", self.width))
    up = own("up", self.width, features)
    return y + hidden @ up + own("up_bias", features)
