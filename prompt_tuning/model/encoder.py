"""The encoder of T5: inputs read each other, and a compiled prompt."""

from typing import Any

from flax import linen as nn

from prompt_tuning.model.attention import (
  Attention,
  KeysValues,
  RelativePositionBias,
)
from prompt_tuning.model.compiled_prompt import CompiledPrompt, of_rows
from prompt_tuning.model.config import T5Config
from prompt_tuning.model.layers import MLP, dropout, layer_norm
from prompt_tuning.model.method import Method, hooked
from prompt_tuning.model.sharding import ActivationSharding, constrain
from prompt_tuning.model.stack import make_layers, run_layers
from prompt_tuning.types import Array, Bool, Float, Int


class EncoderLayer(nn.Module):
  """Self-attention and feed-forward, each on a normalised residual stream."""

  config: T5Config
  sharding: ActivationSharding | None = None
  method: Method | None = None

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "B L D"],
    prompt: KeysValues | None,
    mask: Bool[Array, "B 1 #L L"],
    bias: Float[Array, "#B H L L"],
    prompt_bias: Float[Array, "#B H L P"] | None,
    rows: Int[Array, " B"] | None,
    slots: Int[Array, "B L"] | None,
    deterministic: bool,
    is_read: bool,
  ) -> tuple[Float[Array, "B L D"], KeysValues | None]:
    """Returns the residual stream after this layer.

    Args:
      x: The residual stream.
      prompt: What all positions see besides `x`.
      mask: Which positions of `x` each of them sees.
      bias: Added to the scores of `x`.
      prompt_bias: Added to the scores of the prompt.
      rows: The prompt that each row reads, of several.
      slots: The slot of each position, below 0 for a token.
      deterministic: Whether nothing is dropped.
      is_read: Whether to return the keys and values of `x` as well.
    """
    config = self.config
    x = hooked(self, x, slots, "residual")
    y = layer_norm(config, "pre_attention_layer_norm")(x)
    attention = Attention(config, self.method, name="attention")
    # Queries stay cut along the sequence, and each of them reads all of it.
    own = constrain(
      self.sharding, attention.keys_values(y), "batch", "context", "heads", "kv"
    )
    y = attention(
      y,
      own,
      mask=mask,
      bias=bias,
      prompt=of_rows(prompt, rows),
      prompt_bias=prompt_bias,
      deterministic=deterministic,
    )
    x = x + dropout(self, y, deterministic=deterministic)
    y = layer_norm(config, "pre_mlp_layer_norm")(x)
    y = MLP(config, self.method, name="mlp")(y, deterministic=deterministic)
    x = x + dropout(self, y, deterministic=deterministic)
    x = constrain(self.sharding, x, "batch", "length", "embed")
    return x, own if is_read else None


class Encoder(nn.Module):
  """A stack of encoder layers with one relative position bias."""

  config: T5Config
  sharding: ActivationSharding | None = None
  method: Method | None = None

  def setup(self):
    """Declares the stack under T5X's names."""
    config = self.config
    self.relpos_bias = RelativePositionBias(config, bidirectional=True)
    self.layers = make_layers(
      EncoderLayer,
      config,
      num_layers=config.num_encoder_layers,
      methods={"__call__": 7},
      static=(5, 6),
      sharding=self.sharding,
      method=self.method,
    )
    self.encoder_norm = layer_norm(config)

  def __call__(
    self,
    x: Float[Array, "B L D"],
    *,
    mask: Bool[Array, "B 1 #L L"],
    positions: Int[Array, "#B L"],
    slots: Int[Array, "B L"] | None = None,
    prompt: CompiledPrompt | None = None,
    deterministic: bool,
    is_read: bool = False,
  ) -> tuple[Float[Array, "B L D"], Any]:
    """Encodes `x`, behind a compiled prompt if there is one.

    Args:
      x: Embeddings.
      mask: Which positions of `x` each of them sees.
      positions: Of `x`; a prompt stands just in front of position 0.
      slots: The slot of each position, below 0 for a token; only a method reads
        it.
      prompt: Seen by all positions.
      deterministic: Whether nothing is dropped.
      is_read: Whether to return what other inputs read of `x`.

    Returns:
      The encoded inputs, and the keys and values of `x` in every layer.
    """
    bias = self.relpos_bias(positions, positions)
    own = prompt_bias = rows = None
    if prompt is not None:
      own, rows = prompt.encoder, prompt.rows
    if own is not None and prompt is not None and prompt.has_positions:
      prompt_bias = self.relpos_bias(positions, prompt.positions)
    x = dropout(self, x, deterministic=deterministic)
    x, read = run_layers(
      self.layers,
      "__call__",
      x,
      own,
      mask,
      bias,
      prompt_bias,
      rows,
      slots,
      deterministic,
      is_read,
    )
    x = self.encoder_norm(x)
    return dropout(self, x, deterministic=deterministic), read
