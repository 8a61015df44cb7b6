"""Which checkpoint a path names, and who wrote it."""

import difflib
import enum
import json
import os
import pathlib
import re

from absl import logging

from prompt_tuning import hub, paths
from prompt_tuning.checkpoints import huggingface, orbax_tree, t5x

_STEP = re.compile(r"checkpoint_(\d+)")
# The parts of a checkpoint that Orbax wrote, see `train.checkpoint_files`.
STATE = "state"
_RUN_META = "meta"


class Format(enum.Enum):
  """The forms of checkpoint that can be loaded."""

  T5X = "legacy T5X (msgpack and zarr)"
  T5X_ORBAX = "T5X with Orbax"
  RUN = "a run of this project"
  HUGGING_FACE = "Hugging Face transformers"


def find_checkpoint(path: paths.PathLike) -> pathlib.Path:
  """Returns the checkpoint at a path, or the one to take of several in it.

  Args:
    path: A checkpoint, the file `checkpoint` of a legacy T5X one, a model of
      the hub, `hf://org/name`, or a folder of `checkpoint_<step>`s. Of these
      the best is taken where it is a MODEL_DIR whose run selected one, and the
      latest elsewhere.

  Raises:
    ValueError: If there is none, or it is not told which is the best.
  """
  folder = paths.as_path(hub.model_folder(os.fspath(path)))
  if folder.name == t5x.FILE_NAME and folder.is_file():
    folder = folder.parent
  if not folder.is_dir():
    raise ValueError(
      f"There is no checkpoint at {folder}.{_near_names(folder)}"
    )
  if _format_of(folder) is not None:
    return folder
  steps = [
    int(match[1])
    for match in map(_STEP.fullmatch, paths.list_dir(folder))
    if match
  ]
  if not steps:
    holds = ", ".join(paths.list_dir(folder)[:10]) or "nothing"
    raise ValueError(
      f"{folder} is not a checkpoint and holds no checkpoint_<step>; it holds "
      f"{holds}."
    )
  latest = folder / f"checkpoint_{max(steps)}"
  best = _best_step(latest)
  if best is None or best == max(steps):
    return latest
  if best not in steps:
    raise ValueError(
      f"The best checkpoint of {folder} is that of step {best}, which is not "
      f"there any more; name another one, such as {latest}."
    )
  logging.info("Step %d is the best of %s.", best, folder)
  return folder / f"checkpoint_{best}"


def checkpoint_step(path: paths.PathLike) -> int | None:
  """Returns the step of the checkpoint that is loaded from a path.

  Args:
    path: What `find_checkpoint` takes.

  Returns:
    The step that its folder is named by; None if it is not.

  Raises:
    ValueError: As `find_checkpoint`.
  """
  match = _STEP.fullmatch(find_checkpoint(path).name)
  return int(match[1]) if match else None


def _best_step(checkpoint: pathlib.Path) -> int | None:
  """Returns the step that a run of this project selected, None if none."""
  file = checkpoint / _RUN_META / "metadata"
  if _format_of(checkpoint) is not Format.RUN:
    return None
  try:
    best = json.loads(paths.read_text(file))["content"]["progress"]["best"]
    return None if best is None else int(best["step"])
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise ValueError(f"Checkpoint file {file} is damaged: {error}.") from error


def detect_format(checkpoint: paths.PathLike) -> Format:
  """Returns who wrote a checkpoint.

  Args:
    checkpoint: The folder of one checkpoint.

  Raises:
    ValueError: If it is none of the known forms.
  """
  found = _format_of(paths.as_path(checkpoint))
  if found is None:
    forms = "; ".join(form.value for form in Format)
    raise ValueError(
      f"{os.fspath(checkpoint)} is none of the known forms ({forms}); it may "
      "be incomplete. It holds "
      f"{', '.join(paths.list_dir(checkpoint)[:10]) or 'nothing'}."
    )
  return found


def _format_of(folder: pathlib.Path) -> Format | None:
  if (folder / t5x.FILE_NAME).is_file():
    return Format.T5X
  if orbax_tree.is_tree(folder / STATE):
    is_run = (folder / _RUN_META).is_dir()
    return Format.RUN if is_run else Format.T5X_ORBAX
  if (folder / huggingface.CONFIG).is_file():
    return Format.HUGGING_FACE
  return None


def _near_names(path: pathlib.Path) -> str:
  beside = paths.list_dir(path.parent)
  near = difflib.get_close_matches(path.name, beside, n=5, cutoff=0.5)
  if near:
    return f" Near names in {path.parent}: {', '.join(near)}."
  if not beside:
    return f" {path.parent} does not exist or is empty."
  return f" {path.parent} holds {', '.join(beside[:10])}."
