"""Models, and adapters of PEFT, of the Hugging Face Hub by name.

`hf://org/name`, or `hf://org/name@revision`.
"""

import os
import re
from typing import Any

PREFIX = "hf://"
_NAME = re.compile(r"hf://([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")
_WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
# Weights that only a loader of PyTorch's reads, where there are no others.
_PYTORCH = ("pytorch_model*.bin", "pytorch_model.bin.index.json")
VOCABULARY = "spiece.model"
_MODEL = ("config.json", "tokenizer_config.json", VOCABULARY, *_WEIGHTS)
_ADAPTER = ("adapter_config.json", "adapter_model.*", "prompt_tuning.json")


def model_folder(path: str) -> str:
  """Returns the local folder of a model, downloaded if it is not there yet.

  Its SentencePiece model, if it has one, comes with it.

  Args:
    path: `hf://org/name`; what does not begin so is returned as it is.

  Raises:
    ValueError: It is malformed, or cannot be had.
    ImportError: If the package huggingface_hub is missing.
  """
  if not path.startswith(PREFIX):
    return path
  folder = _download(path, _MODEL)
  if not any(name.endswith(".safetensors") for name in os.listdir(folder)):
    folder = _download(path, (*_MODEL, *_PYTORCH))
  return folder


def adapter_folder(path: str) -> str:
  """Returns the local folder of an adapter of PEFT; see `model_folder`.

  Raises:
    ValueError: As there.
    ImportError: As there.
  """
  if not path.startswith(PREFIX):
    return path
  return _download(path, _ADAPTER)


def any_folder(path: str) -> str:
  """Returns the local folder of what the name stands for; see `model_folder`.

  Raises:
    ValueError: As there.
    ImportError: As there.
  """
  if not path.startswith(PREFIX):
    return path
  folder = _download(path, _ADAPTER)
  is_adapter = os.path.exists(os.path.join(folder, _ADAPTER[0]))
  return folder if is_adapter else model_folder(path)


def vocabulary_file(path: str) -> str:
  """Returns the local SentencePiece file of a model; see `model_folder`.

  Raises:
    ValueError: As there; or the model has none.
    ImportError: As there.
  """
  if not path.startswith(PREFIX):
    return path
  file = os.path.join(_download(path, (VOCABULARY,)), VOCABULARY)
  if not os.path.exists(file):
    raise ValueError(
      f"{path} has no {VOCABULARY}; ByT5 has none, and others may name it "
      "otherwise: give the file in VOCABULARY_PATH"
    )
  return file


def _download(path: str, patterns: tuple[str, ...]) -> str:
  match = _NAME.fullmatch(path)
  if match is None:
    raise ValueError(
      f"{path!r} names no model of the hub; expected hf://org/name or "
      "hf://org/name@revision"
    )
  library = _library(path)
  try:
    return library.snapshot_download(
      match[1], revision=match[2], allow_patterns=list(patterns)
    )
  except Exception as error:  # The library raises many types.
    raise ValueError(
      f"{path} cannot be had from the Hugging Face Hub: {error}"
    ) from error


def _library(path: str) -> Any:
  try:
    import huggingface_hub  # pyright: ignore[reportMissingImports]
  except ImportError as error:
    raise ImportError(
      f"{path} needs the package huggingface_hub; install it with `pip install "
      "'prompt-tuning[huggingface]'`, or give a local folder"
    ) from error
  return huggingface_hub
