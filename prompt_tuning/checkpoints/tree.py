"""Parameter trees as flat dictionaries, and whether a tree fits a model."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from prompt_tuning.types import Params

_MOST_LISTED = 10


def flatten(
  tree: Mapping[str, Any], *, is_leaf: Callable[[Any], bool] | None = None
) -> dict[str, Any]:
  """Returns the leaves of a nested dictionary by "/"-joined path.

  Args:
    tree: The nested dictionary. Empty dictionaries leave no trace.
    is_leaf: Says which dictionaries are leaves.
  """
  flat = {}
  for key, value in tree.items():
    if isinstance(value, Mapping) and not (is_leaf and is_leaf(value)):
      children = flatten(value, is_leaf=is_leaf)
      flat |= {f"{key}/{path}": leaf for path, leaf in children.items()}
    else:
      flat[str(key)] = value
  return flat


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the nested dictionary of a flat one; the inverse of `flatten`."""
  tree: dict[str, Any] = {}
  for path, leaf in flat.items():
    *parents, name = path.split("/")
    node = tree
    for parent in parents:
      node = node.setdefault(parent, {})
    node[name] = leaf
  return tree


def check_tree(loaded: Params, expected: Params, *, source: str) -> None:
  """Checks that loaded weights are exactly those that a model has.

  Args:
    loaded: The nested dictionary of arrays that was read.
    expected: The model's abstract parameters; only paths and shapes count.
    source: Where `loaded` came from, for the message.

  Raises:
    ValueError: If a weight is missing, extra or of another shape. All are
      listed (a few of each kind), because one cause often shows in many.
  """
  have, want = flatten(loaded), flatten(expected)
  missing = [f"{path} {_shape(want[path])}" for path in want.keys() - have]
  extra = [f"{path} {_shape(have[path])}" for path in have.keys() - want]
  misshapen = [
    f"{path} is {_shape(have[path])}, the model has {_shape(want[path])}"
    for path in have.keys() & want.keys()
    if tuple(have[path].shape) != tuple(want[path].shape)
  ]
  if not (missing or extra or misshapen):
    return
  lines = [f"The weights in {source} are not those of the model:"]
  lines += _listed("missing", missing)
  lines += _listed("extra", extra)
  lines += _listed("misshapen", misshapen)
  lines.append(
    "No weight is made up in place of another. Choose the model size that "
    "belongs to this checkpoint" + _hints(have, want) + "."
  )
  raise ValueError("\n".join(lines))


def _shape(leaf: Any) -> str:
  return str(list(leaf.shape))


def _listed(kind: str, items: Sequence[str]) -> list[str]:
  if not items:
    return []
  lines = [f"  {kind} ({len(items)}):"]
  lines += [f"    {item}" for item in sorted(items)[:_MOST_LISTED]]
  if len(items) > _MOST_LISTED:
    lines.append(f"    ... and {len(items) - _MOST_LISTED} more")
  return lines


def _hints(have: Mapping[str, Any], want: Mapping[str, Any]) -> str:
  """Names the settings that a mismatch in names points to."""
  settings = []
  logits = "decoder/logits_dense/kernel"
  if (logits in have) != (logits in want):
    settings.append(f"tie_embeddings = {logits not in have}")
  gate = "encoder/layers_0/mlp/wi_0/kernel"
  if (gate in have) != (gate in want):
    gated = "('gelu', 'linear')" if gate in have else "('relu',)"
    settings.append(f"mlp_activations = {gated}")
  return f"; it looks like {', '.join(settings)}" if settings else ""
