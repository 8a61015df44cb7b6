"""Prefix tuning as PEFT gives it to a T5: in front of the targets alone.

One array [P, 2 n H K] for n decoder layers, which stand at positions. The
encoder has none, and what PEFT makes for the cross-attention it drops.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from prompt_tuning.checkpoints.peft import files
from prompt_tuning.checkpoints.peft.modules import Flat
from prompt_tuning.methods.prefix_tuning import PrefixTuning, fold
from prompt_tuning.model.config import T5Config
from prompt_tuning.types import Params

KIND = "PREFIX_TUNING"
_WEIGHT = "prompt_embeddings"
_STACKS = ("past",)


def read(
  settings: Mapping[str, Any],
  weights: Mapping[str, np.ndarray],
  config: T5Config,
  source: str,
) -> tuple[PrefixTuning, Flat]:
  """Returns the method and its parameters; see `methods.read`."""
  layers, heads = config.num_decoder_layers, config.num_heads
  expected = {
    "num_layers": layers,
    "num_attention_heads": heads,
    "token_dim": heads * config.head_dim,
    "num_transformer_submodules": 2,
  }
  for name, size in expected.items():
    if settings.get(name) != size:
      raise ValueError(
        f"{source}: {name} in {files.CONFIG} is {settings.get(name)!r}, and of "
        f"a prefix on this backbone it is {size}; choose the size that it was "
        "tuned on"
      )
  length = files.count(settings, "num_virtual_tokens", source)
  shape = (length, 2 * layers * heads * config.head_dim)
  found = {name: array.shape for name, array in weights.items()}
  if found != {_WEIGHT: shape}:
    raise ValueError(
      f"{source}: expected {_WEIGHT!r} {list(shape)} alone, got {found}"
    )
  pairs = weights[_WEIGHT].reshape(length, layers, 2, heads, config.head_dim)
  numbers = np.stack([pairs[:, _pair_of(n, layers)] for n in range(layers)])
  method = PrefixTuning(
    length=length, hidden=None, stacks=_STACKS, has_positions=True
  )
  return method, {"prefix/past/keys_values": numbers.swapaxes(1, 2)}


def write(
  method: PrefixTuning, params: Params, config: T5Config
) -> tuple[dict[str, Any], Flat]:
  """Returns the configuration and the weights; see `methods.write`."""
  if tuple(method.stacks) != _STACKS or not method.has_positions:
    raise ValueError(
      "PEFT gives a T5 no prefixes but those in front of the targets, at "
      f"positions: PREFIX_STACKS = {_STACKS} and PREFIX_HAS_POSITIONS = True; "
      f"these were tuned with {tuple(method.stacks)} and {method.has_positions}"
    )
  _, folded = fold(method, config, params)
  numbers = np.asarray(folded["prefix"]["past"]["keys_values"])
  layers, _, length, heads, width = numbers.shape
  pairs = np.zeros((length, layers, 2, heads, width), np.float32)
  written: dict[int, int] = {}
  for layer, both in enumerate(numbers):
    pair = _pair_of(layer, layers)
    other = written.setdefault(pair, layer)
    if not np.array_equal(numbers[other], both):
      raise ValueError(
        f"PEFT reads one and the same prefix in the layers {other} and {layer} "
        f"of a decoder of {layers} layers, and here they have two; only of an "
        "odd number of layers has each its own"
      )
    pairs[:, pair] = both.swapaxes(0, 1)
  return {
    "peft_type": KIND,
    "num_virtual_tokens": length,
    "token_dim": heads * width,
    "num_transformer_submodules": 2,
    "num_attention_heads": heads,
    "num_layers": layers,
    "encoder_hidden_size": heads * width,
    "prefix_projection": False,
  }, {_WEIGHT: pairs.reshape(length, -1)}


def _pair_of(layer: int, num_layers: int) -> int:
  """Returns which pair of keys and values PEFT gives to a decoder layer.

  It has a pair for each layer, and needs two, for it thinks of the
  cross-attention's too: it lays the pairs end to end twice, deals out two of
  them to each layer, and then drops every second one (observed with peft 0.21).
  So of an even number of layers every second pair is never read.
  """
  return 2 * layer % num_layers
