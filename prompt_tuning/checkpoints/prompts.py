"""One way to read a soft prompt, whoever wrote it."""

import os

from prompt_tuning import hub, paths
from prompt_tuning.checkpoints.peft import files, soft_prompts
from prompt_tuning.prompts import artifact
from prompt_tuning.prompts.artifact import SavedPrompt


def read(path: paths.PathLike) -> tuple[SavedPrompt, str]:
  """Reads a prompt of this project, one without a card, or a folder of PEFT.

  Args:
    path: A file `.npy`, one of google's `numpy_checkpoints`, a folder, or
      `hf://org/name`, a folder of the hub.

  Returns:
    The prompt, and what its file calls the backbone, if it does.

  Raises:
    ValueError: It is none of these, or broken.
  """
  path = hub.adapter_folder(os.fspath(path))
  if files.is_adapter(path):
    return soft_prompts.read(path)
  if not paths.exists(path) or paths.as_path(path).is_dir():
    raise ValueError(
      f"{os.fspath(path)} is neither the file of a prompt nor a folder with "
      f"{files.CONFIG}; `python -m prompt_tuning.inspect` tells what a path is"
    )
  saved = artifact.load_prompt(path, allow_missing_card=True)
  return saved, saved.card.base_model if saved.card else ""
