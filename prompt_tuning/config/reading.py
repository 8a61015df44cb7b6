"""Reads recipes and command-line settings into gin, noting what stood where.

gin's own reader forgets where a setting came from and lets a name that nobody
reads pass in silence. This one uses gin's grammar and registry, statement by
statement, so that every error can name a place and a remedy.
"""

import dataclasses
import io
import os
import re
import tokenize
from collections.abc import Callable, Sequence
from typing import Any

import gin
from gin import config as gin_config
from gin import config_parser

from prompt_tuning import paths
from prompt_tuning.config import files, names, values
from prompt_tuning.config.errors import ConfigError
from prompt_tuning.config.graph import MACRO, is_required

_KEY = re.compile(r"[A-Za-z_]\w*([./][A-Za-z_]\w*)*")
_BARE_VALUE = re.compile(
  r"\s*(?P<key>[\w./]+)\s*=\s*(?P<value>[^'\"\[({@%\s].*)"
)


@dataclasses.dataclass(frozen=True)
class Setting:
  """One statement NAME = VALUE.

  Attributes:
    scope: The scope, or the name of a macro.
    selector: The full name of the configurable, or `MACRO`.
    parameter: The name of its parameter.
    value: The value, which may hold references.
    where: The file and line, or the text of the command line.
    is_flag: Whether it stood on the command line.
  """

  scope: str
  selector: str
  parameter: str
  value: Any
  where: str
  is_flag: bool

  @property
  def key(self) -> tuple[str, str, str]:
    """What is set."""
    return self.scope, self.selector, self.parameter


class _Delegate(gin_config.ParserDelegate):
  """Makes references, keeping the reason why one cannot be made."""

  def __init__(self, resolve: Callable[[str], str]):
    super().__init__()
    self._resolve = resolve
    # gin decorates exceptions that pass through its parser; the plain reason is
    # kept here.
    self.error: ConfigError | None = None

  def configurable_reference(self, scoped_selector: str, evaluate: bool):
    *scopes, selector = scoped_selector.split("/")
    try:
      selector = self._resolve(selector)
    except ConfigError as error:
      self.error = error
      raise
    return gin_config.ConfigurableReference(
      "/".join([*scopes, selector]), evaluate
    )


class Reader:
  """Reads files, then settings of the command line, into gin's global state.

  Attributes:
    settings: Every statement read, in order, overridden ones included.
  """

  def __init__(self, roots: Sequence[os.PathLike[str] | str]):
    self._roots = roots
    self._known = names.KnownNames()
    self._open_files: list[str] = []
    self.settings: list[Setting] = []

  def register(self, entry: Callable[..., Any]) -> None:
    """Makes `entry` known, so that it can be set without being in a file."""
    self._known.add(names.register(entry))

  def read_file(self, name: str) -> None:
    """Reads a recipe and, where they stand, the recipes that it includes."""
    path = str(files.find(name, self._roots))
    if path in self._open_files:
      chain = " -> ".join([*self._open_files, path])
      raise ConfigError(f"Recipes include each other in a circle: {chain}")
    self._open_files.append(path)
    symbols: names.Symbols = {}

    def resolve(selector: str) -> str:
      return self._known.add(names.resolve_in_file(selector, symbols))

    for statement in _statements(
      name, paths.read_text(path), _Delegate(resolve)
    ):
      where = f"{name}:{statement.location.line_num}"
      if isinstance(statement, config_parser.IncludeStatement):
        self.read_file(statement.filename)
      elif isinstance(statement, config_parser.ImportStatement):
        symbols.update(_import(statement, where))
      elif isinstance(statement, config_parser.BindingStatement):
        self._bind(statement[:3], statement.value, where, resolve)
    self._known.add_symbols(symbols)
    self._open_files.pop()

  def read_flag(self, text: str) -> None:
    """Reads one NAME=VALUE of the command line."""
    where = f"--gin.{text}"
    key, equals, value_text = text.partition("=")
    key = key.strip()
    if not equals or not _KEY.fullmatch(key):
      raise ConfigError(
        f"{where}: expected NAME=VALUE, where NAME is a macro such as "
        "TRAIN_STEPS or a parameter such as adafactor.decay_rate."
      )
    delegate = _Delegate(self._known.resolve)
    try:
      value = values.parse_flag_value(key, value_text.strip(), delegate)
    except ConfigError:
      if delegate.error is None:
        raise
      raise ConfigError(f"{where}: {delegate.error}") from None
    key_parts = config_parser.parse_binding_key(key)
    self._bind(key_parts, value, where, self._known.resolve, is_flag=True)

  def _bind(
    self,
    key: tuple[str, str, str],
    value: Any,
    where: str,
    resolve: Callable[[str], str],
    *,
    is_flag: bool = False,
  ) -> None:
    scope, selector, parameter = key
    if parameter:
      try:
        selector = resolve(selector)
        names.check_parameter(selector, parameter)
      except ConfigError as error:
        raise type(error)(f"{where}: {error}") from None
    else:  # A name without a dot is a macro.
      scope = f"{scope}/{selector}" if scope else selector
      selector, parameter = MACRO, "value"
    already = gin_config._CONFIG.get((scope, selector), {})
    if is_required(value) and parameter in already:
      # To require a value is no value: it replaces none that was given before.
      return
    gin.bind_parameter((scope, selector, parameter), value)
    self.settings.append(
      Setting(scope, selector, parameter, value, where, is_flag)
    )


def _import(statement: config_parser.ImportStatement, where: str):
  try:
    return names.import_module(
      statement.module, alias=statement.alias, is_from=statement.is_from
    )
  except ImportError as error:
    raise ConfigError(
      f"{where}: importing {statement.module} failed: {error}"
    ) from error


def _statements(name: str, text: str, delegate: _Delegate):
  """Yields the statements of a file, blaming errors on their lines."""
  line = 1
  try:
    parser: Any = config_parser.ConfigParser(io.StringIO(text), delegate)
    while True:
      line = parser.current_token.start[0]
      statement = parser.parse_statement()
      if statement is None:
        return
      yield statement
  except (SyntaxError, tokenize.TokenError) as error:
    line = getattr(error, "lineno", None) or line
    content = [*text.splitlines(), ""][line - 1]
    bare = _BARE_VALUE.fullmatch(content)
    hint = (
      f" Text needs quotes: {bare['key']} = "
      f"{values.suggestion(bare['value'].strip())}"
      if bare
      else ""
    )
    reason = str(error.args[0]).splitlines()[-1].strip().rstrip(".")
    raise ConfigError(
      f"{name}:{line}: cannot read {content.strip()!r}: {reason}.{hint}"
    ) from error
  except ConfigError:
    if delegate.error is None:
      raise
    raise ConfigError(f"{name}:{line}: {delegate.error}") from None
