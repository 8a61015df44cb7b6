"""Gin settings as T5X takes them on the command line."""

from collections.abc import Sequence

from absl import flags

from prompt_tuning.config.errors import ConfigError

_PREFIXES = ("--gin.", "-gin.")


def define_flags(flag_values: flags.FlagValues = flags.FLAGS) -> None:
  """Defines --gin_file, --gin_bindings and --gin_search_paths.

  Args:
    flag_values: Where to.
  """
  flags.DEFINE_multi_string(
    "gin_file",
    [],
    "A recipe, such as runs/prompt_tune.gin. May be repeated; settings of "
    "later files win.",
    flag_values=flag_values,
  )
  flags.DEFINE_multi_string(
    "gin_bindings",
    [],
    "A setting NAME=VALUE, read after all files. May be repeated. "
    "--gin.NAME=VALUE means the same.",
    flag_values=flag_values,
  )
  flags.DEFINE_list(
    "gin_search_paths",
    ["."],
    "Folders to look for recipes in, with commas between them. The recipes "
    "of this project are always found.",
    flag_values=flag_values,
  )


def rewrite_gin_args(argv: Sequence[str]) -> list[str]:
  """Turns --gin.NAME=VALUE into the flag --gin_bindings=NAME=VALUE.

  Meant as `absl.app.run(main, flags_parser=...)`'s first step, since absl knows
  no flags whose names are made up by the user. What follows a bare `--` stays.

  Args:
    argv: The command line, with the program's name in front or not.

  Returns:
    A command line of the same length.

  Raises:
    ConfigError: If --gin.NAME comes without a value.
  """
  rewritten = []
  for index, argument in enumerate(argv):
    if argument == "--":
      return [*rewritten, *argv[index:]]
    prefix = next((p for p in _PREFIXES if argument.startswith(p)), None)
    if prefix is not None:
      binding = argument[len(prefix) :]
      if "=" not in binding:
        raise ConfigError(
          f"{argument}: the value is missing; write {argument}=VALUE, with "
          "no space around the equals sign."
        )
      argument = f"--gin_bindings={binding}"
    rewritten.append(argument)
  return rewritten


def parse_flags(argv: Sequence[str]) -> list[str]:
  """Parses a command line that may hold --gin.NAME=VALUE.

  For `absl.app.run(main, flags_parser=parse_flags)`.

  Returns:
    The arguments that are no flags, the program's name in front.
  """
  return flags.FLAGS(rewrite_gin_args(argv))
