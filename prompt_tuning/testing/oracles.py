"""Other implementations that tests compare this one with."""

import importlib
import os
from types import ModuleType

import pytest

_ENVIRONMENT_VARIABLE = "PROMPT_TUNING_REQUIRE_ORACLES"


def require(name: str) -> ModuleType:
  """Returns the module `name`, or skips the test if it is not installed.

  At the top of a test module it skips the whole module. Where
  PROMPT_TUNING_REQUIRE_ORACLES is 1, as in CI, a missing module is a failure:
  a comparison that nobody ran shows nothing.

  Args:
    name: An importable module of the extra `oracles`, such as "transformers".

  Raises:
    ImportError: If it is missing and required.
  """
  try:
    return importlib.import_module(name)
  except ImportError as error:
    advice = f"{name} is not installed: pip install -e '.[oracles]'"
    if os.environ.get(_ENVIRONMENT_VARIABLE) == "1":
      raise ImportError(
        f"{advice} ({_ENVIRONMENT_VARIABLE}=1 forbids skipping)"
      ) from error
    pytest.skip(advice, allow_module_level=True)
