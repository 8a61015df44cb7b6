"""Prompts for every layer of the encoder, at the slots of the soft prompt.

Replaced, the slots of a layer do not depend on the layer below, which is near
to prefix tuning (Lester et al., 2021, sec. 4, has soft tokens go through the
layers instead). Added, they are the deep perturbations of soft words (Qin and
Eisner, 2021), and the soft prompt is the words.
"""

import dataclasses
import enum
from typing import Any

from flax import linen as nn
from jax import numpy as jnp

from prompt_tuning.model.method import Method, parameter
from prompt_tuning.prompts.module import look_up
from prompt_tuning.types import Array, Float, Int, enum_member


class Combination(enum.Enum):
  """What becomes of the stream at a slot: another vector, or the sum."""

  REPLACE = "replace"
  ADD = "add"


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerPrompts(Method):
  """A vector for each slot and layer of the encoder, S D numbers a layer.

  It goes with a soft prompt, which says where slots stand. To be added they
  start at zero: training starts from the prompted model. To replace, they start
  uniform in [-0.5, 0.5), and of the soft prompt itself nothing is left. Train
  them with `.*/prompt/.*`, added ones with `(.*/)?prompt/.*`.

  Attributes:
    num_slots: S, of the soft prompt: its length, times the prompts of a bank.
    combination: What becomes of the stream.

  Raises:
    ValueError: If there is no slot, or the combination is unknown.
  """

  num_slots: int
  combination: Combination | str = Combination.ADD

  def __post_init__(self):
    if self.num_slots < 1:
      raise ValueError(
        f"LayerPrompts.num_slots must be at least 1, got {self.num_slots}."
      )
    # A configuration file says "add".
    combination = enum_member(
      Combination, self.combination, name="LayerPrompts.combination"
    )
    object.__setattr__(self, "combination", combination)

  @property
  def ignores_prompt(self) -> bool:
    """Whether every layer's slots are replaced, the first one's too."""
    return self.combination is Combination.REPLACE

  def check_prompt(self, prompt: Any) -> None:
    """Raises a ValueError unless there are as many slots as the prompt has."""
    if prompt is None:
      raise ValueError(
        "LayerPrompts stand at the slots of a soft prompt, and there is none; "
        "leave PROMPT as runs/prompt_tune.gin has it."
      )
    if self.num_slots != prompt.num_slots:
      raise ValueError(
        f"LayerPrompts.num_slots is {self.num_slots}, but the soft prompt has "
        f"{prompt.num_slots} slots: its length, times the prompts of a bank. "
        "Make them equal."
      )

  def hook(self, site: str) -> nn.Module | None:
    """Returns the prompt of an encoder layer."""
    if site != "encoder/residual":
      return None
    replaces = self.combination is Combination.REPLACE
    return LayerPrompt(
      num_slots=self.num_slots, replaces=replaces, name="prompt"
    )


class LayerPrompt(nn.Module):
  """One parameter, `embedding` [S, D].

  Attributes:
    num_slots: S.
    replaces: Whether the stream at a slot is replaced.
  """

  num_slots: int
  replaces: bool

  @nn.compact
  def __call__(
    self, x: Float[Array, "B L D"], slots: Int[Array, "#B L"]
  ) -> Float[Array, "B L D"]:
    """Returns the stream with this layer's prompt; an unknown slot is NaN."""
    start = nn.initializers.zeros
    if self.replaces:
      start = _uniform_half
    shape = (self.num_slots, x.shape[-1])
    embedding = parameter(self, "embedding", shape, initializer=start)
    is_slot = slots >= 0
    rows = look_up(embedding, jnp.where(is_slot, slots, 0)).astype(x.dtype)
    if not self.replaces:
      rows = x + rows
    return jnp.where(is_slot[..., None], rows, x)


def _uniform_half(rng, shape, dtype):
  return nn.initializers.uniform(1.0)(rng, shape, dtype) - 0.5
