"""WARP's head: output embeddings of the answers, trained with the prompt.

Hambardzumyan et al., 2021, sec. 3: of the output layer only the rows of the
verbalizers' tokens are trained. Theirs scores these tokens alone; here they
keep their place among the vocabulary, so that the loss, rank classification and
generation are those of every other run.
"""

import dataclasses
from collections.abc import Callable, Sequence

from flax import linen as nn
from jax import numpy as jnp

from prompt_tuning.model.config import T5Config
from prompt_tuning.model.method import Method, parameter
from prompt_tuning.types import Array, Float


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelHead(Method):
  """Adds to the output embedding of each token that an answer consists of.

  What is added starts at zero, so that training starts from the frozen model;
  C tokens have C D parameters. Train them with `head/.*`, and the prompt with
  them.

  Attributes:
    labels: The answers.
    tokens: Their tokens; `resolved` finds them.

  Raises:
    ValueError: If there is no label.
  """

  labels: Sequence[str]
  tokens: Sequence[int] | None = None

  def __post_init__(self):
    # A configuration file may pass lists, which would not hash.
    object.__setattr__(self, "labels", tuple(self.labels))
    if self.tokens is not None:
      object.__setattr__(self, "tokens", tuple(self.tokens))
    if not self.labels:
      raise ValueError("LabelHead.labels needs at least one answer.")

  def resolved(self, encode: Callable[[str], Sequence[int]]) -> "LabelHead":
    """Returns the head with the tokens of its labels, in their order."""
    tokens = [token for label in self.labels for token in encode(label)]
    return dataclasses.replace(self, tokens=tuple(dict.fromkeys(tokens)))

  def head(self, config: T5Config) -> nn.Module:
    """Returns the module that changes the logits.

    Raises:
      ValueError: If the tokens are not known yet.
    """
    if self.tokens is None:
      raise ValueError(
        "LabelHead knows its labels and not their tokens; call `resolved` with "
        "the vocabulary's `encode` first."
      )
    return OutputRows(config=config, tokens=tuple(self.tokens))


class OutputRows(nn.Module):
  """One parameter, `rows` [C, D], added to rows of the output embeddings.

  Attributes:
    config: The model's shape.
    tokens: Which rows.
  """

  config: T5Config
  tokens: tuple[int, ...]

  @nn.compact
  def __call__(
    self, logits: Float[Array, "B T V"], hidden: Float[Array, "B T D"]
  ) -> Float[Array, "B T V"]:
    """Returns the logits with the rows' products added, float32."""
    rows = parameter(self, "rows", (len(self.tokens), hidden.shape[-1]))
    x = hidden.astype(jnp.float32)
    if self.config.tie_embeddings:
      x = x * self.config.embed_dim**-0.5  # As for the rows they are added to.
    return logits.at[..., jnp.asarray(self.tokens)].add(x @ rows.T)
