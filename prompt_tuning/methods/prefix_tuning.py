"""Prefix tuning: trained keys and values in every layer (Li and Liang, 2021).

Of an encoder-decoder each layer has three prefixes or one: in front of what the
encoder reads of itself, of what the decoder reads of itself, and of what it
reads of the encoder (sec. 4.2). They have no relative position, unless asked
for: every query sees them from the same distance.

They are trained through a network that is shared by the layers of a stack and
folded away afterwards (sec. 4.3): `fold` gives what is left.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from flax import linen as nn
from jax import numpy as jnp

from prompt_tuning.model.attention import KeysValues
from prompt_tuning.model.compiled_prompt import CompiledPrompt
from prompt_tuning.model.config import T5Config
from prompt_tuning.model.layers import FAN_IN_NORMAL
from prompt_tuning.model.method import Method, parameter
from prompt_tuning.types import Array, Float, Params

_STACKS = ("encoder", "cross", "past")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrefixTuning(Method):
  """P keys and values of each attention, P 2 H K numbers.

  Through a hidden layer of width M, the prefixes of n attentions have P D +
  (D + 1) M + (M + 1) n 2 H K parameters instead; there are three such networks.
  A prefix takes part in every softmax, so no start equals the frozen model.
  Train it with `prefix/.*`.

  Attributes:
    length: P.
    hidden: M; None to train keys and values themselves, which is less stable.
    stacks: Which prefixes there are, of "encoder", "cross" (what the decoder
      reads of the encoder) and "past" (what it reads of itself). PEFT has the
      last alone.
    has_positions: Whether queries see a prefix of their own stack at the
      positions just in front of them, as PEFT's do.

  Raises:
    ValueError: If the length or the width is below 1, there is no stack or it
      is unknown.
  """

  length: int = 10
  hidden: int | None = 512
  stacks: Sequence[str] = _STACKS
  has_positions: bool = False

  def __post_init__(self):
    # A configuration file may pass a list, which would not hash.
    object.__setattr__(self, "stacks", tuple(self.stacks))
    if not self.stacks or set(self.stacks) - set(_STACKS):
      raise ValueError(
        f"PrefixTuning.stacks must name some of {', '.join(_STACKS)}, got "
        f"{list(self.stacks)}."
      )
    for name in ("length", "hidden"):
      value = getattr(self, name)
      if value is not None and value < 1:
        raise ValueError(
          f"PrefixTuning.{name} must be at least 1, got {value}."
        )

  def prefix(self, config: T5Config) -> nn.Module:
    """Returns the module that computes all prefixes."""
    return Prefix(
      config=config,
      length=self.length,
      hidden=self.hidden,
      stacks=tuple(self.stacks),
      has_positions=self.has_positions,
    )


class Prefix(nn.Module):
  """The prefixes of a model.

  Attributes:
    config: The model's shape.
    length: P.
    hidden: M, None for keys and values as they are.
    stacks: Which prefixes there are.
    has_positions: Whether they stand at positions.
  """

  config: T5Config
  length: int
  hidden: int | None
  stacks: tuple[str, ...] = _STACKS
  has_positions: bool = False

  @nn.compact
  def __call__(self) -> CompiledPrompt:
    """Returns what queries read in front of everything else."""
    config = self.config
    return CompiledPrompt(
      encoder=self._of_layers("encoder", config.num_encoder_layers),
      cross=self._of_layers("cross", config.num_decoder_layers),
      past=self._of_layers("past", config.num_decoder_layers),
      has_positions=self.has_positions,
    )

  def _of_layers(self, name: str, num_layers: int) -> Any:
    """Returns keys and values of each layer as `model.stack` takes them."""
    if name not in self.stacks:
      return None
    config = self.config
    shape = (num_layers, 2, self.length, config.num_heads, config.head_dim)
    if self.hidden is None:
      module = Direct(shape=shape, name=name)
    else:
      module = Reparameterized(
        shape=shape, features=config.embed_dim, hidden=self.hidden, name=name
      )
    numbers = module().astype(config.jax_dtype)
    if config.scan_layers:
      return KeysValues(keys=numbers[None, :, 0], values=numbers[None, :, 1])
    return tuple(
      KeysValues(keys=layer[None, 0], values=layer[None, 1])
      for layer in numbers
    )


class Direct(nn.Module):
  """One parameter, `keys_values` [n, 2, P, H, K].

  Attributes:
    shape: Of all of it.
  """

  shape: tuple[int, ...]

  @nn.compact
  def __call__(self) -> Float[Array, "n 2 P H K"]:
    """Returns keys and values of n layers."""
    normal = nn.initializers.normal(1.0)
    return parameter(self, "keys_values", self.shape, initializer=normal)


class Reparameterized(nn.Module):
  """A hidden layer of tanh over an embedding [P, D], all layers at once.

  Attributes:
    shape: Of keys and values, [n, 2, P, H, K].
    features: D.
    hidden: M.
  """

  shape: tuple[int, ...]
  features: int
  hidden: int

  @nn.compact
  def __call__(self) -> Float[Array, "n 2 P H K"]:
    """Returns keys and values of n layers."""
    num_layers, both, length, *head = self.shape
    width = math.prod((num_layers, both, *head))
    x = parameter(
      self,
      "embedding",
      (length, self.features),
      initializer=nn.initializers.normal(1.0),
    )
    x = jnp.tanh(self._dense(x, "hidden_weights", self.hidden))
    x = self._dense(x, "output_weights", width)  # [P, n * 2 * H * K]
    x = x.reshape(length, num_layers, both, *head)
    return jnp.moveaxis(x, 0, 2)

  def _dense(self, x: Array, name: str, width: int) -> Array:
    weights = parameter(
      self, name, (x.shape[-1], width), initializer=FAN_IN_NORMAL
    )
    return x @ weights + parameter(self, f"{name}_bias", (width,))


def fold(
  method: PrefixTuning, config: T5Config, params: Params
) -> tuple[PrefixTuning, Params]:
  """Returns the same prefixes without the network they were trained through.

  Args:
    method: As trained.
    config: The model's shape.
    params: All parameters of the model, or at least `prefix`.

  Returns:
    The method whose parameters are keys and values, and `params` with those in
    the place of the network's.
  """
  if method.hidden is None:
    return method, params
  stacked = dataclasses.replace(config, scan_layers=True)
  compiled: Any = method.prefix(stacked).apply({"params": params["prefix"]})
  folded = {
    name: {
      "keys_values": jnp.stack([part.keys[0], part.values[0]], axis=1).astype(
        jnp.float32
      )
    }
    for name, part in (
      ("encoder", compiled.encoder),
      ("cross", compiled.cross),
      ("past", compiled.past),
    )
    if part is not None
  }
  direct = dataclasses.replace(method, hidden=None)
  return direct, {**params, "prefix": folded}
