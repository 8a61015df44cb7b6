"""What can be wrong with a configuration that parses."""

import inspect
from collections.abc import Iterable, Iterator
from typing import Any

from prompt_tuning.config import graph as graph_lib
from prompt_tuning.config import names, values
from prompt_tuning.config.errors import did_you_mean
from prompt_tuning.config.graph import Graph
from prompt_tuning.config.reading import Setting


def problems(graph: Graph, settings: Iterable[Setting]) -> list[str]:
  """Returns a message for each fault, all of them at once."""
  settings = list(settings)
  return [
    *(message for _, message in ignored(graph, settings)),
    *_missing(graph),
    *_wrong_types(graph, settings),
  ]


def ignored(
  graph: Graph, settings: Iterable[Setting]
) -> Iterator[tuple[Setting, str]]:
  """Macros that no recipe reads, and flags that change nothing in this run.

  gin itself ignores both, so that a mistyped name goes unnoticed.

  Yields:
    Each of them, and what to say of it.
  """
  settings = list(settings)
  read = set(graph.macros)
  for setting in settings:
    read |= graph_lib.macros_in(setting.value)
  for setting in settings:
    is_macro = setting.selector == graph_lib.MACRO
    if is_macro and setting.scope not in read:
      yield (
        setting,
        f"{setting.where}: no recipe reads a macro {setting.scope}."
        f"{did_you_mean(setting.scope, read)} Macros of these recipes: "
        f"{', '.join(sorted(read)) or 'none'}.",
      )
    elif (
      setting.is_flag and (setting.scope, setting.selector) not in graph.used
    ):
      kind = "reads it" if is_macro else f"uses {setting.selector}"
      yield (
        setting,
        f"{setting.where}: has no effect, because nothing in this run {kind}; "
        "remove it, or add the recipe or setting that does.",
      )


def _missing(graph: Graph) -> Iterator[str]:
  """Settings that have to be given and were not."""
  for name, node in sorted(graph.macros.items()):
    if "value" in node.bound and not graph_lib.is_required(node.bound["value"]):
      continue
    readers = graph.readers[name]
    yield (
      f"{name} is required (by {', '.join(readers)}): set it with "
      f"--gin.{name}={_example(graph, readers)} or {name} = ... in a recipe."
    )
  for node in graph.nodes.values():
    unset = node.missing() if node.is_called else []
    unset += [n for n, v in node.bound.items() if graph_lib.is_required(v)]
    for parameter in unset:
      yield (
        f"{node.name}.{parameter} is required: set it with "
        f"--gin.{node.name}.{parameter}="
        f"{_example(graph, [f'{node.name}.{parameter}'])} or in a recipe."
      )


def _example(graph: Graph, readers: list[str]) -> str:
  """A value of the type that the first reader wants, as typed in a shell."""
  name, _, parameter = readers[0].rpartition(".")
  if name not in graph.nodes:
    return "VALUE"
  return values.example(_annotation(graph.nodes[name].selector, parameter))


def _annotation(selector: str, parameter: str) -> Any:
  found = names.parameters(selector).get(parameter)
  empty = inspect.Parameter.empty
  if found is None or found.annotation is empty:
    return Any
  variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
  return Any if found.kind in variadic else found.annotation


def _wrong_types(graph: Graph, settings: list[Setting]) -> Iterator[str]:
  """Values that the parameter's annotation does not allow."""
  where = {setting.key: setting.where for setting in settings}
  for node in graph.nodes.values():
    for parameter, written in node.bound.items():
      value, macro = graph.resolve(written)
      annotation = _annotation(node.selector, parameter)
      if not values.matches(value, annotation):
        key = (node.scope, node.selector, parameter)
        if macro:
          key = (macro, graph_lib.MACRO, "value")
        yield (
          f"{node.name}.{parameter} must be {values.describe(annotation)}, "
          f"got {value!r} ({where.get(key, 'set by a recipe')})."
        )
