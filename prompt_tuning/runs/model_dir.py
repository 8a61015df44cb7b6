"""MODEL_DIR: whose it is, and what stands there besides checkpoints."""

import json
from collections.abc import Mapping

import jax

from prompt_tuning import paths
from prompt_tuning.train.run_identity import RunIdentity

_RUN_FILE = "run.json"


def is_run(path: paths.PathLike) -> bool:
  """Returns whether a folder is a MODEL_DIR, or a checkpoint in one."""
  place = paths.as_path(path)
  folder = place.parent if place.name.startswith("checkpoint_") else place
  return paths.exists(folder / _RUN_FILE)


def check_same_run(model_dir: str, identity: RunIdentity) -> None:
  """Refuses the folder of another run, even if its checkpoints are gone.

  Raises:
    ValueError: Naming what differs.
  """
  if not paths.exists(paths.as_path(model_dir) / _RUN_FILE):
    return
  before = read_identity(model_dir)
  differences = identity.differences(before)
  if differences:
    lines = "".join(f"\n  {line}" for line in differences)
    raise ValueError(
      f"MODEL_DIR {model_dir} holds another run (there -> here):{lines}\nPass "
      "another MODEL_DIR, or undo the changes to resume that run."
    )


def read_identity(model_dir: paths.PathLike) -> RunIdentity:
  """Returns whose the folder is.

  Raises:
    ValueError: If it does not say.
  """
  path = paths.as_path(model_dir) / _RUN_FILE
  if not paths.exists(path):
    raise ValueError(
      f"{model_dir} holds no {_RUN_FILE}, which says of which run it is; give "
      "the MODEL_DIR of a run."
    )
  return RunIdentity.from_json(json.loads(paths.read_text(path)))


def describe_run(
  model_dir: str,
  identity: RunIdentity,
  *,
  table: str,
  counts: Mapping[str, int],
  config_text: str | None,
) -> None:
  """Writes what tells a run from another, and what repeats it.

  Args:
    model_dir: Where to.
    identity: Of the run.
    table: Its parameters.
    counts: How many parameters are `trained` and `frozen`.
    config_text: A recipe that repeats it, if there is one.

  Raises:
    OSError: If the folder cannot be written.
  """
  if jax.process_index() != 0:
    return
  folder = paths.make_writable_dir(model_dir)
  paths.write_text(
    folder / _RUN_FILE, json.dumps(identity.as_json(), indent=2) + "\n"
  )
  paths.write_text(folder / "model-info.txt", table)
  paths.write_text(folder / "parameters.json", json.dumps(counts) + "\n")
  if config_text is not None:
    paths.write_text(folder / "config.gin", config_text)
