"""What the names in recipes and on the command line stand for.

Recipes import the modules that they configure, so the library itself never
imports gin or decorates anything: a function or class becomes configurable when
somebody first names it ("dynamic registration" in gin's words).
"""

import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import gin
from gin import config as gin_config

from prompt_tuning.config.errors import (
  ConfigError,
  UnknownNameError,
  did_you_mean,
)

_PACKAGE = "prompt_tuning"
_DYNAMIC_REGISTRATION = "__gin__.dynamic_registration"

Symbols = dict[str, Any]
"""The modules that a file has imported, by the name they have there."""


def _canonical_name(target: Callable[..., Any]) -> str:
  """One full, importable name for an object, however a file reached it."""
  modules = target.__module__.split(".")
  # Functions of optax live in optax._src.alias, but are known as optax.adamw.
  if any(part.startswith("_") for part in modules):
    for length in range(1, len(modules)):
      module = importlib.import_module(".".join(modules[:length]))
      if getattr(module, target.__qualname__, None) is target:
        return f"{module.__name__}.{target.__qualname__}"
  return f"{target.__module__}.{target.__qualname__}"


def register(target: Callable[..., Any]) -> str:
  """Makes a function or class configurable; returns its full name."""
  known = gin_config._inverse_lookup(target)
  if known is not None:
    return known.selector
  module, name = _canonical_name(target).rsplit(".", 1)
  gin.external_configurable(target, name=name, module=module)
  return f"{module}.{name}"


def _attribute(root: Any, path: list[str], root_name: str) -> Any:
  target, reached = root, root_name
  for part in path:
    if not hasattr(target, part):
      public = [name for name in dir(target) if not name.startswith("_")]
      raise ConfigError(
        f"{reached} has no {part!r}.{did_you_mean(part, public)}"
      )
    target, reached = getattr(target, part), f"{reached}.{part}"
  if not callable(target) or not hasattr(target, "__qualname__"):
    raise ConfigError(
      f"{reached} is a {type(target).__name__}; only functions and classes "
      "can be configured."
    )
  return target


def import_module(module: str, *, alias: str | None, is_from: bool) -> Symbols:
  """Imports as a recipe's statement asks; returns the name that it defines.

  Raises:
    ImportError: If there is no such module.
  """
  if module == _DYNAMIC_REGISTRATION:
    return {}  # Every file is read in this mode.
  imported = importlib.import_module(module)
  if alias or is_from:
    return {alias or module.rsplit(".", 1)[-1]: imported}
  top = module.split(".")[0]
  return {top: importlib.import_module(top)}


def resolve_in_file(name: str, symbols: Mapping[str, Any]) -> str:
  """Returns the full name of what a file calls `name`, and registers it."""
  first, *rest = name.split(".")
  if first not in symbols:
    imported = ", ".join(sorted(symbols)) or "none"
    raise ConfigError(
      f"{name!r}: {first!r} is not imported in this file (imported: "
      f"{imported}).{did_you_mean(first, symbols)}"
    )
  return register(_attribute(symbols[first], rest, first))


class KnownNames:
  """Every configurable that has been named so far, for the command line."""

  def __init__(self):
    self._configurables: set[str] = set()
    self._symbols: Symbols = {}

  def add(self, selector: str) -> str:
    """Notes a full name."""
    self._configurables.add(selector)
    return selector

  def add_symbols(self, symbols: Symbols) -> None:
    """Notes imported modules."""
    self._symbols.update(symbols)

  def resolve(self, name: str) -> str:
    """Returns the full name of what a user calls `name`.

    Tried in turn: the end of a configurable's full name ("adafactor"), a path
    from a module that a recipe imports ("optimizers.adafactor"), a full path
    within this package.

    Raises:
      ConfigError: If nothing, or more than one thing, is called so.
    """
    matches = [
      selector
      for selector in sorted(self._configurables)
      if selector == name or selector.endswith(f".{name}")
    ]
    if len(matches) == 1:
      return matches[0]
    if matches:
      raise ConfigError(
        f"{name!r} is ambiguous; write one of {', '.join(matches)}."
      )
    first, *rest = name.split(".")
    if first in self._symbols and rest:
      target = _attribute(self._symbols[first], rest, first)
    elif first == _PACKAGE and rest:
      target = _attribute(*_import_longest(name))
    else:
      raise UnknownNameError(
        f"nothing called {name!r} can be configured."
        f"{did_you_mean(name, self._configurables | self._within_reach())}"
      )
    return self.add(register(target))

  def _within_reach(self) -> set[str]:
    """What else the imported modules hold."""
    return {
      f"{module_name}.{name}"
      for module_name, module in self._symbols.items()
      for name, member in vars(module).items()
      if inspect.isfunction(member) or inspect.isclass(member)
    }


def _import_longest(name: str) -> tuple[Any, list[str], str]:
  """Splits a full path into its module, the path in it, and its name."""
  parts = name.split(".")
  module, length = importlib.import_module(parts[0]), 1
  for length in range(2, len(parts) + 1):
    try:
      module = importlib.import_module(".".join(parts[:length]))
    except ModuleNotFoundError:
      break
  else:
    length += 1
  return module, parts[length - 1 :], module.__name__


def parameters(selector: str) -> dict[str, inspect.Parameter]:
  """Returns the parameters of a configurable by name, in order."""
  target = gin_config._REGISTRY[selector].wrapped
  try:
    found = dict(inspect.signature(target).parameters)
  except ValueError:  # Some built-in functions do not tell.
    return {}
  if any(base.__module__.startswith("flax.") for base in _bases(target)):
    # Flax fills these in itself.
    found.pop("parent", None)
    found.pop("name", None)
  return found


def _bases(target: Any) -> tuple[type, ...]:
  return inspect.getmro(target) if inspect.isclass(target) else ()


def check_parameter(selector: str, parameter: str) -> None:
  """Raises ConfigError unless the configurable has the parameter."""
  known = parameters(selector)
  kinds = {p.kind for p in known.values()}
  if not known or parameter in known or inspect.Parameter.VAR_KEYWORD in kinds:
    return
  raise ConfigError(
    f"{selector} has no parameter {parameter!r}."
    f"{did_you_mean(parameter, known)} It has: {', '.join(known)}."
  )


def module_of(selector: str) -> str:
  """Returns the module to import for a configurable."""
  qualified = gin_config._REGISTRY[selector].wrapped.__qualname__
  return selector.removesuffix(f".{qualified}")
