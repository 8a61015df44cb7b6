"""One description of a soft prompt, from which all of its parts are built."""

import dataclasses
import enum
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from prompt_tuning.prompts import artifact
from prompt_tuning.prompts import layout as layout_lib
from prompt_tuning.prompts.layout import Layout
from prompt_tuning.prompts.module import Prompt, PromptAttention, PromptBank
from prompt_tuning.types import Float, Initializer, enum_member


class Position(enum.Enum):
  """Where the slots stand; MARKED where the task's own pattern has them.

  A template says it for itself.
  """

  PREFIX = "prefix"
  AFTER_BOS = "after_bos"
  SUFFIX_BEFORE_EOS = "suffix_before_eos"
  SUFFIX_AFTER_EOS = "suffix_after_eos"
  MARKED = "marked"


_LAYOUTS = {
  Position.PREFIX: layout_lib.prefix,
  Position.AFTER_BOS: layout_lib.after_bos,
  Position.SUFFIX_BEFORE_EOS: layout_lib.suffix_before_eos,
  Position.SUFFIX_AFTER_EOS: layout_lib.suffix_after_eos,
  Position.MARKED: layout_lib.marked,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class PromptSpec:
  """A soft prompt: how long, where, and from what it starts.

  Attributes:
    length: P, in tokens.
    initializer: A function of `prompt_tuning.prompts.initializers` with its own
      arguments bound; what it asks of the backbone and of this description is
      given by name.
    position: Where the slots stand.
    template: Slots between words instead, such as
      "{soft:10} {inputs} It was {soft:2} ."; its slots must number `length`.
    num_prompts: N; more than one makes a bank.
    attention: What soft tokens attend to, see `module.PromptAttention`.

  Raises:
    ValueError: If there is no soft token, the position or the attention is
      unknown, or soft tokens that attend to themselves alone are to stand
      elsewhere than in front.
  """

  length: int
  initializer: Callable[..., Initializer]
  position: Position | str = Position.PREFIX
  template: str | None = None
  num_prompts: int = 1
  attention: PromptAttention | str = PromptAttention.FULL

  def __post_init__(self):
    if self.length < 1:
      raise ValueError(
        "PROMPT_LENGTH must be at least 1 token, got "
        f"{self.length}; for the bare model leave the prompt out (PROMPT=None)."
      )
    position = enum_member(Position, self.position, name="PromptSpec.position")
    object.__setattr__(self, "position", position)
    if self.template is not None and self.position is not Position.PREFIX:
      raise ValueError(
        "PromptSpec has both a template and a position, and a template says "
        "itself where the slots stand; drop one of the two."
      )
    attention = enum_member(
      PromptAttention, self.attention, name="PromptSpec.attention"
    )
    object.__setattr__(self, "attention", attention)
    if self._is_apart and self.layout_text != Position.PREFIX.value:
      raise ValueError(
        "PromptSpec.attention is 'prefix': soft tokens that do not see the "
        "input are computed without it and can only stand in front of it, but "
        f"the layout is {self.layout_text!r}. Set the position to 'prefix' and "
        "drop the template, or the attention to 'full'."
      )

  @property
  def _is_apart(self) -> bool:
    """Whether soft tokens are computed apart from the inputs."""
    return self.attention is PromptAttention.PREFIX

  @property
  def initializer_name(self) -> str:
    """What the card calls the initialiser."""
    bare = getattr(self.initializer, "func", self.initializer)  # Of a partial.
    return getattr(bare, "__name__", repr(bare))

  @property
  def layout_text(self) -> str:
    """What the card says of the layout; `PromptSpec.of_saved` reads it."""
    return self.template or Position(self.position).value

  @classmethod
  def of_saved(cls, saved: artifact.SavedPrompt) -> "PromptSpec":
    """Returns the description of a prompt that was read from a file.

    A file without a card is taken for a prefix. The prompt starts at zero: the
    caller puts the saved values in its place, of a bank all at once.
    """
    *bank, length, _ = saved.array.shape
    card = saved.card
    return cls.described(
      length=length,
      num_prompts=bank[0] if bank else 1,
      layout_text=card.layout if card else Position.PREFIX.value,
      attention=card.attention if card else PromptAttention.FULL,
    )

  @classmethod
  def described(
    cls,
    *,
    length: int,
    num_prompts: int,
    layout_text: str,
    attention: PromptAttention | str,
  ) -> "PromptSpec":
    """Returns the description of a prompt whose values come from elsewhere.

    Args:
      length: P, in tokens.
      num_prompts: N.
      layout_text: What `layout_text` of the description was.
      attention: What soft tokens attend to.
    """
    is_position = layout_text in {place.value for place in Position}
    return cls(
      length=length,
      num_prompts=num_prompts,
      initializer=lambda: jax.nn.initializers.zeros,
      position=Position(layout_text) if is_position else Position.PREFIX,
      template=None if is_position else layout_text,
      attention=attention,
    )

  def layout(self, encode: Callable[[str], Sequence[int]]) -> Layout:
    """Returns where the slots stand in a row.

    There are none in it if the prompt attends to itself alone.

    Args:
      encode: Gives the ids of a template's words.

    Raises:
      ValueError: If a template has another number of slots than `length`.
    """
    if self._is_apart:
      return layout_lib.prefix(0)
    if self.template is None:
      return _LAYOUTS[Position(self.position)](self.length)
    layout = layout_lib.template(self.template, encode=encode)
    if layout.num_slots != self.length:
      raise ValueError(
        f"The template {self.template!r} has {layout.num_slots} slots, but "
        f"PROMPT_LENGTH is {self.length}; make them equal."
      )
    return layout

  def module(
    self,
    *,
    embeddings: Float[Any, "V D"],
    encode: Callable[[str], Sequence[int]],
    backbone_fingerprint: str | None = None,
  ) -> Prompt | PromptBank:
    """Returns the module that embeds the slots.

    Args:
      embeddings: The backbone's table, or what is read when numpy asks for it:
        it is if the initialiser takes it.
      encode: Splits text into ids of the table.
      backbone_fingerprint: Checked against a prompt that is read from a file.
    """
    offered: dict[str, Any] = {
      "encode": encode,
      "backbone_fingerprint": backbone_fingerprint,
      "layout": self.layout_text,
      "attention": PromptAttention(self.attention).value,
    }
    asked = inspect.signature(self.initializer).parameters
    if "embeddings" in asked:
      offered["embeddings"] = np.asarray(embeddings)
    init = self.initializer(
      **{name: value for name, value in offered.items() if name in asked}
    )
    return self.module_from(init, features=embeddings.shape[-1])

  def module_from(
    self, init: Initializer, *, features: int
  ) -> Prompt | PromptBank:
    """Returns the module with another start.

    Args:
      init: Gives the initial value of one [P, D] prompt, or of a whole bank.
      features: D, the width of the backbone.
    """
    one: dict[str, Any] = {
      "length": self.length,
      "features": features,
      "initializer": init,
      "attention": self.attention,
    }
    if self.num_prompts == 1:
      return Prompt(**one)
    return PromptBank(num_prompts=self.num_prompts, **one)
