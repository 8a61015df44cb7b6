"""Writes a configuration as a recipe that gives it again."""

import enum
import inspect
from collections.abc import Callable
from typing import Any

from prompt_tuning.config import graph as graph_lib
from prompt_tuning.config import names, values
from prompt_tuning.config.graph import Graph, Node


class _Writer:
  """Puts settings into words; notes the modules they need."""

  def __init__(self, graph: Graph, *, keep_macros: bool):
    self._graph = graph
    self._keep_macros = keep_macros
    self._modules: set[str] = set()

  def recipe(self) -> str:
    """Returns the whole text."""
    blocks = []
    if self._keep_macros:
      blocks.append(
        [
          f"{name} = {self._value(node.bound['value'], name)}"
          for name, node in sorted(self._graph.macros.items())
          if node.bound
        ]
      )
    blocks += [
      self._block(node) for _, node in sorted(self._graph.nodes.items())
    ]
    head = [
      "from __gin__ import dynamic_registration",
      *(f"import {module}" for module in sorted(self._modules)),
    ]
    return "\n\n".join("\n".join(b) for b in [head, *blocks] if b) + "\n"

  def _block(self, node: Node) -> list[str]:
    """Every parameter of a configurable, its defaults included."""
    self._import(node.selector)
    known = names.parameters(node.selector)
    defaults = {
      name: parameter.default
      for name, parameter in known.items()
      if parameter.default is not inspect.Parameter.empty
    }
    lines = []
    for name in sorted({**defaults, **node.bound}):
      key = f"{node.name}.{name}"
      if name in node.bound:
        lines.append(f"{key} = {self._value(node.bound[name], node.scope)}")
      elif values.is_literal(defaults[name]):
        lines.append(f"{key} = {defaults[name]!r}")
      else:
        # The recipe language has no word for it.
        lines.append(f"# {key}: {_describe(defaults[name])} by default")
    return lines or [f"# {node.name} has no settings."]

  def _import(self, selector: str) -> None:
    self._modules.add(names.module_of(selector))

  def _value(self, value: Any, scope: str) -> str:
    if isinstance(value, dict):
      items = (
        f"{self._value(k, scope)}: {self._value(v, scope)}"
        for k, v in value.items()
      )
      return "{" + ", ".join(items) + "}"
    if isinstance(value, list):
      return "[" + ", ".join(self._value(v, scope) for v in value) + "]"
    if isinstance(value, tuple):
      items = [self._value(v, scope) for v in value]
      return "(" + ", ".join(items) + ("," if len(items) == 1 else "") + ")"
    if isinstance(value, graph_lib.Reference):
      return self._reference(value, scope)
    return repr(value)

  def _reference(self, value: graph_lib.Reference, scope: str) -> str:
    if graph_lib.is_required(value):
      return "%gin.REQUIRED"
    if macro := graph_lib.macro_name(value):
      target, last = self._graph.resolve(value)
      if self._keep_macros or not self._graph.macros[macro].bound:
        return f"%{macro}"
      return self._value(target, last)
    selector = graph_lib.full_name(value)
    self._import(selector)
    # Written out where it matters, because a resolved macro no longer sets it.
    used_in = self._graph.scope_of(value, scope) or "/".join(
      value.scopes if scope else []
    )
    prefix = f"{used_in}/" if used_in else ""
    return f"@{prefix}{selector}" + ("()" if value.evaluate else "")


def _describe(default: Any) -> str:
  """A name for a default that is the same in every process."""
  kind = type(default)
  if isinstance(default, enum.Enum):
    return repr(default.value)
  target = default if hasattr(default, "__qualname__") else kind
  name = f"{target.__module__}.{target.__qualname__}"
  return name if target is default else f"a {name}"


def recipe_text(entry: Callable[..., Any] | None, *, keep_macros: bool) -> str:
  """Returns what is set now as a recipe: sorted, and free of file names.

  Args:
    entry: The function that a program calls; None writes everything that has a
      setting.
    keep_macros: Whether parameters refer to macros, or have the values in their
      place.
  """
  return _Writer(Graph(entry), keep_macros=keep_macros).recipe()
