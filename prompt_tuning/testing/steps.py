"""A fake decoding step that remembers everything it has read."""

from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from prompt_tuning.model.decoding import START_ID
from prompt_tuning.types import EOS_ID


class RecurrentStep:
  """A random recurrent network: `(tokens, cache) -> (logits, cache)`.

  Its cache has a state [B, W] in which a wrongly gathered row shows, and a
  scalar, as the cache of a T5 has. `log_probs` computes the same from scratch,
  without JAX.
  """

  def __init__(
    self,
    *,
    seed: int,
    vocab_size: int = 12,
    width: int = 6,
    eos_bias: float = 0.0,
    dtype: Any = jnp.float32,
  ):
    """Draws the weights.

    Args:
      seed: Seed of the weights.
      vocab_size: V.
      width: W, width of the state.
      eos_bias: Added to the logit that ends a sequence.
      dtype: Type of the logits.
    """
    rng = np.random.default_rng(seed)
    self.vocab_size = vocab_size
    self._embed = rng.normal(size=(vocab_size, width)).astype(np.float32)
    self._mix = rng.normal(size=(width, width)).astype(np.float32)
    self._out = 2 * rng.normal(size=(width, vocab_size)).astype(np.float32)
    self._bias = np.zeros(vocab_size, np.float32)
    self._bias[EOS_ID] = eos_bias
    self._dtype = dtype
    self._width = width

  def start_cache(self, batch_size: int, *, seed: int = 0) -> dict[str, Any]:
    """Returns the cache of `batch_size` different examples."""
    rng = np.random.default_rng(seed)
    state = rng.normal(size=(batch_size, self._width)).astype(np.float32)
    return {"state": jnp.asarray(state), "index": jnp.zeros((), jnp.int32)}

  def __call__(
    self, tokens: jax.Array, cache: dict[str, Any]
  ) -> tuple[jax.Array, dict[str, Any]]:
    """Reads one token of each row; returns the next one's logits."""
    read = jnp.asarray(self._embed)[tokens]
    state = jnp.tanh(cache["state"] @ self._mix + read)
    logits = (state @ self._out + self._bias).astype(self._dtype)
    return logits, {"state": state, "index": cache["index"] + 1}

  def log_probs(self, state: np.ndarray, tokens: list[int]) -> np.ndarray:
    """Returns the log-probabilities [V] of what follows, in float64.

    Args:
      state: The row [W] of the first cache.
      tokens: What was written so far.
    """
    for token in (START_ID, *tokens):
      state = np.tanh(state @ self._mix.astype(float) + self._embed[token])
    logits = state @ self._out.astype(float) + self._bias
    return logits - np.log(np.sum(np.exp(logits)))
