"""A soft prompt brought from one form into another."""

import enum

import numpy as np
from absl import logging

from prompt_tuning import paths
from prompt_tuning.backbone import Backbone
from prompt_tuning.checkpoints import peft, prompts
from prompt_tuning.prompts import artifact
from prompt_tuning.prompts.artifact import PromptCard, SavedPrompt
from prompt_tuning.types import enum_member


class PromptFormat(enum.Enum):
  """A file of this project with its card, or a folder of Hugging Face PEFT."""

  PROMPT = "prompt"
  PEFT = "peft"


def convert(
  *,
  backbone: Backbone,
  source: str,
  output: str,
  format: PromptFormat | str,
  prompt_index: int | None = None,
  base_model: str = "",
  task: str = "",
) -> None:
  """Reads a prompt and writes it anew; its numbers stay as they are.

  Args:
    backbone: What it was tuned on. Of a prompt with a card that is checked.
    source: A prompt of this project, `.npy`; one without a card, such as
      google's, or of its `numpy_checkpoints`; or a folder of PEFT.
    output: Where to: a file `.npy`, or a folder.
    format: What to write.
    prompt_index: Which prompt of a bank; None takes all.
    base_model: What PEFT is to call the backbone; by default what the source
      does, or the backbone's checkpoint.
    task: What the card is to say that it was tuned on, if the source says
      nothing.

  Raises:
    ValueError: The source is none of these or broken, was tuned on another
      backbone, or cannot be said in the other form; nothing is written then.
    FileExistsError: The output exists.
  """
  format = enum_member(PromptFormat, format, name="PROMPT_FORMAT")
  if paths.exists(output):
    raise FileExistsError(f"{output} exists; name another output")
  loaded = backbone.load()
  saved, called = prompts.read(source)
  width = backbone.config.embed_dim
  if saved.array.shape[-1] != width:
    raise ValueError(
      f"{source} is a prompt of width {saved.array.shape[-1]}, but the "
      f"backbone has width {width}; choose the model size it was tuned on"
    )
  artifact.check_backbone(saved, loaded.fingerprint, source=source)
  array = _of_bank(saved.array, prompt_index, source=source)
  if format is PromptFormat.PEFT:
    _check_place(saved, source)
    peft.write(
      output,
      array,
      config=backbone.config,
      base_model=base_model or called or backbone.checkpoint or "",
    )
  else:
    card = _card(saved, array, loaded.fingerprint, task)
    artifact.save_prompt(output, array, card)
  logging.info("Wrote %s of %s to %s.", list(array.shape), source, output)


def _of_bank(
  array: np.ndarray, prompt_index: int | None, *, source: str
) -> np.ndarray:
  if prompt_index is None:
    return array
  bank = array if array.ndim == 3 else array[None]
  if not 0 <= prompt_index < len(bank):
    raise ValueError(
      f"{source} holds {len(bank)} prompts, counted from 0; there is no "
      f"{prompt_index}"
    )
  return bank[prompt_index]


def _check_place(saved: SavedPrompt, source: str) -> None:
  """Checks that PEFT would use a prompt as it was tuned."""
  if saved.array.ndim == 3:
    raise ValueError(
      f"{source} is a bank of {len(saved.array)} prompts, and PEFT keeps one; "
      "set PROMPT_INDEX"
    )
  card = saved.card
  if card and (card.layout, card.attention) != ("prefix", "full"):
    raise ValueError(
      f"{source} was tuned with the layout {card.layout!r} and the attention "
      f"{card.attention!r}; PEFT puts a prompt in front and lets it see all"
    )


def _card(
  saved: SavedPrompt, array: np.ndarray, fingerprint: str, task: str
) -> PromptCard:
  bank = array if array.ndim == 3 else array[None]
  shape = {
    "num_prompts": bank.shape[0],
    "length": bank.shape[1],
    "width": bank.shape[2],
  }
  if saved.card is None:
    return PromptCard(backbone=fingerprint, step=0, task=task, **shape)
  described = {
    name: getattr(saved.card, name)
    for name in PromptCard.__dataclass_fields__
    if name not in shape
  }
  return PromptCard(**described, **shape)
