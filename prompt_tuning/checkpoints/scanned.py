"""Layers that were stored stacked in one array, unrolled.

T5X's scalable T5 runs its layers in a scan: `encoder/encoder/...` holds all
layers of the encoder, the layer axis second, attention kernels with their heads
apart, and a relative position bias for every layer.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

_LAYER_AXIS = 1
_BIAS = "relpos_bias"


def unroll(params: Mapping[str, Any], *, source: str) -> dict[str, Any]:
  """Returns parameters with one entry a layer.

  Args:
    params: Parameters in either layout; unscanned ones come back as they are.
    source: Where they came from, for messages.

  Raises:
    ValueError: If layers have different position biases: this T5, like every
      released one, shares one bias among the layers of a stack.
  """
  params = dict(params)
  for stack in ("encoder", "decoder"):
    nested = params.get(stack, {})
    if stack in nested:
      params[stack] = _unroll_stack(nested, stack, source)
  return params


def _unroll_stack(
  nested: Mapping[str, Any], stack: str, source: str
) -> dict[str, Any]:
  layers = dict(nested[stack])
  unrolled = {key: value for key, value in nested.items() if key != stack}
  if _BIAS in layers:
    bias = layers.pop(_BIAS)["rel_embedding"]  # [H, layers, buckets]
    unrolled[_BIAS] = {"rel_embedding": _merge_bias(bias, stack, source)}
  norm = next(key for key in layers if key.endswith("layer_norm"))
  num_layers = layers[norm]["scale"].shape[_LAYER_AXIS]
  for index in range(num_layers):
    unrolled[f"layers_{index}"] = _take_layer(layers, index)
  return unrolled


def _merge_bias(bias: np.ndarray, stack: str, source: str) -> np.ndarray:
  first = np.take(bias, 0, axis=_LAYER_AXIS)
  if not (bias == np.expand_dims(first, _LAYER_AXIS)).all():
    raise ValueError(
      f"{source}: the {bias.shape[_LAYER_AXIS]} layers of the {stack} have "
      "different relative position biases. This T5 shares one bias among "
      "all layers of a stack, as the released models do, so the checkpoint "
      "cannot be used."
    )
  return first


def _take_layer(nested: Mapping[str, Any], index: int) -> dict[str, Any]:
  layer = {}
  for name, value in nested.items():
    if not name.endswith("attention"):
      layer[name] = _map_arrays(
        value, lambda array: np.take(array, index, axis=_LAYER_AXIS)
      )
    else:
      layer[name] = {
        part: {"kernel": _fold_heads(value[part]["kernel"], part, index)}
        for part in value
      }
  return layer


def _map_arrays(nested: Mapping[str, Any], function: Any) -> dict[str, Any]:
  return {
    name: _map_arrays(value, function)
    if isinstance(value, Mapping)
    else function(value)
    for name, value in nested.items()
  }


def _fold_heads(kernel: np.ndarray, part: str, index: int) -> np.ndarray:
  """Returns one layer's kernel with heads and head width in one axis."""
  kernel = np.take(kernel, index, axis=_LAYER_AXIS)
  if part == "out":
    return kernel.reshape(-1, kernel.shape[-1])  # [H, K, D] -> [H * K, D]
  return kernel.reshape(kernel.shape[0], -1)  # [D, H, K] -> [D, H * K]
