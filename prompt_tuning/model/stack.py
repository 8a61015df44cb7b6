"""A stack of layers, one after another or in a scan.

A scanned stack is compiled once whatever its depth, which is what a large model
wants; its parameters hold all layers in one array, the layer axis first
(`stack_layers`). A small model is faster one layer after another.

What differs from layer to layer besides the parameters is a tuple with an entry
a layer, or, scanned, one array with the layer axis second: the batch stays in
front.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from flax import linen as nn

from prompt_tuning.model.config import Rematerialization, T5Config
from prompt_tuning.types import Params

_STACKS = ("encoder", "decoder")
SCANNED = "layers"
"""Where in a stack's parameters those of scanned layers are."""
_LAYER = re.compile(r"layers_(\d+)")
_LAYER_PATH = re.compile(r"(encoder|decoder)/layers_(\d+)/(.+)")
_STACKED_PATH = re.compile(r"(encoder|decoder)/layers/(.+)")
_LAYER_AXIS = 1


def make_layers(
  layer: type[nn.Module],
  config: T5Config,
  *,
  num_layers: int,
  methods: Mapping[str, int],
  static: Sequence[int] = (),
  **attributes: Any,
) -> Any:
  """Returns the layers of a stack, to be assigned to `layers` in `setup`.

  Args:
    layer: Its methods take what runs through the stack, what is the layer's
      own, and what all share; they return the first two.
    config: Says whether the stack is scanned, and whether `__call__` is
      computed anew in the backward pass.
    num_layers: Depth.
    methods: Of each method that is run, how many arguments all layers share.
    static: Positions of the shared arguments of `__call__` that are no arrays.
    **attributes: Of each layer, besides `config`.
  """
  if config.remat is Rematerialization.LAYER:
    layer = nn.remat(
      layer,
      policy=jax.checkpoint_policies.nothing_saveable,
      # The module and the two arguments before the shared ones.
      static_argnums=tuple(3 + position for position in static),
      prevent_cse=not config.scan_layers,
    )
  if not config.scan_layers:
    return [layer(config, **attributes) for _ in range(num_layers)]
  scanned = nn.scan(
    layer,
    methods={
      method: {
        "variable_axes": {"params": 0},
        "split_rngs": {"params": True, "dropout": True},
        "in_axes": (_LAYER_AXIS, *[nn.broadcast] * num_shared),
        "out_axes": _LAYER_AXIS,
        "length": num_layers,
        "metadata_params": {nn.PARTITION_NAME: SCANNED},
      }
      for method, num_shared in methods.items()
    },
  )
  return scanned(config, **attributes)


def run_layers(
  layers: Any, method: str, carry: Any, own: Any, *shared: Any
) -> tuple[Any, Any]:
  """Runs a method of every layer of a stack.

  Args:
    layers: What `make_layers` returned.
    method: One of its methods.
    carry: What runs through the stack.
    own: What each layer has for itself; None for nothing.
    *shared: What all layers share.

  Returns:
    What came out at the top, and what each layer returned for itself.
  """
  if not isinstance(layers, Sequence):
    return getattr(layers, method)(carry, own, *shared)
  returned = []
  for index, layer in enumerate(layers):
    mine = None if own is None else own[index]
    carry, value = getattr(layer, method)(carry, mine, *shared)
    returned.append(value)
  return carry, tuple(returned)


def stack_layers(params: Params) -> Params:
  """Returns the parameters of a T5 as its scanned stacks take them.

  Args:
    params: With `encoder/layers_0`, `encoder/layers_1` and so on, or only some
      of each layer's, or of one stack's.
  """
  params = dict(params)
  for name in _STACKS:
    layers, rest = _split(params.get(name, {}))
    if not layers:
      continue
    params[name] = {
      **rest,
      SCANNED: jax.tree.map(lambda *each: np.stack(each), *layers),
    }
  return params


def unstack_layers(params: Params) -> Params:
  """Reverses `stack_layers`; other parameters come back as they are."""
  params = dict(params)
  for name in _STACKS:
    stack = dict(params.get(name, {}))
    if SCANNED not in stack:
      continue
    stacked = stack.pop(SCANNED)
    num_layers = len(jax.tree.leaves(stacked)[0])
    for index in range(num_layers):
      stack[f"{SCANNED}_{index}"] = jax.tree.map(
        lambda leaf, index=index: leaf[index], stacked
      )
    params[name] = stack
  return params


def unstack_leaves(
  leaves: Iterable[tuple[str, Any]],
) -> Iterator[tuple[str, Any]]:
  """Yields what `unstack_layers` returns, by path, one array at a time."""
  for path, array in leaves:
    match = _STACKED_PATH.fullmatch(path)
    if match is None:
      yield path, array
      continue
    for index, layer in enumerate(array):
      yield f"{match[1]}/{SCANNED}_{index}/{match[2]}", layer


def stacked_place(path: str) -> tuple[str, int] | None:
  """Returns where a layer's parameter stands in stacked ones: path and index.

  Args:
    path: Joined by "/".

  Returns:
    None for a parameter that belongs to no layer.
  """
  match = _LAYER_PATH.fullmatch(path)
  if match is None:
    return None
  return f"{match[1]}/{SCANNED}/{match[3]}", int(match[2])


def reading_order(arrays: Mapping[str, Any]) -> list[str]:
  """Returns the paths of parameters in the order in which they are best read.

  The largest come first: what reading takes besides the array is then there
  while little else is. Those that differ in the layer alone follow each other:
  one array of a checkpoint may hold them, whose parts are then read once.

  Args:
    arrays: Parameters, or what reads them, by path.
  """

  def rank(path: str) -> tuple[int, str, str]:
    array = arrays[path]
    num_bytes = array.size * array.dtype.itemsize
    return -num_bytes, _LAYER.sub(SCANNED, path), path

  return sorted(arrays, key=rank)


def _split(stack: Params) -> tuple[list[Params], Params]:
  """Returns the layers of a stack in their order, and the rest."""
  numbers = {
    int(match[1]): name for name in stack if (match := _LAYER.fullmatch(name))
  }
  layers = [stack[numbers[index]] for index in sorted(numbers)]
  names = set(numbers.values())
  return layers, {k: v for k, v in stack.items() if k not in names}
