"""Tasks that recipes describe: the same one wherever its name is asked for."""

from collections.abc import Callable
from typing import Any


def once(name: str, description: Any, add: Callable[[], Any]) -> str:
  """Adds what a recipe describes, unless it did before.

  Args:
    name: The name of what is described.
    description: All that decides it, comparable.
    add: Makes it known; refuses a name that something else has.

  Returns:
    The name.
  """
  if _DESCRIPTIONS.get(name) != description:
    add()
    _DESCRIPTIONS[name] = description
  return name


_DESCRIPTIONS: dict[str, Any] = {}
