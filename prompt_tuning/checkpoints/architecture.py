"""The shape of a T5, as the shapes of its weights tell it."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from prompt_tuning.model.config import T5Config

Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Architecture:
  """A T5's shape under the names of the macros that set it.

  Attributes:
    sizes: EMBED_DIM and so on, as in gin/sizes.
    num_embeddings: Rows of the embedding table.
    is_gated: Whether the MLP has two input kernels, as from T5 1.1 on.
    is_tied: Whether logits come from the embedding table.
  """

  sizes: Mapping[str, int]
  num_embeddings: int
  is_gated: bool
  is_tied: bool

  def config(self) -> T5Config:
    """Returns the shape as a model takes it.

    Of a gated MLP weights do not tell the activation: it is T5 1.1's.
    """
    sizes: dict[str, Any] = {n.lower(): v for n, v in self.sizes.items()}
    return T5Config(
      vocab_size=self.num_embeddings,
      mlp_activations=("gelu", "linear") if self.is_gated else ("relu",),
      tie_embeddings=self.is_tied,
      **sizes,
    )


def of_shapes(shapes: Mapping[str, Shape]) -> Architecture:
  """Returns the architecture of weights with an entry a layer.

  Args:
    shapes: By T5X's names, "encoder/layers_0/attention/query/kernel" and so on.

  Raises:
    ValueError: They are no T5's.
  """
  mlp = "encoder/layers_0/mlp/"
  gated, plain = f"{mlp}wi_0/kernel", f"{mlp}wi/kernel"
  try:
    num_embeddings, width = shapes["token_embedder/embedding"]
    heads, _ = shapes["encoder/relpos_bias/rel_embedding"]
    _, inner = shapes["encoder/layers_0/attention/query/kernel"]
    _, mlp_dim = shapes[gated] if gated in shapes else shapes[plain]
  except (KeyError, ValueError) as error:
    raise ValueError(
      f"these are no weights of a T5 ({error}); there are "
      f"{sorted(shapes)[:5]} and {max(0, len(shapes) - 5)} more"
    ) from error
  return Architecture(
    sizes={
      "EMBED_DIM": width,
      "NUM_HEADS": heads,
      "HEAD_DIM": inner // heads,
      "MLP_DIM": mlp_dim,
      "NUM_ENCODER_LAYERS": _layers(shapes, "encoder"),
      "NUM_DECODER_LAYERS": _layers(shapes, "decoder"),
    },
    num_embeddings=num_embeddings,
    is_gated=gated in shapes,
    is_tied="decoder/logits_dense/kernel" not in shapes,
  )


def _layers(shapes: Mapping[str, Shape], side: str) -> int:
  prefix = f"{side}/layers_"
  found = {p.split("/")[1] for p in shapes if p.startswith(prefix)}
  return len(found)
