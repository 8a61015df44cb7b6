"""Array types and the axis letters that the whole project uses.

Letters: B batch, L encoder length, T decoder length, P prompt length, N number
of prompts, D model width, V vocabulary (rows of the embedding table), H heads,
K head width, F MLP width.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
from jaxtyping import Array, Bool, Float, Int

Params = Mapping[str, Any]
"""A nested dictionary of arrays, keyed as in T5X checkpoints."""

Batch = Mapping[str, Any]
"""Model features by name, see `prompt_tuning.data.features`."""

Initializer = Callable[[jax.Array, tuple[int, ...], Any], jax.Array]
"""`(rng, shape, dtype) -> array`, as in `jax.nn.initializers`."""

PAD_ID = 0
"""The token id of padding, in every T5 vocabulary."""

EOS_ID = 1
"""The token id that ends a sequence, in every T5 vocabulary."""

__all__ = [
  "EOS_ID",
  "PAD_ID",
  "Array",
  "Batch",
  "Bool",
  "Float",
  "Initializer",
  "Int",
  "Params",
]
