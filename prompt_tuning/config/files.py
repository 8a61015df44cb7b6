"""Finds recipes by name."""

import os
import pathlib
from collections.abc import Sequence
from typing import Any

from prompt_tuning import paths
from prompt_tuning.config.errors import ConfigError, did_you_mean


def find(name: str, roots: Sequence[os.PathLike[str] | str]) -> Any:
  """Returns the path of the recipe `name`.

  Args:
    name: An absolute path, gs://bucket/recipe.gin, or a path below one of
      `roots`.
    roots: Folders, the first that has the recipe wins.

  Raises:
    ConfigError: If it is in none of them; names the recipes that are near.
  """
  if paths.is_remote(name) or os.path.isabs(name):
    candidates = [paths.as_path(name)]
  else:
    candidates = [paths.as_path(root) / name for root in roots]
  for candidate in candidates:
    if candidate.is_file():
      return candidate
  searched = "".join(f"\n  {candidate}" for candidate in candidates)
  hint = did_you_mean(name, _known(roots), separator="/")
  raise ConfigError(
    f"The recipe {name!r} does not exist.{hint}\nSearched:{searched}"
  )


def _known(roots: Sequence[os.PathLike[str] | str]) -> set[str]:
  """Names below `roots`, but for the working folder: it may be anything."""
  known = set()
  for root in map(pathlib.Path, roots):
    if root.resolve() != pathlib.Path.cwd() and root.is_dir():
      known |= {p.relative_to(root).as_posix() for p in root.rglob("*.gin")}
  return known
