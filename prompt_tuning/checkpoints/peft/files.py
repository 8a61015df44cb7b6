"""The two files of a PEFT adapter, and a third one that is this project's.

`adapter_config.json` says what the adapter is and the safetensors beside it
hold its weights. `prompt_tuning.json`, which PEFT does not look at, says which
backbone it was tuned on and what else PEFT has no word for.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from prompt_tuning import hub, paths
from prompt_tuning.checkpoints import hf_weights
from prompt_tuning.checkpoints.stored import Stored

CONFIG = "adapter_config.json"
CARD = "prompt_tuning.json"
SEQ2SEQ = "SEQ_2_SEQ_LM"
_SAFETENSORS, _PYTORCH = "adapter_model.safetensors", "adapter_model.bin"
_DIGEST = "sha256"


def is_adapter(path: paths.PathLike) -> bool:
  """Returns whether a folder is one of PEFT's, of whatever kind."""
  return paths.exists(paths.as_path(path) / CONFIG)


def read_config(folder: paths.PathLike) -> Mapping[str, Any]:
  """Returns what `adapter_config.json` says.

  Raises:
    ValueError: There is none, or it is no JSON object.
  """
  return _read_json(
    paths.as_path(folder) / CONFIG, "the configuration of a PEFT adapter"
  )


def check_task(settings: Mapping[str, Any], source: str) -> None:
  """Checks that an adapter is one of an encoder-decoder.

  Raises:
    ValueError: If it is not.
  """
  if settings.get("task_type") != SEQ2SEQ:
    raise ValueError(
      f"{source}: task_type is {settings.get('task_type')!r} where what is "
      f"tuned on a T5 has {SEQ2SEQ!r}; an adapter of another sort of model "
      "cannot be read"
    )


def count(settings: Mapping[str, Any], name: str, source: str) -> int:
  """Returns a positive number of the configuration.

  Raises:
    ValueError: If it is none.
  """
  value = settings.get(name)
  if not isinstance(value, int) or value < 1:
    raise ValueError(
      f"{source}: {name} in {CONFIG} is {value!r} where a positive number is "
      "expected"
    )
  return value


def open_weights(folder: paths.PathLike) -> Mapping[str, Stored]:
  """Returns each weight, to be read, by PEFT's name of it.

  Raises:
    ValueError: There are none, or they are truncated or corrupt.
    ImportError: If the package that reads their format is missing.
  """
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


def read_card(folder: paths.PathLike) -> dict[str, Any] | None:
  """Returns what this project wrote of an adapter; None of PEFT's own.

  Raises:
    ValueError: It is damaged, or the weights are not those that it was written
      for.
  """
  path = paths.as_path(folder) / CARD
  if not paths.exists(path):
    return None
  card = _read_json(path, "what this project says of an adapter")
  weights = paths.as_path(folder) / _SAFETENSORS
  found = _digest(weights) if paths.exists(weights) else "nothing"
  if card.pop(_DIGEST, None) != found:
    raise ValueError(
      f"{path} was written for other weights than {weights} holds; delete it "
      "if you know that these belong to the backbone"
    )
  return card


def write(
  folder: paths.PathLike,
  settings: Mapping[str, Any],
  weights: Mapping[str, np.ndarray],
  *,
  base_model: str,
  card: Mapping[str, Any],
) -> None:
  """Writes an adapter; the folder appears when it is complete.

  Args:
    folder: Where to.
    settings: `adapter_config.json`, besides what all adapters of a T5 have.
    weights: By PEFT's names; kept as float32.
    base_model: What `AutoModelForSeq2SeqLM.from_pretrained` takes as backbone,
      or `hf://org/name`.
    card: What this project says of it.

  Raises:
    FileExistsError: The folder exists.
    ImportError: If the package safetensors is missing.
  """
  # PEFT knows a model of the hub by its bare name.
  name, _, revision = base_model.removeprefix(hub.PREFIX).partition("@")
  is_of_hub = base_model.startswith(hub.PREFIX)
  settings = {
    "task_type": SEQ2SEQ,
    "base_model_name_or_path": name if is_of_hub else base_model,
    "revision": revision or None if is_of_hub else None,
    "inference_mode": True,
    **settings,
  }
  arrays = {
    name: np.ascontiguousarray(array, np.float32)
    for name, array in weights.items()
  }
  with paths.atomic_directory(folder) as place:
    hf_weights.write_file(place / _SAFETENSORS, arrays)
    described = {**card, _DIGEST: _digest(place / _SAFETENSORS)}
    for name, content in ((CONFIG, settings), (CARD, described)):
      paths.write_text(place / name, json.dumps(content, indent=2) + "\n")


def _digest(path: paths.PathLike) -> str:
  return hashlib.sha256(paths.read_bytes(path)).hexdigest()


def _read_json(path: paths.PathLike, what: str) -> dict[str, Any]:
  try:
    content = json.loads(paths.read_text(path))
  except (OSError, ValueError) as error:
    raise ValueError(f"{path} cannot be read as {what}: {error}") from error
  if not isinstance(content, dict):
    raise ValueError(f"{path}: expected a JSON object, got {content!r}")
  return content
