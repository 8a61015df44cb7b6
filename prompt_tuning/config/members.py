"""Several configurations that differ in some settings, from one command line.

`--vary=NAME=[VALUE, ...]` makes a configuration for each value, and for each
combination of values where it is repeated. `--member="NAME FLAGS..."` names one
with recipes and settings of its own; each is combined with what is varied.
"""

import dataclasses
import itertools
import re
import shlex
from collections.abc import Sequence

from absl import flags

from prompt_tuning.config.command_line import rewrite_gin_args
from prompt_tuning.config.errors import ConfigError

_OPENING, _CLOSING = "([{", ")]}"


@dataclasses.dataclass(frozen=True)
class Member:
  """What one configuration has besides what all have.

  Attributes:
    name: Fit for a folder.
    gin_files: Recipes, read after those of all.
    bindings: Settings NAME=VALUE, read after those of all.
  """

  name: str
  gin_files: tuple[str, ...] = ()
  bindings: tuple[str, ...] = ()


def define_flags(flag_values: flags.FlagValues = flags.FLAGS) -> None:
  """Defines --member and --vary.

  Args:
    flag_values: Where to.
  """
  flags.DEFINE_multi_string(
    "member",
    [],
    "A run with settings of its own: its name, then --gin_file=FILE and "
    "--gin.NAME=VALUE as a shell reads them. May be repeated.",
    flag_values=flag_values,
  )
  flags.DEFINE_multi_string(
    "vary",
    [],
    "NAME=[VALUE, ...]: a run for each value, such as RANDOM_SEED=[0, 1, 2]. "
    "May be repeated: then for each combination, and of each --member.",
    flag_values=flag_values,
  )


def members(named: Sequence[str], varied: Sequence[str]) -> list[Member]:
  """Returns the configurations that the flags --member and --vary describe.

  Raises:
    ConfigError: A flag is malformed, two configurations have the same name, or
      there is none.
  """
  bases = [read_member(text) for text in named] or [Member("")]
  choices = [_varied(text) for text in varied]
  result = [
    _combined(base, combination)
    for base in bases
    for combination in itertools.product(*choices)
  ]
  _check_settings(result)
  names = [member.name for member in result]
  twice = sorted({name for name in names if names.count(name) > 1})
  if twice:
    raise ConfigError(
      f"Several runs would be called {', '.join(map(repr, twice))}: each "
      "--member needs a name of its own, and values of --vary must differ in "
      "letters, digits or any of . = + - _."
    )
  if names == [""]:
    raise ConfigError(
      "Nothing says which runs to train: give --vary=NAME=[VALUE, ...], or "
      '--member="NAME --gin.SETTING=VALUE ..." for each.'
    )
  return result


def _check_settings(result: Sequence[Member]) -> None:
  for member in result:
    names = [binding.partition("=")[0].strip() for binding in member.bindings]
    for name in names:
      if names.count(name) > 1:
        raise ConfigError(
          f"{name} is set several times for the run {member.name!r}, by --vary "
          "or --member; set it once."
        )


def read_member(text: str, *, flag: str = "--member=") -> Member:
  """Reads NAME --gin_file=FILE --gin.NAME=VALUE ..., as a shell would.

  Args:
    text: What is read.
    flag: What to call it in errors.

  Raises:
    ConfigError: It is malformed.
  """
  form = f"{flag}{text!r}: expected NAME --gin_file=FILE --gin.NAME=VALUE ..."
  try:
    words = shlex.split(text)
  except ValueError as error:
    raise ConfigError(f"{form}; {error}.") from error
  if (
    not words
    or not re.fullmatch(r"[\w.,=+-]+", words[0])
    or (words[0].startswith(("-", ".")))
  ):
    raise ConfigError(
      f"{form}; a name has letters, digits and any of . , = + - _."
    )
  gin_files, bindings = [], []
  for word in rewrite_gin_args(words[1:]):
    flag, equals, value = word.partition("=")
    match flag:
      case "--gin_file" if equals:
        gin_files.append(value)
      case "--gin_bindings":
        bindings.append(value)
      case _:
        raise ConfigError(f"{form}; got {word!r}.")
  return Member(words[0], tuple(gin_files), tuple(bindings))


def _varied(text: str) -> list[tuple[str, str]]:
  """Returns a setting once with each of its values."""
  name, _, values = text.partition("=")
  values = values.strip()
  if not name or not (values.startswith("[") and values.endswith("]")):
    raise ConfigError(
      f"--vary={text!r}: expected NAME=[VALUE, ...], such as "
      "RANDOM_SEED=[0, 1, 2]."
    )
  elements = _split(values[1:-1])
  if not all(elements):
    raise ConfigError(f"--vary={text!r}: a value is empty.")
  return [(name.strip(), element) for element in elements]


def _split(text: str) -> list[str]:
  """Splits at commas that stand in no bracket and no quotes."""
  elements, depth, quote, start = [], 0, "", 0
  is_escaped = False
  for index, letter in enumerate(text):
    if quote:
      quote = "" if letter == quote and not is_escaped else quote
      is_escaped = letter == "\\" and not is_escaped
    elif letter in "'\"":
      quote = letter
    elif letter in _OPENING:
      depth += 1
    elif letter in _CLOSING:
      depth -= 1
    elif letter == "," and not depth:
      elements.append(text[start:index].strip())
      start = index + 1
  return [*elements, text[start:].strip()]


def _combined(base: Member, combination: Sequence[tuple[str, str]]) -> Member:
  settings = [f"{name}={value}" for name, value in combination]
  named = [re.sub(r"[^\w.=+-]+", "-", each).strip("-") for each in settings]
  return dataclasses.replace(
    base,
    name=",".join([base.name, *named] if base.name else named),
    bindings=(*base.bindings, *settings),
  )
