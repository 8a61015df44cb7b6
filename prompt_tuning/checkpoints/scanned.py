"""Layers that were stored stacked in one array, unrolled.

T5X's scalable T5 runs its layers in a scan: `encoder/encoder/...` holds all
layers of the encoder, the layer axis second, attention kernels with their heads
apart, and a relative position bias for every layer.
"""

import re
from collections.abc import Iterable, Iterator

import numpy as np

from prompt_tuning.checkpoints.stored import Stored

_LAYER_AXIS = 1
_STACKED = re.compile(r"(encoder|decoder)/\1/(.+)")
_BIAS = "relpos_bias/rel_embedding"
_ATTENTION = re.compile(r"[^/]*attention/([^/]+)/kernel")


def unroll(
  leaves: Iterable[tuple[str, Stored]], *, source: str
) -> Iterator[tuple[str, Stored]]:
  """Yields parameters with one entry a layer, to be read.

  Args:
    leaves: Paths and arrays in either layout; unscanned ones come back as they
      are.
    source: Where they came from, for messages.

  Raises:
    ValueError: If layers have different position biases: this T5, like every
      released one, shares one bias among the layers of a stack.
  """
  for path, array in leaves:
    match = _STACKED.fullmatch(path)
    if match is None:
      yield path, array
      continue
    stack, name = match.groups()
    if name == _BIAS:
      yield f"{stack}/{name}", _merge_bias(np.asarray(array), stack, source)
      continue
    for index, layer in enumerate(array.layers(axis=_LAYER_AXIS)):
      yield f"{stack}/layers_{index}/{name}", _fold_heads(layer, name)


def _merge_bias(bias: np.ndarray, stack: str, source: str) -> Stored:
  """Returns the bias [H, buckets] of all layers, [H, layers, buckets]."""
  first = np.take(bias, 0, axis=_LAYER_AXIS)
  if not (bias == np.expand_dims(first, _LAYER_AXIS)).all():
    raise ValueError(
      f"{source}: the {bias.shape[_LAYER_AXIS]} layers of the {stack} have "
      "different relative position biases. This T5 shares one bias among "
      "all layers of a stack, as the released models do, so the checkpoint "
      "cannot be used."
    )
  return Stored.of(first)


def _fold_heads(array: Stored, name: str) -> Stored:
  """Returns a kernel of attention with heads and head width in one axis."""
  match = _ATTENTION.fullmatch(name)
  if match is None:
    return array
  # [H, K, D] -> [H * K, D], or [D, H, K] -> [D, H * K].
  return array.joined(0 if match[1] == "out" else 1)
