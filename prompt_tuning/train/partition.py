"""Splits parameters into the trainable and the frozen part, by path.

Gradients and optimizer state exist for the trainable part alone; the frozen
part is never differentiated, copied or saved. Prompt tuning, model tuning and
pre-training are one trainer with different patterns.
"""

import collections
import dataclasses
import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from prompt_tuning.types import Params

_ROW = "{:<24}{:>16}{:>16}{:>16}{:>12}{:>16}"


@dataclasses.dataclass(frozen=True)
class Partition:
  """Two nested dictionaries that together are all parameters.

  Attributes:
    trainable: What is differentiated, updated and saved.
    frozen: The rest.
  """

  trainable: Params
  frozen: Params


def split(params: Params, patterns: Sequence[str]) -> Partition:
  """Returns the parameters whose path matches a pattern, and the others.

  Args:
    params: A nested dictionary; leaves may be arrays or only shapes.
    patterns: Regular expressions, each matched against the whole path, which is
      joined by "/", such as `prompt/.*`.

  Raises:
    ValueError: If there is no pattern, or one is malformed, matches nothing or
      matches weights kept in int8.
  """
  flat = flatten(params)
  trainable = _matching(flat, patterns)
  return Partition(
    trainable=_nested({k: v for k, v in flat.items() if k in trainable}),
    frozen=_nested({k: v for k, v in flat.items() if k not in trainable}),
  )


def merge(trainable: Params, frozen: Params) -> Params:
  """Returns one tree of both parts, the inverse of `split`.

  Raises:
    ValueError: If a parameter is in both parts.
  """
  one = flatten(trainable)
  other = flatten(frozen)
  twice = sorted(one.keys() & other.keys())
  if twice:
    raise ValueError(
      f"Parameters are both trainable and frozen: {', '.join(twice[:5])}. "
      "Pass the two parts that `split` returned."
    )
  return _nested(other | one)


def describe(params: Params, patterns: Sequence[str]) -> str:
  """Returns a table of parameter counts and bytes, one line per subtree.

  Args:
    params: A nested dictionary of arrays or of their shapes and types.
    patterns: What is trained, as for `split`.

  Raises:
    ValueError: As `split` does.
  """
  flat = flatten(params)
  trainable = _matching(flat, patterns)
  rows: dict[str, np.ndarray] = collections.defaultdict(
    lambda: np.zeros(4, np.int64)
  )
  for path, leaf in flat.items():
    size = int(np.prod(leaf.shape, dtype=np.int64))
    num_bytes = size * np.dtype(leaf.dtype).itemsize
    count = [size, 0] if path in trainable else [0, size]
    row = np.array([*count, size, num_bytes], np.int64)
    rows[path.split("/")[0]] += row
    rows["total"] += row
  total = rows.pop("total")
  lines = [_ROW.format("subtree", "trainable", "frozen", "total", "%", "bytes")]
  lines += [_line(name, row) for name, row in sorted(rows.items())]
  lines.append(_line("total", total))
  lines.append("trainable patterns: " + ", ".join(patterns))
  return "\n".join(lines) + "\n"


def count(params: Params) -> int:
  """Returns how many parameters there are."""
  sizes = (np.prod(x.shape, dtype=np.int64) for x in flatten(params).values())
  return int(sum(sizes))


def flatten(params: Params) -> dict[str, Any]:
  """Returns the leaves of a nested dictionary by their path, joined by "/"."""
  return dict(traverse_util.flatten_dict(params, sep="/"))


def nearest(name: str, known: Iterable[str], *, limit: int = 3) -> list[str]:
  """Returns the known names that look most like `name`, the nearest first."""
  return difflib.get_close_matches(name, list(known), n=limit, cutoff=0.0)


def _line(name: str, row: np.ndarray) -> str:
  trainable, frozen, total, num_bytes = (int(x) for x in row)
  percent = 100.0 * trainable / max(total, 1)
  return _ROW.format(
    name,
    f"{trainable:,}",
    f"{frozen:,}",
    f"{total:,}",
    f"{percent:.4f}",
    f"{num_bytes:,}",
  )


def _matching(flat: Mapping[str, Any], patterns: Sequence[str]) -> set[str]:
  if isinstance(patterns, str):
    raise ValueError(
      f"Trainable patterns must be a list of strings, got {patterns!r}; write "
      f"[{patterns!r}]."
    )
  if not patterns:
    raise ValueError(
      "There is no trainable pattern, so nothing would be trained; pass at "
      r"least one, such as 'prompt/.*' or '.*'."
    )
  matched = set()
  for pattern in patterns:
    paths = {path for path in flat if _compile(pattern).fullmatch(path)}
    if not paths:
      raise ValueError(_no_match(pattern, flat))
    integers = sorted(path for path in paths if _is_integer(flat[path]))
    if integers:
      raise ValueError(
        f"Trainable pattern {pattern!r} matches {len(integers)} weights that "
        f"are kept as {flat[integers[0]].dtype}, such as {integers[0]}: "
        "integers have no gradient. Set BACKBONE_DTYPE to 'float32' or "
        r"'bfloat16' to train them, or TRAINABLE to ('prompt/.*',)."
      )
    matched |= paths
  return matched


def _is_integer(leaf: Any) -> bool:
  return np.issubdtype(np.dtype(leaf.dtype), np.integer)


def _compile(pattern: str) -> re.Pattern[str]:
  try:
    return re.compile(pattern)
  except re.error as error:
    raise ValueError(
      f"Trainable pattern {pattern!r} is no regular expression: {error}."
    ) from error


def _no_match(pattern: str, flat: Mapping[str, Any]) -> str:
  near = nearest(re.sub(r"[\^$\\]|\.\*", "", pattern), flat)
  hint = ""
  if any(_compile(pattern).search(path) for path in flat):
    hint = (
      " It occurs inside paths: a pattern must match a whole path, so add '.*'."
    )
  return (
    f"Trainable pattern {pattern!r} matches none of the {len(flat)} parameter "
    f"paths.{hint} The nearest paths are: {', '.join(near)}."
  )


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
  return traverse_util.unflatten_dict(dict(flat), sep="/")


def path_name(path: jax.tree_util.KeyPath) -> str:
  """Returns a key path of any tree, joined by "/"."""
  return jax.tree_util.keystr(path, simple=True, separator="/")
