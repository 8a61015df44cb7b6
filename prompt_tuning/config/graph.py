"""Which settings a run uses: what can be reached from its entry point.

A configurable takes effect only where a reference (@name) leads to it, and a
macro only where somebody reads it. Both are known once everything is parsed.
"""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

from gin import config as gin_config
from gin.config import ConfigurableReference as Reference

from prompt_tuning.config import names
from prompt_tuning.config.errors import ConfigError

MACRO = "gin.macro"
"""The selector under which gin files macros; their name is the scope."""

_CONSTANT = "gin.constant"


def bindings() -> dict[tuple[str, str], dict[str, Any]]:
  """What is set: parameters and values by (scope, full name)."""
  return gin_config._CONFIG


def macros_in(value: Any) -> set[str]:
  """Returns the names of the macros that a value reads."""
  found = gin_config.iterate_references(value)
  return {name for name in map(macro_name, found) if name}


def full_name(reference: Reference) -> str:
  """Returns the full name of what a reference leads to."""
  configurable: Any = reference.configurable  # gin leaves it None at first.
  return configurable.selector


def macro_name(value: Any) -> str | None:
  """Returns NAME if `value` is %NAME, else None."""
  if isinstance(value, Reference) and full_name(value) == MACRO:
    return "/".join(value.scopes)
  return None


def is_required(value: Any) -> bool:
  """Whether `value` is %gin.REQUIRED: somebody else has to set it."""
  return (
    isinstance(value, Reference)
    and full_name(value) == _CONSTANT
    and value.scopes == ["gin.REQUIRED"]
  )


@dataclasses.dataclass(frozen=True)
class Node:
  """One configurable, or macro, as it is used in a run.

  Attributes:
    scope: The scope it is used in, "" for none; scopes that nobody sets
      anything in are left out. For a macro, its name.
    selector: Its full name.
    is_called: Whether gin calls it (@name()), rather than hand it over (@name)
      to somebody who may pass it more arguments.
    bound: The parameters that are set, with values as they were written.
  """

  scope: str
  selector: str
  is_called: bool
  bound: dict[str, Any]

  @property
  def name(self) -> str:
    """The full name with its scope, as it stands in a recipe."""
    if self.selector == MACRO:
      return self.scope
    return f"{self.scope}/{self.selector}" if self.scope else self.selector

  def missing(self) -> list[str]:
    """Names of parameters that are neither set nor have a default."""
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [
      name
      for name, parameter in names.parameters(self.selector).items()
      if parameter.default is inspect.Parameter.empty
      and parameter.kind not in variadic
      and name not in self.bound
    ]


class Graph:
  """Everything that is used when `entry` is called.

  Attributes:
    nodes: Configurables by scoped name.
    macros: Macros that are read, by name; those that nobody has set have no
      `value` in `bound`.
    readers: For each macro, the scoped parameters and macros that read it.
    used: Every (scope, full name) whose settings take effect.
  """

  def __init__(self, entry: Callable[..., Any] | None):
    """Follows references.

    Args:
      entry: The function that a program calls; None takes everything that has a
        setting for used.
    """
    self.nodes: dict[str, Node] = {}
    self.macros: dict[str, Node] = {}
    self.readers: dict[str, list[str]] = {}
    self.used: set[tuple[str, str]] = set()
    self._scopes = {
      scope for scope, selector in bindings() if selector != MACRO and scope
    }
    self._seen: set[tuple[str, str, bool]] = set()
    self._open_macros: list[str] = []
    if entry is not None:
      self._visit("", names.register(entry), is_called=False)
      return
    for scope, selector in list(bindings()):
      if selector != MACRO:
        self._visit(scope, selector, is_called=False)

  def scope_of(self, reference: Reference, current: str) -> str:
    """The scope that a reference is used in when met in scope `current`."""
    parts = reference.scopes or (current.split("/") if current else [])
    # Scopes come from macros too; only those with settings make a difference.
    for length in range(len(parts), 0, -1):
      prefix = "/".join(parts[:length])
      if any(s == prefix or s.startswith(prefix + "/") for s in self._scopes):
        return prefix
    return ""

  def _visit(self, scope: str, selector: str, *, is_called: bool) -> None:
    if (scope, selector, is_called) in self._seen:
      return
    self._seen.add((scope, selector, is_called))
    parts = scope.split("/") if scope else []
    bound = {}
    for length in range(len(parts) + 1):
      key = ("/".join(parts[:length]), selector)
      if key in bindings():
        self.used.add(key)
        bound |= bindings()[key]
    node = Node(scope, selector, is_called, bound)
    known = self.nodes.setdefault(node.name, node)
    if is_called and not known.is_called:
      self.nodes[node.name] = node
    # A macro may hand over a function that reads the macro when it is called.
    open_macros, self._open_macros = self._open_macros, []
    for parameter, value in bound.items():
      self._follow(value, scope, f"{node.name}.{parameter}")
    self._open_macros = open_macros

  def _visit_macro(self, name: str, reader: str) -> None:
    readers = self.readers.setdefault(name, [])
    if reader not in readers:
      readers.append(reader)
    if name in self._open_macros:
      circle = " -> ".join([*self._open_macros, name])
      raise ConfigError(f"Macros read each other in a circle: {circle}.")
    if name in self.macros:
      return
    bound = bindings().get((name, MACRO), {})
    self.macros[name] = Node(name, MACRO, True, bound)
    self.used.add((name, MACRO))
    if bound:
      # gin evaluates what stands in a macro in a scope of the macro's name.
      self._open_macros.append(name)
      self._follow(bound["value"], name, name)
      self._open_macros.pop()

  def resolve(self, value: Any) -> tuple[Any, str]:
    """Follows %NAME to what it stands for.

    Returns:
      The value, and the last macro on the way to it; "" if there was none. A
      macro that is not set stands for itself.
    """
    last = ""
    while (name := macro_name(value)) and self.macros[name].bound:
      value, last = self.macros[name].bound["value"], name
    return value, last

  def _follow(self, value: Any, scope: str, reader: str) -> None:
    if isinstance(value, dict):
      for item in [*value, *value.values()]:
        self._follow(item, scope, reader)
    elif isinstance(value, list | tuple):
      for item in value:
        self._follow(item, scope, reader)
    elif name := macro_name(value):
      self._visit_macro(name, reader)
    elif isinstance(value, Reference) and not is_required(value):
      self._visit(
        self.scope_of(value, scope),
        full_name(value),
        is_called=value.evaluate,
      )
