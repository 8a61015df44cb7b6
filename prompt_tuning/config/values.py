"""Values as gin writes them: reading one, and checking its type."""

import collections.abc
import dataclasses
import enum
import math
import re
import tokenize
import types
import typing
from typing import Any

from gin import config as gin_config
from gin import config_parser

from prompt_tuning.config.errors import ConfigError

_LOOKS_LIKE = {"true": "True", "false": "False", "none": "None", "null": "None"}

_EXAMPLES = {
  str: "\"'TEXT'\"",
  bool: "True",
  int: "1",
  float: "0.5",
  dict: "\"{'NAME': 1}\"",
  collections.abc.Mapping: "\"{'NAME': 1}\"",
  tuple: "\"['TEXT']\"",
  collections.abc.Sequence: "\"['TEXT']\"",
}


def parse_flag_value(
  key: str, text: str, delegate: config_parser.ParserDelegate
) -> Any:
  """Reads the value of --gin.KEY=TEXT.

  Raises:
    ConfigError: If it is no gin value, which for most users means that text
      lacks its quotes; shows the command line to write.
  """
  try:
    return _parse(text, delegate)
  except (SyntaxError, tokenize.TokenError) as error:
    fix = suggestion(text)
    why = ""
    if "'" in fix:
      fix, why = f'"{fix}"', " (text needs quotes inside those of the shell)"
    raise ConfigError(
      f"--gin.{key}={text}: {text!r} is not a value; write "
      f"--gin.{key}={fix}{why}."
    ) from error


def _parse(text: str, delegate: config_parser.ParserDelegate) -> Any:
  parser: Any = config_parser.ConfigParser(text, delegate)
  value = parser.parse_value()
  if parser.current_token.type not in (tokenize.NEWLINE, tokenize.ENDMARKER):
    raise SyntaxError("more than one value")
  return value


def suggestion(text: str) -> str:
  """Returns what somebody who wrote `text` as a value should have written."""
  if text.lower() in _LOOKS_LIKE:
    return _LOOKS_LIKE[text.lower()]
  plain = re.sub(r"['\"]", "", text)
  return f"'{plain}'"


def is_literal(value: Any) -> bool:
  """Whether gin can read the value back from its `repr`."""
  if isinstance(value, list | tuple):
    return all(map(is_literal, value))
  if isinstance(value, dict):
    return all(map(is_literal, [*value, *value.values()]))
  if isinstance(value, float):
    return math.isfinite(value)
  # Not a subclass: the `repr` of an enum is no literal.
  return type(value) in (str, bytes, bool, int, type(None))


def example(annotation: Any) -> str:
  """Returns a value of a type, as typed in a shell."""
  for option in (annotation, *typing.get_args(annotation)):
    kind = typing.get_origin(option) or option
    if kind in _EXAMPLES:
      return _EXAMPLES[kind]
  return "VALUE"


def describe(annotation: Any) -> str:
  """Returns a short name for a type."""
  if isinstance(annotation, type) and not typing.get_args(annotation):
    if issubclass(annotation, enum.Enum):
      return "one of " + ", ".join(repr(e.value) for e in annotation)
    return annotation.__name__
  if kinds := _enums(annotation):
    also = ["None"] if type(None) in typing.get_args(annotation) else []
    return " or ".join([*map(describe, kinds), *also])
  return re.sub(r"\b(typing|collections\.abc|types)\.", "", str(annotation))


def matches(value: Any, annotation: Any) -> bool:
  """Whether a literal fits an annotation; True wherever that is not plain.

  Stricter than Python: True is not an int, and 3.0 is not one either; an int is
  a float. Enums are given by their values.
  """
  origin, args = typing.get_origin(annotation), typing.get_args(annotation)
  kind = origin or annotation
  if isinstance(value, gin_config.ConfigurableReference):
    # What a call returns is not known here; a function is no number or text.
    return value.evaluate or kind not in (int, float, bool, str)
  if origin in (typing.Union, types.UnionType):
    # Beside an enum, str stands for the values of its members.
    options = [a for a in args if not (a is str and _enums(annotation))]
    return any(matches(value, option) for option in options)
  if origin is typing.Literal:
    return value in args
  if annotation in (None, type(None)):
    return value is None
  if kind is float:
    return isinstance(value, int | float) and not isinstance(value, bool)
  if kind is int:
    return isinstance(value, int) and not isinstance(value, bool)
  if kind in (str, bool, bytes):
    return isinstance(value, kind)
  if kind is collections.abc.Callable or dataclasses.is_dataclass(kind):
    return False  # These come by reference (@name), no literal is one.
  if isinstance(kind, type) and issubclass(kind, enum.Enum):
    return value in [member.value for member in kind]
  if kind in (dict, collections.abc.Mapping):
    return isinstance(value, dict) and (
      not args
      or all(
        matches(k, args[0]) and matches(v, args[1]) for k, v in value.items()
      )
    )
  if kind in (list, tuple, collections.abc.Sequence):
    # A recipe may use either bracket.
    inner = args[0] if args and args[0] is not ... else Any
    uniform = kind is not tuple or args[1:] == (...,)
    return isinstance(value, list | tuple) and (
      not uniform or all(matches(item, inner) for item in value)
    )
  return True


def _enums(annotation: Any) -> list[type[enum.Enum]]:
  """Returns the enums among the options of a union."""
  return [
    option
    for option in typing.get_args(annotation)
    if isinstance(option, type) and issubclass(option, enum.Enum)
  ]
