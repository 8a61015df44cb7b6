"""What PEFT tunes inside of the layers of a T5: LoRA, IA3, prefix tuning."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from prompt_tuning import paths
from prompt_tuning.checkpoints.peft import (
  files,
  ia3,
  lora,
  modules,
  prefix_tuning,
)
from prompt_tuning.methods.ia3 import IA3
from prompt_tuning.methods.lora import LoRA
from prompt_tuning.methods.prefix_tuning import PrefixTuning
from prompt_tuning.model import t5
from prompt_tuning.model.config import T5Config
from prompt_tuning.model.method import Method
from prompt_tuning.types import Params

_READERS = {
  lora.KIND: lora.read,
  ia3.KIND: ia3.read,
  prefix_tuning.KIND: prefix_tuning.read,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adapter:
  """What was tuned.

  Attributes:
    method: What it is.
    params: Its parameters, an entry a layer.
    base_model: What the folder calls its backbone.
    card: What this project wrote of it; empty for PEFT's own.
  """

  method: Method
  params: Params
  base_model: str
  card: Mapping[str, Any]


def is_method(settings: Mapping[str, Any]) -> bool:
  """Returns whether `read` reads what a configuration describes."""
  known = settings.get("peft_type") in _READERS
  return known and settings.get("task_type") == files.SEQ2SEQ


def read(folder: paths.PathLike, config: T5Config) -> Adapter:
  """Reads what PEFT tuned, or what was written for it.

  Args:
    folder: Where `save_pretrained` wrote to.
    config: The backbone's shape.

  Raises:
    ValueError: It is an adapter of another kind, of another sort or size of
      model, or uses what has no counterpart here; or it is damaged.
    ImportError: If the weights are in a format whose package is missing.
  """
  source = os.fspath(folder)
  settings = files.read_config(folder)
  kind = settings.get("peft_type")
  if kind not in _READERS:
    raise ValueError(
      f"{source}: peft_type is {kind!r}; of what PEFT tunes inside of a T5, "
      f"{', '.join(_READERS)} are read"
    )
  files.check_task(settings, source)
  weights = {
    name: np.asarray(array, np.float32)
    for name, array in files.open_weights(folder).items()
  }
  method, flat = _READERS[kind](settings, weights, config, source)
  if not flat:
    raise ValueError(
      f"{source} holds no weights, so it would change nothing; save it again"
    )
  return Adapter(
    method=method,
    params=_completed(method, flat, config, source),
    base_model=settings.get("base_model_name_or_path") or "",
    card=files.read_card(folder) or {},
  )


def write(
  folder: paths.PathLike,
  method: Method,
  params: Params,
  *,
  config: T5Config,
  base_model: str,
  card: Mapping[str, Any],
) -> None:
  """Writes what was tuned for PEFT to read.

  Args:
    folder: Where to; it appears when it is complete.
    method: What was tuned.
    params: Its parameters, an entry a layer.
    config: The backbone's shape.
    base_model: What `AutoModelForSeq2SeqLM.from_pretrained` takes as backbone.
    card: What this project says of it.

  Raises:
    ValueError: PEFT has no such method, or not in this form; or something else
      was trained with it.
    FileExistsError: The folder exists.
    ImportError: If the package safetensors is missing.
  """
  _check_alone(method, params)
  match method:
    case LoRA():
      settings, weights = lora.write(method, params, config)
    case IA3():
      settings, weights = ia3.write(params, config)
    case PrefixTuning():
      settings, weights = prefix_tuning.write(method, params, config)
    case _:
      raise ValueError(
        f"PEFT has no {type(method).__name__} of a T5; it has LoRA, IA3, "
        "prefix tuning and soft prompts"
      )
  files.write(folder, settings, weights, base_model=base_model, card=card)


def _check_alone(method: Method, params: Params) -> None:
  """Checks that nothing was trained that the adapter would not hold."""
  own = {LoRA: "/lora/", IA3: "/ia3/", PrefixTuning: "prefix/"}
  part = own.get(type(method), "")
  others = [path for path in modules.flat(params) if part not in path]
  if others:
    raise ValueError(
      f"{', '.join(others[:3])} was trained with {type(method).__name__}, and "
      "an adapter of PEFT would not hold it. What merges (LoRA, IA3) goes into "
      "the backbone with it: python -m prompt_tuning.export with TUNED_DIR"
    )


def _completed(
  method: Method, flat: modules.Flat, config: T5Config, source: str
) -> Params:
  """Returns all parameters of a method; what is not tuned changes nothing.

  Raises:
    ValueError: If a weight has another shape than on this backbone.
  """
  fresh = t5.method_params(modules.model(method, config), jax.random.key(0))
  wanted = {path: np.asarray(x) for path, x in modules.flat(fresh).items()}
  wrong = [
    f"{path} {list(array.shape)} and not {list(wanted[path].shape)}"
    for path, array in flat.items()
    if array.shape != wanted[path].shape
  ]
  if wrong:
    raise ValueError(
      f"{source} does not fit this backbone: it holds {'; '.join(wrong[:3])}. "
      "Choose the model and size that it was tuned on"
    )
  # A layer that was left alone is as at the start: LoRA's `up` is 0, a scale 1.
  return traverse_util.unflatten_dict(wanted | flat, sep="/")
