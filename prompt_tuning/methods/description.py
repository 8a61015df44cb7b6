"""What a run writes down of its method, and the method that this describes."""

import dataclasses
import enum
from collections.abc import Mapping
from typing import Any

from prompt_tuning.methods.adapters import Adapters
from prompt_tuning.methods.ia3 import IA3
from prompt_tuning.methods.label_head import LabelHead
from prompt_tuning.methods.layer_prompts import LayerPrompts
from prompt_tuning.methods.lora import LoRA
from prompt_tuning.methods.prefix_tuning import PrefixTuning
from prompt_tuning.model.method import Method

_KNOWN: dict[str, type[Any]] = {
  kind.__name__: kind
  for kind in (Adapters, IA3, LabelHead, LayerPrompts, LoRA, PrefixTuning)
}


def describe(method: Method) -> dict[str, Any]:
  """Returns the name of a method and its attributes, JSON-able.

  Args:
    method: A frozen dataclass.
  """
  plain = {
    field.name: getattr(method, field.name)
    for field in dataclasses.fields(method)  # pyright: ignore
  }
  plain = {
    name: value.value if isinstance(value, enum.Enum) else value
    for name, value in plain.items()
  }
  return {"name": type(method).__name__, **plain}


def described(description: Mapping[str, Any]) -> Method:
  """Returns the method that `describe` described.

  Raises:
    ValueError: If it is none of this package's.
  """
  attributes = dict(description)
  name = attributes.pop("name")
  if name not in _KNOWN:
    raise ValueError(
      f"The method {name!r} is not known here; known are "
      f"{', '.join(sorted(_KNOWN))}."
    )
  return _KNOWN[name](**attributes)
