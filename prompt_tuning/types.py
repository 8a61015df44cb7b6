"""Array types, the axis letters, and what else the whole project speaks in.

Letters: B batch, L encoder length, T decoder length, P prompt length, N number
of prompts, D model width, V vocabulary (rows of the embedding table), H heads,
K head width, F MLP width.
"""

import enum
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
from jaxtyping import Array, Bool, Float, Int

Params = Mapping[str, Any]
"""A nested dictionary of arrays, keyed as in T5X checkpoints."""

Batch = Mapping[str, Any]
"""Model features by name, see `prompt_tuning.data.features`."""

Initializer = Callable[[jax.Array, tuple[int, ...], Any], jax.Array]
"""`(rng, shape, dtype) -> array`, as in `jax.nn.initializers`."""

PAD_ID = 0
"""The token id of padding, in every T5 vocabulary."""

EOS_ID = 1
"""The token id that ends a sequence, in every T5 vocabulary."""

UNK_ID = 2
"""The token id of what a T5 vocabulary cannot write."""

_Enum = TypeVar("_Enum", bound=enum.Enum)


def enum_member(kind: type[_Enum], value: Any, *, name: str) -> _Enum:
  """Returns the member of an enum that a setting names.

  Code says `Mode.MAX`, a recipe says "max"; whatever takes either passes it
  through here, so that a mistake reads the same everywhere.

  Args:
    kind: The enum.
    value: A member of it, or the value of one.
    name: What the user has set, such as "Selection.mode".

  Raises:
    ValueError: There is no such member; lists those there are.
  """
  try:
    return kind(value)
  except ValueError:
    values = ", ".join(repr(member.value) for member in kind)
    raise ValueError(
      f"{name} must be one of {values}, got {value!r}."
    ) from None


__all__ = [
  "EOS_ID",
  "PAD_ID",
  "Array",
  "Batch",
  "Bool",
  "Float",
  "Initializer",
  "Int",
  "Params",
  "enum_member",
]
