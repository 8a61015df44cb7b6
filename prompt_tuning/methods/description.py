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

_OWN: tuple[type[Any], ...] = (
  *(Adapters, IA3, LabelHead, LayerPrompts, LoRA, PrefixTuning),
)


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
    ValueError: If it is neither one of this package's nor of a module that was
      imported.
  """
  attributes = dict(description)
  name = attributes.pop("name")
  known = {kind.__name__: kind for kind in (*_all(Method), *_OWN)}
  if name not in known:
    raise ValueError(
      f"The method {name!r} is not known here; known are "
      f"{', '.join(sorted(known))}. One of your own is known once its module "
      "is imported, such as by a recipe (`import my_package.my_method`)."
    )
  return known[name](**attributes)


def _all(kind: type[Any]) -> list[type[Any]]:
  """Returns the subclasses of a class, and theirs."""
  below = kind.__subclasses__()
  return below + [each for child in below for each in _all(child)]
