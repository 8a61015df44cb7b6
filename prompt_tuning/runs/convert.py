"""What was tuned, brought from one form into another."""

import dataclasses
import enum

import numpy as np
from absl import logging

from prompt_tuning import paths
from prompt_tuning.backbone import Backbone
from prompt_tuning.checkpoints import prompts
from prompt_tuning.checkpoints.peft import methods, soft_prompts
from prompt_tuning.prompts import artifact
from prompt_tuning.prompts.artifact import PromptCard, SavedPrompt
from prompt_tuning.runs import model_dir, tuned
from prompt_tuning.runs.network import identity_of
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
  licence: str = "",
) -> None:
  """Reads what was tuned and writes it anew; its numbers stay as they are.

  Args:
    backbone: What it was tuned on. Where the source says, that is checked.
    source: A prompt of this project, `.npy`; one without a card, such as
      google's, or of its `numpy_checkpoints`; a folder of PEFT; or the
      MODEL_DIR of a run that trained LoRA, IA3 or prefix tuning.
    output: Where to: a file `.npy`, or a folder.
    format: What to write.
    prompt_index: Which prompt of a bank; None takes all.
    base_model: What to call the backbone; by default what the source does, or
      the backbone's checkpoint.
    task: What the card is to say that it was tuned on, if the source says
      nothing.
    licence: What the card is to say of it, likewise.

  Raises:
    ValueError: The source is none of these or broken, was tuned on another
      backbone, or cannot be said in the other form; nothing is written then.
    FileExistsError: The output exists.
  """
  format = enum_member(PromptFormat, format, name="PROMPT_FORMAT")
  if paths.exists(output):
    raise FileExistsError(f"{output} exists; name another output")
  if model_dir.is_run(source):
    if prompt_index is not None:
      raise ValueError(
        f"PROMPT_INDEX is {prompt_index}, but {source} is a MODEL_DIR and no "
        "bank of prompts; leave it out"
      )
    card = {"task": task, "licence": licence}
    _convert_method(backbone, source, output, format, base_model, card)
    return
  fingerprint = backbone.load(in_parts=True).fingerprint
  saved, called = prompts.read(source)
  width = backbone.config.embed_dim
  if saved.array.shape[-1] != width:
    raise ValueError(
      f"{source} is a prompt of width {saved.array.shape[-1]}, but the "
      f"backbone has width {width}; choose the model size it was tuned on"
    )
  artifact.check_backbone(saved, fingerprint, source=source)
  array = _of_bank(saved.array, prompt_index, source=source)
  card = _card(saved, array, fingerprint)
  card = dataclasses.replace(
    card,
    base_model=base_model or called or backbone.checkpoint or "",
    task=card.task or task,
    licence=card.licence or licence,
  )
  if format is PromptFormat.PEFT:
    _check_place(card, source)
    soft_prompts.write(
      output,
      array,
      config=backbone.config,
      base_model=card.base_model,
      card=card,
    )
  else:
    artifact.save_prompt(output, array, card)
  logging.info("Wrote %s of %s to %s.", list(array.shape), source, output)


def _convert_method(
  backbone: Backbone,
  source: str,
  output: str,
  format: PromptFormat,
  base_model: str,
  card: dict[str, str],
) -> None:
  """Writes what a run has trained inside of the layers."""
  found = tuned.read_tuned(source, config=backbone.config)
  assert found is not None  # It was named.
  if found.method is None or found.prompt is not None:
    raise ValueError(
      f"{source} is the MODEL_DIR of a run that trained "
      f"{'more than a method' if found.method else 'no method'}; of a prompt, "
      "name the file, such as its prompts/best.npy"
    )
  if format is PromptFormat.PROMPT:
    raise ValueError(
      f"{source} holds {type(found.method).__name__} and no soft prompt; "
      "PROMPT_FORMAT 'peft' is what it can be written as"
    )
  fingerprint = backbone.load(in_parts=True).fingerprint
  found.check_backbone(identity_of(fingerprint, backbone.dtype))
  methods.write(
    output,
    found.method,
    found.read(),
    config=backbone.config,
    base_model=base_model or backbone.checkpoint or "",
    card={"backbone": found.backbone, "step": found.step, **card},
  )
  logging.info("Wrote %s of %s to %s.", found.method, source, output)


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


def _check_place(card: PromptCard, source: str) -> None:
  """Checks that PEFT would use a prompt as it was tuned."""
  if card.num_prompts > 1:
    raise ValueError(
      f"{source} is a bank of {card.num_prompts} prompts, and PEFT keeps one; "
      "set PROMPT_INDEX"
    )
  if (card.layout, card.attention) != ("prefix", "full"):
    raise ValueError(
      f"{source} was tuned with the layout {card.layout!r} and the attention "
      f"{card.attention!r}; PEFT puts a prompt in front and lets it see all"
    )


def _card(
  saved: SavedPrompt, array: np.ndarray, fingerprint: str
) -> PromptCard:
  num_prompts, length, width = (
    array.shape
    if array.ndim == 3
    else (
      1,
      *array.shape,
    )
  )
  shape = {"num_prompts": num_prompts, "length": length, "width": width}
  if saved.card is None:
    return PromptCard(backbone=fingerprint, step=0, **shape)
  return dataclasses.replace(saved.card, **shape)
