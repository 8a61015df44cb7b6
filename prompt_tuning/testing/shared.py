"""Finds optional reference material that lies beside a checkout.

Numbers made by other systems and real data sets are too large, or not ours, to
ship. Tests that need them skip, with the reason, where they are missing.
"""

import os
import pathlib

import pytest

_ENVIRONMENT_VARIABLE = "PROMPT_TUNING_SHARED"


def shared_root() -> pathlib.Path:
  """Returns the folder that may hold `fixtures/` and `data/`.

  `PROMPT_TUNING_SHARED` names it; by default it is `../shared` beside the
  checkout. The folder need not exist.
  """
  override = os.environ.get(_ENVIRONMENT_VARIABLE)
  if override:
    return pathlib.Path(override)
  return pathlib.Path(__file__).resolve().parents[3] / "shared"


def _require(path: pathlib.Path) -> pathlib.Path:
  if not path.exists():
    pytest.skip(
      f"reference material {path.name!r} is not in {path.parent} (set "
      f"{_ENVIRONMENT_VARIABLE} to the folder that holds it)"
    )
  return path


def fixture_path(name: str) -> pathlib.Path:
  """Returns the path of a reference fixture; skips the test if missing."""
  return _require(shared_root() / "fixtures" / name)


def data_path(name: str) -> pathlib.Path:
  """Returns the path of a real data file; skips the test if missing."""
  return _require(shared_root() / "data" / name)
