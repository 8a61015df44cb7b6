"""One training step: gradients for the trainable part alone.

The same step pre-trains, LM-adapts, tunes a model or tunes a prompt; they
differ by which parameters are in `trainable`.
"""

import enum
from collections.abc import Callable, Sequence
from typing import Any

import jax
import optax
from flax import struct
from jax import numpy as jnp

from prompt_tuning.model.t5 import T5, logits_params
from prompt_tuning.train.losses import (
  LossSums,
  loss_sums,
  sum_over_targets,
)
from prompt_tuning.train.optimizers import Optimizer
from prompt_tuning.train.partition import merge
from prompt_tuning.types import Array, Batch, Params, enum_member

Metrics = dict[str, Array]
TrainStep = Callable[
  ["TrainState", Params, Batch, jax.Array], tuple["TrainState", Metrics]
]
JointTrainStep = Callable[
  [tuple["TrainState", ...], Params, Batch, jax.Array],
  tuple[tuple["TrainState", ...], Metrics],
]


class LossNormalization(enum.Enum):
  """What the sum of the token losses is divided by before differentiating.

  SUM is the reference's; Adafactor does not feel the scale, others do. TOKENS
  divides by the number of target tokens in the batch.
  """

  SUM = "sum"
  TOKENS = "tokens"


@struct.dataclass
class TrainState:
  """What changes in training; the frozen part is passed beside it.

  Attributes:
    step: Number of steps taken in this run, int32.
    trainable: The parameters that are tuned, a nested dictionary.
    opt_state: The optimizer's state of `trainable`.
  """

  step: Array
  trainable: Params
  opt_state: Any


def init_state(trainable: Params, optimizer: Optimizer) -> TrainState:
  """Returns the state before the first step."""
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    trainable=trainable,
    opt_state=optimizer.init(trainable),
  )


_OPTIONAL = (
  "encoder_segment_ids",
  "encoder_positions",
  "decoder_segment_ids",
  "decoder_positions",
  "prompt_index",
)


def batch_loss(
  model: T5,
  params: Params,
  batch: Batch,
  *,
  z_loss: float = 0.0,
  dropout_rng: jax.Array | None = None,
) -> LossSums:
  """Returns the summed loss of a batch; drops only if given a key."""
  optional: dict[str, Any] = {
    name: batch[name] for name in _OPTIONAL if name in batch
  }
  hidden: Any = model.apply(
    {"params": params},
    batch["encoder_input_tokens"],
    batch["decoder_input_tokens"],
    **optional,
    deterministic=dropout_rng is None,
    rngs=None if dropout_rng is None else {"dropout": dropout_rng},
    method="hidden",
  )

  def sums_of(params, hidden, targets, weights):
    logits: Any = model.apply({"params": params}, hidden, method="logits")
    return loss_sums(logits, targets, weights, z_loss=z_loss)

  return sum_over_targets(
    sums_of,
    logits_params(model.config, params),
    hidden,
    batch["decoder_target_tokens"],
    batch["decoder_loss_weights"],
  )


def make_train_step(
  model: T5,
  optimizer: Optimizer,
  *,
  z_loss: float = 1e-4,
  loss_normalization: LossNormalization | str = LossNormalization.SUM,
  num_microbatches: int = 1,
) -> TrainStep:
  """Returns a function that takes one step; jit it with the state donated.

  Args:
    model: Its dropout rate decides whether the step drops.
    optimizer: Updates the trainable part.
    z_loss: Coefficient of the z-loss.
    loss_normalization: What the summed loss is divided by.
    num_microbatches: The batch is run in this many parts, whose gradients are
      summed: the same step up to rounding (and dropout), with the activations
      of one part in memory.

  Returns:
    `(state, frozen, batch, rng) -> (state, metrics)`. `rng` is the run's key,
    the same at every step. Metrics are scalars on the device: loss (per target
    token, nats, z-loss included), loss_sum, z_loss (per token), accuracy (a
    fraction of target tokens), num_tokens, grad_norm, update_norm, param_norm
    (of the trainable part) and learning_rate.

  Raises:
    ValueError: If `num_microbatches` is below 1, or the normalization unknown.
  """
  differentiate = _make_differentiate(
    model,
    z_loss=z_loss,
    loss_normalization=loss_normalization,
    num_microbatches=num_microbatches,
  )

  def train_step(state, frozen, batch, rng):
    gradients, sums = differentiate(
      state.trainable, frozen, batch, jax.random.fold_in(rng, state.step)
    )
    return _update(optimizer, state, gradients, sums)

  return train_step


def make_joint_train_step(
  model: T5,
  optimizers: Sequence[Optimizer],
  *,
  z_loss: float = 1e-4,
  loss_normalization: LossNormalization | str = LossNormalization.SUM,
  num_microbatches: int = 1,
) -> JointTrainStep:
  """Returns a function that takes one step of each of N independent runs.

  Loss and gradient of a run are mapped over the runs, the frozen part being the
  same for all: products with its weights become one product of N batches, and
  nothing else of one run meets another. Every run is updated by its own
  optimizer. So each run takes the step that `make_train_step` takes for it
  alone, dropout included, up to the rounding of larger products.

  Args:
    model: As for `make_train_step`; the prompts differ in value alone.
    optimizers: One of each run.
    z_loss: As for `make_train_step`, as what follows.
    loss_normalization: What the summed loss of a run is divided by.
    num_microbatches: Parts in which the batches of all runs are run.

  Returns:
    `(states, frozen, batches, rngs) -> (states, metrics)`: a tuple of N states,
    features [N, B, ...] and N keys; metrics are those of `make_train_step`,
    [N].

  Raises:
    ValueError: As `make_train_step`.
  """
  differentiate = jax.vmap(
    _make_differentiate(
      model,
      z_loss=z_loss,
      loss_normalization=loss_normalization,
      num_microbatches=num_microbatches,
    ),
    in_axes=(0, None, 0, 0),
  )

  def train_step(states, frozen, batches, rngs):
    steps = jnp.stack([state.step for state in states])
    gradients, sums = differentiate(
      stack([state.trainable for state in states]),
      frozen,
      batches,
      jax.vmap(jax.random.fold_in)(rngs, steps),
    )
    updated = [
      _update(
        optimizer, state, *jax.tree.map(lambda x, n=n: x[n], (gradients, sums))
      )
      for n, (optimizer, state) in enumerate(
        zip(optimizers, states, strict=True)
      )
    ]
    states, metrics = zip(*updated, strict=True)
    return states, stack(metrics)

  return train_step


def repeat(train_step: Callable[..., Any]) -> Callable[..., Any]:
  """Returns a function that takes several steps in one dispatch.

  Args:
    train_step: Of one run or of several.

  Returns:
    The same with a batch for each step along a new first axis of the features,
    and the metrics of each step along that of the metrics.
  """

  def train_steps(state, frozen, batches, rng):
    return jax.lax.scan(
      lambda state, batch: train_step(state, frozen, batch, rng),
      state,
      batches,
    )

  return train_steps


def stack(trees: Sequence[Any]) -> Any:
  """Returns one tree whose leaves are those of all trees, stacked in front."""
  return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def _make_differentiate(
  model: T5,
  *,
  z_loss: float,
  loss_normalization: LossNormalization | str,
  num_microbatches: int,
) -> Callable[..., tuple[Params, LossSums]]:
  """Returns `(trainable, frozen, batch, key of the step) -> (gradient, sums)`.

  Raises:
    ValueError: As `make_train_step`.
  """
  if num_microbatches < 1:
    raise ValueError(
      f"num_microbatches must be at least 1, got {num_microbatches}."
    )
  # A configuration file says "tokens".
  loss_normalization = enum_member(
    LossNormalization, loss_normalization, name="loss_normalization"
  )
  drops = model.config.dropout_rate > 0.0

  def objective(trainable, frozen, batch, rng, scale):
    sums = batch_loss(
      model,
      merge(trainable, frozen),
      batch,
      z_loss=z_loss,
      dropout_rng=rng if drops else None,
    )
    return sums.loss * scale, sums

  grad = jax.grad(objective, has_aux=True)

  def differentiate(trainable, frozen, batch, rng):
    scale = jnp.float32(1.0)
    if loss_normalization is LossNormalization.TOKENS:
      scale = 1.0 / jnp.maximum(jnp.sum(batch["decoder_loss_weights"]), 1.0)
    if num_microbatches == 1:
      return grad(trainable, frozen, batch, rng, scale)
    return _accumulate(
      lambda part, part_rng: grad(trainable, frozen, part, part_rng, scale),
      batch,
      rng,
      num_microbatches,
    )

  return differentiate


def _update(
  optimizer: Optimizer, state: TrainState, gradients: Params, sums: LossSums
) -> tuple[TrainState, Metrics]:
  """Returns the state after a step, and the metrics of the step."""
  updates, opt_state = optimizer.update(
    gradients, state.opt_state, state.trainable
  )
  trainable: Any = optax.apply_updates(state.trainable, updates)
  num_tokens = jnp.maximum(sums.num_tokens, 1.0)
  metrics = {
    "loss": sums.loss / num_tokens,
    "loss_sum": sums.loss,
    "z_loss": sums.z_loss / num_tokens,
    "accuracy": sums.num_correct / num_tokens,
    "num_tokens": sums.num_tokens,
    "grad_norm": optax.tree.norm(gradients),
    "update_norm": optax.tree.norm(updates),
    "param_norm": optax.tree.norm(trainable),
    "learning_rate": jnp.asarray(
      optimizer.learning_rate(state.step), jnp.float32
    ),
  }
  state = TrainState(
    step=state.step + 1, trainable=trainable, opt_state=opt_state
  )
  return state, metrics


def _accumulate(function, batch, rng, num_parts):
  """Sums `function` over parts of the batch, one part at a time."""
  size = next(iter(batch.values())).shape[0]
  if size % num_parts:
    raise ValueError(
      f"A batch of {size} examples cannot be cut into num_microbatches="
      f"{num_parts} equal parts; choose a divisor of {size}."
    )
  parts = jax.tree.map(
    # Part i takes every num_parts-th example, so that each device of a
    # sharded batch keeps its own examples.
    lambda x: jnp.swapaxes(
      x.reshape(size // num_parts, num_parts, *x.shape[1:]), 0, 1
    ),
    batch,
  )
  rngs = jax.random.split(rng, num_parts)

  def body(total, part):
    return jax.tree.map(jnp.add, total, function(*part)), None

  shapes = jax.eval_shape(function, jax.tree.map(lambda x: x[0], parts), rng)
  zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
  total, _ = jax.lax.scan(body, zeros, (parts, rngs))
  return total
