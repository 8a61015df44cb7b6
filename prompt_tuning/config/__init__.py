"""Configures a program from gin recipes, and refuses what gin lets pass.

A program defines the flags, parses, and calls its entry point:

  config.define_flags()
  app.run(main, flags_parser=config.parse_flags)

  def main(argv):
    config.parse(
        FLAGS.gin_file, FLAGS.gin_bindings, FLAGS.gin_search_paths,
        entry=run.train,
    )
    config.call(run.train)

What recipes may hold. A recipe is a gin file that imports what it configures
(`from __gin__ import dynamic_registration`, `from prompt_tuning.train import
optimizers`), so the library never imports gin. `include "models/small.gin"` is
looked up in the working folder, in --gin_search_paths, and among the recipes of
this project; it may not depend on where the including file lies. An enum is
given by its value: `layout.place = 'prefix'`.

What may stand after --gin. on the command line: a macro (`TRAIN_STEPS=100`); a
parameter of anything that the recipes mention, by as much of the end of its
name as is unambiguous (`adafactor.decay_rate=0.8`,
`optimizers.adafactor.decay_rate=0.8`); or a parameter of anything in this
package by its full name. References (`PROMPT=@module.Prompt`) follow the same
rule.

What is refused, with the place and the remedy named: a macro that nobody reads,
a required macro or parameter that nobody sets (all are listed), an unquoted
string, an unknown name, a value of the wrong type, a flag that changes nothing
in this run, a missing file, a circle of includes or macros.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import gin
from gin import config as gin_config

from prompt_tuning import paths
from prompt_tuning.config import names
from prompt_tuning.config.binding import bind
from prompt_tuning.config.checks import ignored, problems
from prompt_tuning.config.command_line import (
  define_flags,
  parse_flags,
  rewrite_gin_args,
)
from prompt_tuning.config.errors import (
  ConfigError,
  UnknownNameError,
  did_you_mean,
)
from prompt_tuning.config.graph import Graph, Node
from prompt_tuning.config.reading import Reader, Setting
from prompt_tuning.config.text import recipe_text

_Result = TypeVar("_Result")

__all__ = [
  "ConfigError",
  "arguments",
  "call",
  "config_text",
  "define_flags",
  "did_you_mean",
  "parse",
  "parse_flags",
  "resolved_text",
  "rewrite_gin_args",
  "without_effect",
]


def parse(
  gin_files: Sequence[str],
  bindings: Sequence[str] = (),
  search_paths: Sequence[os.PathLike[str] | str] = ("",),
  *,
  entry: Callable[..., Any] | None = None,
) -> None:
  """Reads recipes and settings, in place of all that was set before.

  Args:
    gin_files: Recipes; later ones win.
    bindings: Settings NAME=VALUE, which win over the recipes.
    search_paths: Folders to look for recipes in, before the project's own.
    entry: The function that the program will call. With it, only what that
      function uses is required, and a setting in `bindings` that it does not
      use is refused.

  Raises:
    ConfigError: If anything is wrong; see the head of this module. What is
      wrong with the settings as a whole is told all at once.
  """
  graph, settings = _read(gin_files, bindings, search_paths, entry)
  faults = problems(graph, settings)
  if faults:
    raise ConfigError("\n".join(dict.fromkeys(faults)))


def without_effect(
  gin_files: Sequence[str],
  bindings: Sequence[str],
  search_paths: Sequence[os.PathLike[str] | str] = ("",),
  *,
  entry: Callable[..., Any],
) -> dict[str, str]:
  """Reads as `parse` does; returns what it would refuse as of no effect.

  Returns:
    By each of `bindings` that changes nothing, the message.

  Raises:
    ConfigError: If anything else is wrong.
  """
  idle: dict[str, str] = {}
  graph, settings = _read(gin_files, bindings, search_paths, entry, idle)
  said = {f"--gin.{binding}": binding for binding in bindings}
  idle |= {
    said[setting.where]: message
    for setting, message in ignored(graph, settings)
    if setting.is_flag
  }
  faults = [
    each for each in problems(graph, settings) if each not in idle.values()
  ]
  if faults:
    raise ConfigError("\n".join(dict.fromkeys(faults)))
  return idle


def _read(
  gin_files: Sequence[str],
  bindings: Sequence[str],
  search_paths: Sequence[os.PathLike[str] | str],
  entry: Callable[..., Any] | None,
  unknown: dict[str, str] | None = None,
) -> tuple[Graph, list[Setting]]:
  """Reads recipes and settings into gin's state.

  Args:
    gin_files: See `parse`, as the others.
    bindings: Settings.
    search_paths: Folders.
    entry: What is called.
    unknown: Takes those of the settings that nothing here has, each with the
      message; None refuses them.
  """
  gin.clear_config()
  reader = Reader([*search_paths, *paths.recipe_roots()])
  if entry is not None:
    reader.register(entry)
  for gin_file in gin_files:
    reader.read_file(gin_file)
  for binding in bindings:
    try:
      reader.read_flag(binding)
    except UnknownNameError as error:
      if unknown is None:
        raise
      unknown[binding] = str(error)
  return Graph(entry), reader.settings


def call(entry: Callable[..., _Result], **supplied: Any) -> _Result:
  """Calls `entry` with its configured arguments.

  Args:
    entry: A function or class, the one given to `parse`.
    **supplied: Arguments that win over what is configured.

  Raises:
    ConfigError: If an argument without a default is in neither; lists all.
  """
  return entry(**arguments(entry, **supplied))


def arguments(entry: Callable[..., Any], **supplied: Any) -> dict[str, Any]:
  """Returns the configured arguments of `entry`; see `call`.

  What is configured later does not change them.
  """
  selector = names.register(entry)
  bound = gin_config._CONFIG.get(("", selector), {})
  missing = Node("", selector, True, {**bound, **supplied}).missing()
  if missing:
    settings = "\n  ".join(f"--gin.{selector}.{name}=..." for name in missing)
    raise ConfigError(
      f"{selector} lacks {', '.join(missing)}; set in a recipe or by\n"
      f"  {settings}"
    )
  # gin's wrapper would do the same, but rewrites every error that comes out.
  configured = gin.get_bindings(entry)
  return {name: bind(x) for name, x in configured.items()} | supplied


def resolved_text(entry: Callable[..., Any] | None = None) -> str:
  """Returns every effective setting, macros resolved, defaults included.

  The text is sorted and depends on nothing but the settings, so it can be
  compared with a committed one. It is itself a recipe.

  Args:
    entry: The function that the program calls; None lists everything set.
  """
  return recipe_text(entry, keep_macros=False)


def config_text(entry: Callable[..., Any] | None = None) -> str:
  """Returns a recipe that repeats the run, for MODEL_DIR/config.gin.

  As `resolved_text`, but with the macros that are read, so that the recipe can
  be run again with another TRAIN_STEPS.
  """
  return recipe_text(entry, keep_macros=True)
