"""Frozen matrices in int8, with a float32 scale for each output channel.

A matrix W is kept as integers Q and scales s, so that W is nearly Q s: `kernel`
[I, O] has beside it `kernel_scale` [O], the embedding table [V, D] has
`embedding_scale` [V]. A scale is the largest magnitude of its channel over 127
(absmax, as in Dettmers et al., 2022, of the weights alone): no weight is off by
more than half a scale. Layer norms and position biases stay in float32.

What a matrix is kept as shows in the parameters alone, as it does for bfloat16:
one model takes them all. Scales apply to a product, not to the matrix, so that
what the product reads is the integers. These have no gradient.
"""

import functools
import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from flax import traverse_util
from jax import numpy as jnp

from prompt_tuning.types import Array, Float, Int, Params

INT8 = "int8"
_LARGEST = 127
# The axis that all values of one scale lie along, layers stacked or not.
_REDUCED = {
  re.compile(r"(encoder|decoder)/.*kernel"): -2,
  re.compile(r"token_embedder/embedding"): -1,
}
_BLOCK_VALUES = 2**20


def scale_path(path: str) -> str:
  """Returns where the scales of the matrix at `path` are."""
  return f"{path}_scale"


def reduced_axis(path: str) -> int | None:
  """Returns the axis, from behind, that all values of one scale lie along.

  Args:
    path: Of a parameter, joined by "/".

  Returns:
    None for what is no matrix.
  """
  for pattern, axis in _REDUCED.items():
    if pattern.fullmatch(path):
      return axis
  return None


def quantize(
  matrix: Float[np.ndarray, "I O"], *, axis: int
) -> tuple[Int[np.ndarray, "I O"], Float[np.ndarray, " C"]]:
  """Returns a matrix as int8, and its scales.

  It is taken in blocks of rows: what it needs besides its result is small.

  Args:
    matrix: Of any floating point type.
    axis: The axis that values of one scale lie along.

  Raises:
    ValueError: If a weight is not finite.
  """
  rows = max(1, _BLOCK_VALUES // max(1, matrix.shape[1]))
  blocks = [
    slice(start, start + rows) for start in range(0, matrix.shape[0], rows)
  ]
  largest = [
    np.max(np.abs(matrix[block].astype(np.float32)), axis=axis)
    for block in blocks
  ]
  along_rows = axis % matrix.ndim == 0
  absmax = np.max(largest, axis=0) if along_rows else np.concatenate(largest)
  if not np.isfinite(absmax).all():
    raise ValueError("it holds weights that are not finite numbers")
  scales = (absmax / _LARGEST).astype(np.float32)
  # A channel of zeros is zeros at any scale.
  divisors = np.expand_dims(np.where(scales > 0, scales, 1.0), axis)
  values = np.empty(matrix.shape, np.int8)
  for block in blocks:
    own = divisors if along_rows else divisors[block]
    integers = np.rint(matrix[block].astype(np.float32) / own)
    # The scale of a channel of denormal numbers is far from exact.
    values[block] = np.clip(integers, -_LARGEST, _LARGEST)
  return values, scales


def dequantize(values: Any, scales: Any, *, axis: int) -> Any:
  """Returns the float32 matrix that integers and scales stand for."""
  return values.astype(np.float32) * np.expand_dims(scales, axis)


def keep(path: str, weight: np.ndarray, dtype: str) -> dict[str, np.ndarray]:
  """Returns one weight as it is kept, by path.

  Args:
    path: Of the parameter, joined by "/".
    weight: An array of any floating point type.
    dtype: "int8", which keeps what is no matrix in float32, or the type of all.

  Raises:
    ValueError: If a weight that becomes an integer is not finite.
  """
  if dtype != INT8:
    return {path: weight.astype(jnp.dtype(dtype), copy=False)}
  axis = reduced_axis(path)
  if axis is None:
    return {path: weight.astype(np.float32, copy=False)}
  try:
    values, scales = quantize(weight, axis=axis)
  except ValueError as error:
    raise ValueError(f"{path} cannot be kept as int8: {error}.") from error
  return {path: values, scale_path(path): scales}


def quantize_params(params: Params) -> Params:
  """Returns the parameters of a T5 with its matrices as int8.

  Args:
    params: A nested dictionary of arrays, an entry a layer.
  """
  kept: dict[str, Any] = {}
  for path, leaf in _flatten(params).items():
    kept |= keep(path, np.asarray(leaf), INT8)
  return traverse_util.unflatten_dict(kept, sep="/")


def abstract_params(params: Params, dtype: str) -> Params:
  """Returns shapes and types of parameters as they are kept.

  Args:
    params: A nested dictionary of arrays or shapes, layers stacked or not.
    dtype: As in `keep`.
  """
  kept: dict[str, Any] = {}
  for path, leaf in _flatten(params).items():
    axis = reduced_axis(path) if dtype == INT8 else None
    if axis is None:
      other = "float32" if dtype == INT8 else dtype
      kept[path] = jax.ShapeDtypeStruct(leaf.shape, jnp.dtype(other))
    else:
      kept[path] = jax.ShapeDtypeStruct(leaf.shape, jnp.int8)
      shape = _without(leaf.shape, axis)
      kept[scale_path(path)] = jax.ShapeDtypeStruct(shape, jnp.float32)
  return traverse_util.unflatten_dict(kept, sep="/")


def with_scale_axes(axes: Params) -> Params:
  """Returns logical axes with those of the scales that matrices may have.

  Args:
    axes: A nested dictionary of tuples of names.
  """
  flat = _flatten(axes)
  scales = {
    scale_path(path): _without(names, axis)
    for path, names in flat.items()
    if (axis := reduced_axis(path)) is not None
  }
  return traverse_util.unflatten_dict(flat | scales, sep="/")


def float_table(embedder: Params) -> Any:
  """Returns the embedding table [V, D] in floating point.

  Args:
    embedder: The parameters `token_embedder`.
  """
  table = embedder["embedding"]
  if table.dtype != jnp.int8:
    return table
  return dequantize(table, embedder[scale_path("embedding")], axis=-1)


def scales_of(module: nn.Module, name: str, matrix: Array) -> Array | None:
  """Returns the scales of a module's matrix; None if it is floating point.

  Args:
    module: Whose parameter it is.
    name: The parameter's name.
    matrix: Its value.

  Raises:
    ValueError: If the scales of an int8 matrix are missing.
  """
  if matrix.dtype != jnp.int8:
    return None
  scales = module.get_variable("params", scale_path(name))
  if scales is None:
    where = "/".join([*module.path, name])
    raise ValueError(
      f"Parameter {where} is int8, but {scale_path(where)} is missing, without "
      "which it means nothing; make both with `quantization.quantize_params`."
    )
  return scales


def product(
  x: Float[Array, "*shape I"],
  matrix: Array,
  scales: Float[Array, " O"] | None,
  *,
  dtype: jnp.dtype,
) -> Float[Array, "*shape O"]:
  """Returns `x` times a matrix [I, O].

  Args:
    x: The activations.
    matrix: In floating point, or int8.
    scales: Of an int8 matrix.
    dtype: The type in which the product is taken, and of the result.
  """
  if scales is None:
    return x.astype(dtype) @ matrix.astype(dtype)

  return _scaled_product(dtype, x, matrix, scales)


# A converted matrix must not outlive its product: kept for the backward pass,
# or converted ahead of a decoder's loop, all of them are a second backbone, and
# a larger one. So each is converted where it is used, and not before the other
# side of the product is there. XLA's CPU compiler keeps to that in a scan
# alone: of layers in turn it converts all matrices at once.
@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _scaled_product(dtype, x, matrix, scales):
  x, matrix = jax.lax.optimization_barrier((x, matrix))
  y = x.astype(dtype) @ matrix.astype(dtype)
  return (y.astype(jnp.float32) * scales).astype(dtype)


def _product_forward(dtype, x, matrix, scales):
  # Of `x`, its type alone.
  kept = matrix, scales, jnp.zeros((), x.dtype)
  return _scaled_product(dtype, x, matrix, scales), kept


def _product_backward(dtype, kept, gradient):
  matrix, scales, like = kept
  gradient, matrix = jax.lax.optimization_barrier((gradient, matrix))
  scaled = (gradient.astype(jnp.float32) * scales).astype(dtype)
  of_x = scaled @ matrix.astype(dtype).T
  return of_x.astype(like.dtype), None, None


_scaled_product.defvjp(_product_forward, _product_backward)


def _without(items: tuple[Any, ...], axis: int) -> tuple[Any, ...]:
  gone = axis % len(items)
  return items[:gone] + items[gone + 1 :]


def _flatten(params: Mapping[str, Any]) -> dict[str, Any]:
  return dict(traverse_util.flatten_dict(params, sep="/"))
