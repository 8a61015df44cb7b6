"""Shapes of T5, read from the recipes."""

import pathlib
import re

_FOLDER = pathlib.Path(__file__).resolve().parents[1] / "gin" / "sizes"
_MACRO = re.compile(r"^([A-Z_]+) = (\d+)$", re.MULTILINE)


def read(name: str, *, vocab_size: int) -> dict[str, int]:
  """Returns fields of `T5Config` for a recipe of gin/sizes.

  Args:
    name: Of the recipe, such as "small".
    vocab_size: V, which is not a matter of size there.

  Raises:
    ValueError: If there is no such recipe.
  """
  path = _FOLDER / f"{name}.gin"
  if not path.exists():
    names = ", ".join(sorted(path.stem for path in _FOLDER.glob("*.gin")))
    raise ValueError(f"unknown size {name!r}; there are {names}.")
  macros = _MACRO.findall(path.read_text())
  return {"vocab_size": vocab_size} | {
    macro.lower(): int(value) for macro, value in macros
  }
