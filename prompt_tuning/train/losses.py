"""The training loss of T5: cross-entropy of the targets plus z-loss."""

import functools
from collections.abc import Callable
from typing import Any

import jax
from flax import struct
from jax import numpy as jnp

from prompt_tuning.types import Array, Float, Int, Params

# Logits of so many targets of every example exist at a time: in float32, with a
# vocabulary of 32,128, each takes 128 KiB.
TARGETS_AT_ONCE = 64


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


SumsOf = Callable[
  [Params, Float[Array, "B T D"], Int[Array, "B T"], Float[Array, "B T"]],
  LossSums,
]
"""`(parameters, hidden states, targets, weights) -> sums`."""


def sum_over_targets(
  sums_of: SumsOf,
  params: Params,
  hidden: Float[Array, "B T D"],
  targets: Int[Array, "B T"],
  weights: Float[Array, "B T"],
) -> LossSums:
  """Returns `sums_of` all targets, a part of the targets at a time.

  Logits are the largest array of a step with long targets. Here neither they
  nor their softmax are kept for the backward pass: the gradient of a part is
  taken along with its loss, which costs no product twice. What of it nobody
  asks for, that of frozen parameters, is not computed.

  Args:
    sums_of: Takes logits and sums their loss; only `loss` has a gradient.
    params: What the logits are taken with.
    hidden: What they are taken from.
    targets: Token ids.
    weights: 1 for real targets, 0 for padding.
  """
  length = targets.shape[1]
  if length <= TARGETS_AT_ONCE:
    return sums_of(params, hidden, targets, weights)
  count = -(-length // TARGETS_AT_ONCE)
  size = -(-length // count)

  def parts(x):
    padded = jnp.pad(
      x, [(0, 0), (0, count * size - length)] + [(0, 0)] * (x.ndim - 2)
    )
    cut = padded.reshape(x.shape[0], count, size, *x.shape[2:])
    return jnp.moveaxis(cut, 1, 0)

  labels = parts(targets), parts(weights)
  return _sum_over_parts(sums_of, *_split(params), parts(hidden), labels)


def _split(params: Params) -> tuple[Params, Params]:
  """Returns parameters that may have a gradient, and integers, None between."""

  def only(is_wanted):
    return jax.tree.map(
      lambda x: (
        x if is_wanted == jnp.issubdtype(x.dtype, jnp.floating) else None
      ),
      params,
    )

  return only(True), only(False)


def _merge(params: Params, integers: Params) -> Params:
  return jax.tree.map(
    lambda x, other: other if x is None else x,
    params,
    integers,
    is_leaf=lambda x: x is None,
  )


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _sum_over_parts(sums_of, params, integers, hidden, labels):
  def add(total, part):
    x, (targets, weights) = part
    merged = _merge(params, integers)
    return _add(total, sums_of(merged, x, targets, weights)), None

  return jax.lax.scan(add, _no_loss(), (hidden, labels))[0]


def _forward(sums_of, params, integers, hidden, labels):
  def add(carry, part):
    total, of_params = carry
    x, (targets, weights) = part

    def loss(params, x):
      sums = sums_of(_merge(params, integers), x, targets, weights)
      return sums.loss, sums

    gradients, sums = jax.grad(loss, argnums=(0, 1), has_aux=True)(params, x)
    return (_add(total, sums), _add(of_params, gradients[0])), gradients[1]

  start = _no_loss(), jax.tree.map(jnp.zeros_like, params)
  (total, of_params), of_hidden = jax.lax.scan(add, start, (hidden, labels))
  return total, (of_params, of_hidden)


def _backward(sums_of, gradients, cotangents):
  del sums_of
  of_params, of_hidden = jax.tree.map(
    lambda gradient: (gradient * cotangents.loss).astype(gradient.dtype),
    gradients,
  )
  return of_params, None, of_hidden, None


_sum_over_parts.defvjp(_forward, _backward)


def _no_loss() -> LossSums:
  return LossSums(*[jnp.zeros((), jnp.float32)] * 4)


def _add(one: Any, other: Any) -> Any:
  return jax.tree.map(jnp.add, one, other)
