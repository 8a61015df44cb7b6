"""Functions that a configuration hands over without calling them.

gin gives such a function its arguments when it is called, from whatever is
configured by then. Where several configurations are read one after another, as
for the runs of one job, that is the last of them.
"""

import dataclasses
import functools
from typing import Any

import gin
from gin import config as gin_config


def bind(value: Any) -> Any:
  """Returns a configured value that what is configured later leaves alone.

  Args:
    value: What gin made of a setting. In lists, tuples, dictionaries and
      attributes of dataclasses, configurable functions are given the arguments
      that are configured now.
  """
  if isinstance(value, dict):
    return {key: bind(each) for key, each in value.items()}
  if type(value) in (list, tuple):
    return type(value)(bind(each) for each in value)
  if dataclasses.is_dataclass(value) and not isinstance(value, type):
    return _bind_attributes(value)
  known = gin_config._inverse_lookup(value) if callable(value) else None
  if known is None or value is not known.wrapper:
    return value
  arguments = {name: bind(x) for name, x in gin.get_bindings(value).items()}
  if not arguments:
    return known.wrapped
  return functools.partial(known.wrapped, **arguments)


def _bind_attributes(value: Any) -> Any:
  changed = {}
  for field in dataclasses.fields(value):
    before = getattr(value, field.name)
    after = bind(before)
    if field.init and after is not before and _is_other(before, after):
      changed[field.name] = after
  return dataclasses.replace(value, **changed) if changed else value


def _is_other(before: Any, after: Any) -> bool:
  """Says whether anything in a value was bound: containers are always new."""
  if isinstance(before, dict):
    return any(_is_other(before[key], after[key]) for key in before)
  if type(before) in (list, tuple):
    return any(map(_is_other, before, after))
  return before is not after
