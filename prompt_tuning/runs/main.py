"""The command line that every main shares: flags, gin, one entry point."""

import logging as std_logging
import os
import shlex
from collections.abc import Callable, Sequence
from typing import Any

from absl import app, flags, logging

from prompt_tuning import config
from prompt_tuning.config.members import Member

FLAGS = flags.FLAGS

# TensorFlow, which only reads text here, reads this when it is imported: it
# would announce at length which devices it does not find.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# A run may be resumed on other hardware, from other folders, for longer, with
# other evaluations; not with another optimizer, prompt or task.
_LEARNED = (
  "prompt_tuning.data.inputs.TaskInputs.",
  "prompt_tuning.model.config.",
  "prompt_tuning.prompts.",
  "prompt_tuning.runs.train.train.loss_normalization",
  "prompt_tuning.runs.train.train.z_loss",
  "prompt_tuning.train.optimizers.",
)
# Where examples lie, which are in the identity by their digest, and what the
# backward pass keeps, which changes what is learned by rounding alone.
_NOT_LEARNED = (
  "prompt_tuning.data.inputs.TaskInputs.cache_dirs",
  "prompt_tuning.data.inputs.TaskInputs.use_cached",
  "prompt_tuning.model.config.T5Config.remat",
)


def define_flags() -> None:
  """Defines the flags that T5X users know, and --dry_run."""
  config.define_flags()
  flags.DEFINE_bool(
    "dry_run",
    False,
    "Print the resolved configuration, the parameters and one step or batch "
    "by shape evaluation, and refuse what shows without weights and folders; "
    "read no weights and write nothing. Of an export, the configuration.",
  )
  flags.DEFINE_string(
    "tfds_data_dir", None, "Where TensorFlow Datasets are, or are put."
  )


def parse(
  entry: Callable[..., Any],
  member: Member | None = None,
  *,
  bindings: Sequence[str] = (),
) -> None:
  """Reads recipes and settings for `entry`.

  Args:
    entry: What will be called.
    member: What is read after the flags that all runs share.
    bindings: Settings that win over all.
  """
  member = Member("") if member is None else member
  if FLAGS.tfds_data_dir:
    # TFDS reads it once, when it is imported, which nothing has done yet.
    os.environ["TFDS_DATA_DIR"] = FLAGS.tfds_data_dir
  config.parse(
    [*FLAGS.gin_file, *member.gin_files],
    [*FLAGS.gin_bindings, *member.bindings, *bindings],
    FLAGS.gin_search_paths,
    entry=entry,
  )


def recipe(member: Member | None = None) -> str:
  """Returns the recipes and settings as they were given, in one line.

  Args:
    member: What was read after the flags that all runs share.
  """
  member = Member("") if member is None else member
  files = [*FLAGS.gin_file, *member.gin_files]
  return shlex.join(
    [
      *(f"--gin_file={name}" for name in files),
      *(f"--gin.{b}" for b in [*FLAGS.gin_bindings, *member.bindings]),
    ]
  )


def call(entry: Callable[..., Any]) -> Any:
  """Calls `entry` as the flags say; with --dry_run, shows its configuration.

  For what is no run, of which shapes would tell nothing.

  Args:
    entry: What is called.

  Returns:
    What it returns; None of a dry run.
  """
  parse(entry)
  if FLAGS.dry_run:
    print(config.resolved_text(entry))
    return None
  return config.call(entry)


def settings(entry: Callable[..., Any]) -> dict[str, str]:
  """Returns the settings that change what is learned, by full name."""
  lines = config.resolved_text(entry).splitlines()
  pairs = (line.split(" = ", 1) for line in lines if " = " in line)
  return {
    name: value
    for name, value in pairs
    if name.startswith(_LEARNED) and name not in _NOT_LEARNED
  }


def dry_run(entry: Callable[..., Any]) -> None:
  """Prints what a run would do.

  Args:
    entry: What would be run; `runs.dry_run` describes it in a function of the
      same name.
  """
  from prompt_tuning.runs import dry_run as dry_run_lib

  print(config.resolved_text(entry))
  describe = getattr(dry_run_lib, entry.__name__)
  print(describe(**config.arguments(entry)))


def start(
  main: Callable[[list[str]], Any], *, verbosity: int = logging.INFO
) -> None:
  """Runs `main` under absl, what a user can mend as one message.

  Args:
    main: Takes the command line without flags.
    verbosity: From which level on messages are shown.
  """

  def guarded(argv: list[str]) -> Any:
    if not logging.level_debug():
      logging.set_verbosity(verbosity)
    logging.get_absl_handler().addFilter(_is_ours)
    try:
      return main(argv)
    except config.ConfigError as error:
      raise SystemExit(f"Configuration error: {error}") from error
    except (ValueError, OSError, FloatingPointError) as error:
      if logging.level_debug():
        # JAX's note about its frames would stand after the message.
        error.__notes__ = []
        raise
      raise SystemExit(
        f"{type(error).__name__}: {error}\n(--verbosity=1 shows where.)"
      ) from error

  app.run(guarded, flags_parser=config.parse_flags)


def _is_ours(record: std_logging.LogRecord) -> bool:
  # Orbax and JAX tell dozens of details a save; only their warnings matter.
  return record.levelno >= std_logging.WARNING or "prompt_tuning" in (
    record.pathname
  )
