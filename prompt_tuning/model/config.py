"""The shape of a T5 encoder-decoder."""

import dataclasses
import enum

import jax.numpy as jnp

from prompt_tuning.types import enum_member

_ACTIVATIONS = ("gelu", "relu", "silu", "linear")
_DTYPES = ("float32", "bfloat16")


class Rematerialization(enum.Enum):
  """What of each layer the backward pass computes anew, to keep less.

  Gates and norms are computed anew in any case, which costs next to nothing.
  LAYER keeps the residual stream between layers alone and costs another forward
  pass.
  """

  NONE = "none"
  LAYER = "layer"


@dataclasses.dataclass(frozen=True, kw_only=True)
class T5Config:
  """Everything that decides the parameters and the mathematics of a T5.

  The defaults are T5 1.1 (gated GELU, untied logits), which LM-adapted
  T5, mT5, ByT5 and Flan-T5 share. T5 1.0 has `mlp_activations=("relu",)` and
  `tie_embeddings=True`.

  Attributes:
    vocab_size: V, rows of the embedding table, rows that only pad it included.
      Soft prompts take the ids from here upwards.
    embed_dim: D, width of the residual stream.
    num_heads: H.
    head_dim: K; H * K need not equal D.
    mlp_dim: F, width of the feed-forward layer.
    num_encoder_layers: Number of encoder layers.
    num_decoder_layers: Number of decoder layers.
    mlp_activations: One activation for each input projection of the
      feed-forward layer; their results are multiplied.
    tie_embeddings: Whether logits are taken through the embedding table, scaled
      by D ** -0.5, as T5 1.0 does.
    relative_attention_buckets: Buckets of the relative position bias.
    relative_attention_max_distance: Distance from which all positions share the
      last bucket, in tokens.
    dropout_rate: Probability of dropping, in training.
    dtype: The type of activations, "float32" or "bfloat16". Layer norms,
      attention weights and logits are computed in float32 whatever it is.
    layer_norm_epsilon: Added to the mean square before its root.
    scan_layers: Whether the layers of a stack run in a scan, which compiles a
      deep model as fast as a shallow one; see `model.stack`.
    remat: What of a layer the backward pass computes anew.

  Raises:
    ValueError: If a number is not positive, or an activation, a type or a
      rematerialisation unknown.
  """

  vocab_size: int
  embed_dim: int
  num_heads: int
  head_dim: int
  mlp_dim: int
  num_encoder_layers: int
  num_decoder_layers: int
  mlp_activations: tuple[str, ...] = ("gelu", "linear")
  tie_embeddings: bool = False
  relative_attention_buckets: int = 32
  relative_attention_max_distance: int = 128
  dropout_rate: float = 0.0
  dtype: str = "float32"
  layer_norm_epsilon: float = 1e-6
  scan_layers: bool = False
  remat: Rematerialization | str = Rematerialization.NONE

  def __post_init__(self):
    # A configuration file may pass a list, which would not hash.
    object.__setattr__(self, "mlp_activations", tuple(self.mlp_activations))
    remat = enum_member(Rematerialization, self.remat, name="T5Config.remat")
    object.__setattr__(self, "remat", remat)
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      if field.type is int and (not isinstance(value, int) or value < 1):
        raise ValueError(
          f"T5Config.{field.name} must be a positive integer, got {value!r}."
        )
    for activation in self.mlp_activations:
      if activation not in _ACTIVATIONS:
        raise ValueError(
          f"T5Config.mlp_activations: unknown activation {activation!r}; "
          f"expected one of {', '.join(_ACTIVATIONS)}."
        )
    if not self.mlp_activations:
      raise ValueError("T5Config.mlp_activations needs at least one entry.")
    if not 0.0 <= self.dropout_rate < 1.0:
      raise ValueError(
        "T5Config.dropout_rate must be at least 0 and below 1, got "
        f"{self.dropout_rate!r}."
      )
    if self.dtype not in _DTYPES:
      raise ValueError(
        f"T5Config.dtype must be one of {', '.join(_DTYPES)}, got "
        f"{self.dtype!r}."
      )

  @property
  def jax_dtype(self) -> jnp.dtype:
    """The type of activations as JAX writes it."""
    return jnp.dtype(self.dtype)
