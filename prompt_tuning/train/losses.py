"""The training loss of T5: cross-entropy of the targets plus z-loss."""

import jax
from flax import struct
from jax import numpy as jnp

from prompt_tuning.types import Array, Float, Int


@struct.dataclass
class LossSums:
  """Sums over the target tokens of a batch, all scalars.

  Attributes:
    loss: Cross-entropy plus z-loss, in nats.
    z_loss: The z-loss alone.
    num_tokens: Sum of the weights.
    num_correct: Tokens that the greedy choice got right.
  """

  loss: Array
  z_loss: Array
  num_tokens: Array
  num_correct: Array


def token_cross_entropy(
  logits: Float[Array, "B T V"], targets: Int[Array, "B T"]
) -> tuple[Float[Array, "B T"], Float[Array, "B T"]]:
  """Returns the cross-entropy of each token in nats, and log Z."""
  logits = logits.astype(jnp.float32)
  log_z = jax.nn.logsumexp(logits, axis=-1)
  chosen = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
  return log_z - chosen, log_z


def loss_sums(
  logits: Float[Array, "B T V"],
  targets: Int[Array, "B T"],
  weights: Float[Array, "B T"],
  *,
  z_loss: float = 0.0,
) -> LossSums:
  """Sums the loss over a batch.

  Args:
    logits: Unnormalised log probabilities.
    targets: Token ids.
    weights: 1 for real targets, 0 for padding.
    z_loss: Coefficient of log(Z)^2, which keeps the logits near normalised; T5
      1.1 was trained with 1e-4.
  """
  cross_entropy, log_z = token_cross_entropy(logits, targets)
  penalty = z_loss * jnp.square(log_z)
  correct = jnp.argmax(logits, axis=-1) == targets
  return LossSums(
    loss=jnp.sum((cross_entropy + penalty) * weights),
    z_loss=jnp.sum(penalty * weights),
    num_tokens=jnp.sum(weights),
    num_correct=jnp.sum(correct * weights),
  )
