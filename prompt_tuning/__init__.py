"""Prompt tuning of a frozen T5 in JAX.

What stands here is imported when it is first used, so `import prompt_tuning`
costs nothing.
"""

import importlib
import pathlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from prompt_tuning.model.config import T5Config
  from prompt_tuning.model.t5 import T5
  from prompt_tuning.prompts.module import Prompt, PromptBank

__version__ = "0.1.0"

_PUBLIC = {
  "Prompt": "prompt_tuning.prompts.module",
  "PromptBank": "prompt_tuning.prompts.module",
  "T5": "prompt_tuning.model.t5",
  "T5Config": "prompt_tuning.model.config",
}

__all__ = ["T5", "Prompt", "PromptBank", "T5Config", "__version__"]


def __getattr__(name: str) -> Any:
  if name not in _PUBLIC:
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
  return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
  return sorted({*globals(), *_PUBLIC})


def _add_tasks_of_checkout() -> None:
  """Lets `prompt_tuning.tasks` be imported in a checkout.

  The tasks are installed as `prompt_tuning.tasks`, because plain `tasks` is
  anybody's name, but lie beside this package in the repository, because the
  library may not depend on them. The repository's root therefore joins the
  places where subpackages are looked for: at the end, so that nothing there can
  hide a module of the library, and only where there is such a folder.
  """
  here = pathlib.Path(__file__).resolve().parent
  if (here.parent / "tasks").is_dir() and not (here / "tasks").is_dir():
    __path__.append(str(here.parent))


_add_tasks_of_checkout()
