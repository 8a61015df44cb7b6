"""Soft prompts as Hugging Face PEFT keeps them: prompt tuning of a T5.

A folder of `adapter_config.json` and the weights, one array [P, D] in front of
the encoder's input. PEFT doubles P by default, for a prompt of the decoder too,
and reads only the first half.
"""

import dataclasses
import json
import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from absl import logging

from prompt_tuning import paths
from prompt_tuning.checkpoints import hf_weights
from prompt_tuning.model.config import T5Config

CONFIG = "adapter_config.json"
_SAFETENSORS, _PYTORCH = "adapter_model.safetensors", "adapter_model.bin"
_WEIGHT = "prompt_embeddings"
_KIND, _TASK = "PROMPT_TUNING", "SEQ_2_SEQ_LM"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adapter:
  """A prompt as read.

  Attributes:
    array: float32, [P, D].
    base_model: What the folder calls its backbone.
  """

  array: np.ndarray
  base_model: str


def is_adapter(path: paths.PathLike) -> bool:
  """Returns whether a folder is one of PEFT's, of whatever kind."""
  return paths.exists(paths.as_path(path) / CONFIG)


def read(folder: paths.PathLike) -> Adapter:
  """Reads a prompt that PEFT tuned.

  Args:
    folder: Where `save_pretrained` wrote to.

  Raises:
    ValueError: It is an adapter of another kind or for another sort of model,
      there are no weights or they are truncated, or they have another shape
      than the configuration says.
    ImportError: If the weights are in a format whose package is missing.
  """
  source = os.fspath(folder)
  settings = read_config(folder)
  for name, expected in (("peft_type", _KIND), ("task_type", _TASK)):
    if settings.get(name) != expected:
      raise ValueError(
        f"{source}: {name} is {settings.get(name)!r} where a soft prompt of a "
        f"T5 has {expected!r}; an adapter of another kind cannot be one"
      )
  weights = _weights(folder)
  if set(weights) != {_WEIGHT}:
    raise ValueError(
      f"{source}: expected the weight {_WEIGHT!r} alone, got {sorted(weights)}"
    )
  array = np.asarray(weights[_WEIGHT](), np.float32)
  length, width = (
    _count(settings, name, source)
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
      f"{source}: {CONFIG} says [{length}, {width}], and the weights are "
      f"{list(array.shape)}; the two files do not belong together"
    )
  return Adapter(
    array=array, base_model=settings.get("base_model_name_or_path") or ""
  )


def read_config(folder: paths.PathLike) -> Mapping[str, Any]:
  """Returns what `adapter_config.json` says.

  Raises:
    ValueError: There is none, or it is no JSON object.
  """
  path = paths.as_path(folder) / CONFIG
  try:
    settings = json.loads(paths.read_text(path))
  except (OSError, ValueError) as error:
    raise ValueError(
      f"{path} cannot be read as the configuration of a PEFT adapter: {error}"
    ) from error
  if not isinstance(settings, dict):
    raise ValueError(f"{path}: expected a JSON object, got {settings!r}")
  return settings


def write(
  folder: paths.PathLike,
  array: np.ndarray,
  *,
  config: T5Config,
  base_model: str,
) -> None:
  """Writes a prompt for PEFT to read; the folder appears when it is complete.

  Args:
    folder: Where to.
    array: [P, D].
    config: The backbone's shape.
    base_model: What `AutoModelForSeq2SeqLM.from_pretrained` takes as backbone.

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
    "peft_type": _KIND,
    "task_type": _TASK,
    "base_model_name_or_path": base_model,
    "inference_mode": True,
    "num_virtual_tokens": array.shape[0],
    "token_dim": array.shape[1],
    # The encoder alone: else PEFT expects twice as many rows.
    "num_transformer_submodules": 1,
    "num_attention_heads": config.num_heads,
    "num_layers": config.num_encoder_layers,
    "prompt_tuning_init": "RANDOM",
  }
  weights = {_WEIGHT: np.ascontiguousarray(array, np.float32)}
  with paths.atomic_directory(folder) as place:
    hf_weights.write_file(place / _SAFETENSORS, weights)
    paths.write_text(place / CONFIG, json.dumps(settings, indent=2) + "\n")


def _count(settings: Mapping[str, Any], name: str, source: str) -> int:
  value = settings.get(name)
  if not isinstance(value, int) or value < 1:
    raise ValueError(
      f"{source}: {name} in {CONFIG} is {value!r} where a positive number is "
      "expected"
    )
  return value


def _weights(
  folder: paths.PathLike,
) -> Mapping[str, Callable[[], np.ndarray]]:
  place = paths.as_path(folder)
  for name, opener in (
    (_SAFETENSORS, hf_weights.open_safetensors),
    (_PYTORCH, hf_weights.open_pytorch),
  ):
    if paths.exists(place / name):
      return opener(place / name)
  raise ValueError(
    f"{os.fspath(folder)} holds neither {_SAFETENSORS} nor {_PYTORCH}; it "
    f"holds {', '.join(paths.list_dir(place)) or 'nothing'}"
  )
