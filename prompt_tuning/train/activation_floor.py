"""The least that the backward pass of a frozen T5 needs of the forward pass.

A product with a frozen weight needs nothing kept: its gradient is a product
with the weight alone. What is left are the inputs of what is not linear,
and both sides of attention's own products. With B rows, L encoder positions
(slots included), T targets, M positions that a query sees, A branches of the
feed-forward layer and s bytes a number:

* a layer's residual streams, which its norms read: 2 B L D s in the encoder,
  3 B T D s in the decoder;
* queries, keys, values and the mixed values of each attention: 4 B L H K s; in
  the decoder 6 B T H K s, and 2 B L H K s for what it reads of the encoder;
* the powers of the softmax, float32: 4 B H L M, in the decoder 4 B H T (T + L);
* the branches before their activations: A B L F s and A B T F s;
* the softmax of the logits, float32: 4 B V for each target of those that are
  taken at a time (`losses.TARGETS_AT_ONCE`);
* what the last norms of both stacks read: B (L + T) D s.

Where weights are trained, their products' inputs are kept too: 2 D + F more of
every position of a layer, 3 D + F in the decoder.

With `REMAT = 'layer'` a layer keeps what it starts from, B L D s or B T D s,
and one of each stack at a time has the rest. Over a mesh H, F and V are cut
along its model axis, and L along its sequence axis but for keys and values,
which all positions read.

Dropout's draws, positions and masks are left out.
"""

import dataclasses

from prompt_tuning.model.config import Rematerialization, T5Config
from prompt_tuning.train.losses import TARGETS_AT_ONCE

_FLOAT32 = 4


def activation_floor(
  config: T5Config,
  *,
  batch_size: int,
  inputs_length: int,
  targets_length: int,
  num_compiled: int = 0,
  compiled_length: int = 0,
  trains_weights: bool = False,
  sequence_ways: int = 1,
  model_ways: int = 1,
) -> int:
  """Returns bytes, of one microbatch where a batch is run in several.

  Args:
    config: The model's shape.
    batch_size: B; on a mesh, of one device.
    inputs_length: L, slots and padding included.
    targets_length: T, padding included.
    num_compiled: N, prompts that are computed apart (`PromptAttention.PREFIX`).
    compiled_length: P of these, in tokens.
    trains_weights: Whether matrices are trained, not prompts alone.
    sequence_ways: Devices that L is cut over.
    model_ways: Devices that heads, feed-forward and vocabulary are cut over.
  """
  config = _shard(config, model_ways)
  own = _ceil(inputs_length, sequence_ways)
  rows = _encoder(
    config,
    own,
    read=inputs_length,
    seen=inputs_length + compiled_length,
    trains_weights=trains_weights,
  )
  rows += _decoder(
    config,
    own,
    targets_length,
    seen=own + compiled_length,
    trains_weights=trains_weights,
  )
  apart = _encoder(
    config,
    compiled_length,
    read=compiled_length,
    seen=compiled_length,
    trains_weights=trains_weights,
  )
  apart += _cross(config, compiled_length)
  at_once = min(targets_length, TARGETS_AT_ONCE)
  softmax = at_once * config.vocab_size * _FLOAT32
  return batch_size * (rows + softmax) + num_compiled * apart


def _encoder(
  config: T5Config, length: int, *, read: int, seen: int, trains_weights: bool
) -> int:
  """Returns bytes an example, of `length` of the `read` positions."""
  size, width, branches = _sizes(config)
  numbers = length * (2 * config.embed_dim + 2 * width + branches)
  numbers += read * 2 * width
  if trains_weights:
    numbers += length * (2 * config.embed_dim + config.mlp_dim)
  powers = config.num_heads * length * seen * _FLOAT32
  stream = length * config.embed_dim * size
  layer = numbers * size + powers
  return _stack(config, config.num_encoder_layers, layer, stream) + stream


def _cross(config: T5Config, length: int) -> int:
  """Returns bytes of keys and values of `length` encoder positions."""
  size, width, _ = _sizes(config)
  return config.num_decoder_layers * 2 * length * width * size


def _decoder(
  config: T5Config,
  inputs: int,
  targets: int,
  *,
  seen: int,
  trains_weights: bool,
) -> int:
  size, width, branches = _sizes(config)
  numbers = targets * (3 * config.embed_dim + 6 * width + branches)
  if trains_weights:
    numbers += targets * (3 * config.embed_dim + config.mlp_dim)
  powers = config.num_heads * targets * (targets + seen) * _FLOAT32
  stream = targets * config.embed_dim * size
  layer = numbers * size + powers
  layers = _stack(config, config.num_decoder_layers, layer, stream)
  return layers + _cross(config, inputs) + stream


def _stack(config: T5Config, num_layers: int, layer: int, stream: int) -> int:
  if config.remat is Rematerialization.LAYER:
    return num_layers * stream + layer
  return num_layers * layer


def _shard(config: T5Config, ways: int) -> T5Config:
  """Returns the model of which one device of the model axis has its part."""
  cut = {
    name: _ceil(getattr(config, name), ways)
    for name in ("num_heads", "mlp_dim", "vocab_size")
  }
  return dataclasses.replace(config, **cut)


def _ceil(size: int, ways: int) -> int:
  return -(-size // ways)


def _sizes(config: T5Config) -> tuple[int, int, int]:
  """Returns bytes a number, H * K and A * F."""
  width = config.num_heads * config.head_dim
  branches = len(config.mlp_activations) * config.mlp_dim
  return config.jax_dtype.itemsize, width, branches
