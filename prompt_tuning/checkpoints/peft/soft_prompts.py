"""Soft prompts as PEFT keeps them: one array [P, D] in front of the encoder.

PEFT doubles P by default, for a prompt of the decoder too, and reads only the
first half.
"""

import dataclasses
import os
from typing import Any

import numpy as np
from absl import logging

from prompt_tuning import paths
from prompt_tuning.checkpoints.peft import files
from prompt_tuning.model.config import T5Config
from prompt_tuning.prompts.artifact import PromptCard, SavedPrompt

KIND = "PROMPT_TUNING"
_WEIGHT = "prompt_embeddings"


def read(folder: paths.PathLike) -> tuple[SavedPrompt, str]:
  """Reads a prompt that PEFT tuned, or that was written for it.

  Args:
    folder: Where `save_pretrained` wrote to.

  Returns:
    The prompt, with a card if this project wrote it, and what the folder calls
    its backbone.

  Raises:
    ValueError: It is an adapter of another kind or for another sort of model,
      there are no weights or they are truncated, or they have another shape
      than the configuration says.
    ImportError: If the weights are in a format whose package is missing.
  """
  source = os.fspath(folder)
  settings = files.read_config(folder)
  if settings.get("peft_type") != KIND:
    raise ValueError(
      f"{source}: peft_type is {settings.get('peft_type')!r} where a soft "
      f"prompt has {KIND!r}. LoRA, IA3 and prefix tuning are read from their "
      "folder by TUNED_DIR, in evaluation and inference"
    )
  files.check_task(settings, source)
  weights = files.open_weights(folder)
  if set(weights) != {_WEIGHT}:
    raise ValueError(
      f"{source}: expected the weight {_WEIGHT!r} alone, got {sorted(weights)}"
    )
  array = np.asarray(weights[_WEIGHT], np.float32)
  length, width = (
    files.count(settings, name, source)
    for name in ("num_virtual_tokens", "token_dim")
  )
  if array.shape == (2 * length, width):
    logging.warning(
      "%s holds %d rows for a prompt of %d tokens, as PEFT does by default for "
      "an encoder and a decoder; it reads the first half, and so is done here.",
      *(source, 2 * length, length),
    )
    array = array[:length]
  if array.shape != (length, width):
    raise ValueError(
      f"{source}: {files.CONFIG} says [{length}, {width}], and the weights are "
      f"{list(array.shape)}; the two files do not belong together"
    )
  card = _card(files.read_card(folder), source)
  return (
    SavedPrompt(array=array, card=card),
    settings.get("base_model_name_or_path") or "",
  )


def write(
  folder: paths.PathLike,
  array: np.ndarray,
  *,
  config: T5Config,
  base_model: str,
  card: PromptCard,
) -> None:
  """Writes a prompt for PEFT to read; the folder appears when it is complete.

  Args:
    folder: Where to.
    array: [P, D].
    config: The backbone's shape.
    base_model: What `AutoModelForSeq2SeqLM.from_pretrained` takes as backbone.
    card: What it is; PEFT does not look at it, `read` does.

  Raises:
    ValueError: The prompt is not as wide as the backbone, or a bank.
    FileExistsError: The folder exists.
    ImportError: If the package safetensors is missing.
  """
  if array.ndim != 2 or array.shape[-1] != config.embed_dim:
    raise ValueError(
      f"PEFT keeps one prompt [length, {config.embed_dim}] of this backbone, "
      f"got {list(array.shape)}"
    )
  settings = {
    "peft_type": KIND,
    "num_virtual_tokens": array.shape[0],
    "token_dim": array.shape[1],
    # The encoder alone: else PEFT expects twice as many rows.
    "num_transformer_submodules": 1,
    "num_attention_heads": config.num_heads,
    "num_layers": config.num_encoder_layers,
    "prompt_tuning_init": "RANDOM",
  }
  files.write(
    folder,
    settings,
    {_WEIGHT: array},
    base_model=base_model,
    card=dataclasses.asdict(card),
  )


def _card(described: dict[str, Any] | None, source: str) -> PromptCard | None:
  if described is None:
    return None
  try:
    return PromptCard(**described)
  except TypeError as error:
    raise ValueError(
      f"{source}: {files.CARD} is not the card of a prompt: {error}"
    ) from error
