"""IA3: learned scales of activations (Liu et al., 2022, sec. 3.3)."""

import dataclasses
import re

from flax import linen as nn

from prompt_tuning.model.method import Method, parameter
from prompt_tuning.types import Array, Float


@dataclasses.dataclass(frozen=True, kw_only=True)
class IA3(Method):
  """Multiplies keys, values and the feed-forward layers' hidden activations.

  Scales start at one, so that training starts from the frozen model. An
  attention has 2 H K of them and a feed-forward layer F; train them with
  `.*/ia3/.*`.

  Attributes:
    targets: What is scaled, a regular expression of whole sites
      (`model.method`).
  """

  targets: str = r".*(attention/(key|value)|mlp/hidden)"

  def hook(self, site: str) -> nn.Module | None:
    """Returns the scales of a target."""
    return Scales(name="ia3") if re.fullmatch(self.targets, site) else None


class Scales(nn.Module):
  """One parameter, `scale` [O]."""

  @nn.compact
  def __call__(
    self, y: Float[Array, "*shape O"], x: Array | None
  ) -> Float[Array, "*shape O"]:
    """Returns `y` times the scales, in its type."""
    del x
    ones = nn.initializers.ones
    scale = parameter(self, "scale", (y.shape[-1],), initializer=ones)
    return y * scale.astype(y.dtype)
