"""Optimizers and learning-rate schedules.

The optimizer only ever sees the trainable part of the parameters, so it holds
no state for the frozen part.
"""

from typing import Any, NamedTuple

import jax
import optax
from jax import numpy as jnp

from prompt_tuning.model.stack import SCANNED
from prompt_tuning.types import Array


class Optimizer(NamedTuple):
  """An `optax.GradientTransformation` that also tells its learning rate.

  Attributes:
    init: `params -> state`.
    update: `(gradients, state, params) -> (updates, state)`.
    learning_rate: `step -> learning rate`, for the log.
  """

  init: optax.TransformInitFn
  update: optax.TransformUpdateFn
  learning_rate: optax.Schedule


def _optimizer(learning_rate, *transformations) -> Optimizer:
  chain = optax.chain(*transformations)
  return Optimizer(chain.init, chain.update, learning_rate)


def constant(*, learning_rate: float) -> optax.Schedule:
  """The same learning rate at every step (Lester et al., 2021: 0.3)."""
  return optax.constant_schedule(learning_rate)


def inverse_square_root(
  *, learning_rate: float, warmup_steps: int = 1
) -> optax.Schedule:
  """`learning_rate / sqrt(max(step, warmup_steps))`.

  T5 pre-trains with 1.0 and 10,000 steps (Raffel et al., 2020, sec. 3.1.2); PPT
  with 0.1 and 1 (its "noam" schedule has no warm-up).

  Args:
    learning_rate: The factor, not the highest rate.
    warmup_steps: Steps during which the rate stays at its highest.
  """

  def schedule(step):
    # Steps count from 0 here and from 1 in both papers' formulas.
    return learning_rate * jax.lax.rsqrt(
      jnp.maximum(jnp.asarray(step, jnp.float32) + 1.0, warmup_steps)
    )

  return schedule


def linear_warmup(
  *, schedule: optax.Schedule, warmup_steps: int
) -> optax.Schedule:
  """Scales `schedule` from 0 up to itself over `warmup_steps` steps."""
  if warmup_steps < 1:
    raise ValueError(
      f"linear_warmup: warmup_steps must be at least 1, got {warmup_steps}."
    )

  def warmed_up(step):
    return schedule(step) * jnp.minimum(1.0, step / warmup_steps)

  return warmed_up


def linear_cooldown(
  *, schedule: optax.Schedule, total_steps: int, cooldown_steps: int
) -> optax.Schedule:
  """Scales `schedule` from itself down to 0 over a run's last steps.

  Args:
    schedule: What is followed until then.
    total_steps: Steps of the run, after which the rate is 0.
    cooldown_steps: How many of them, at the end, it takes.

  Raises:
    ValueError: The cooldown has no step or is longer than the run.
  """
  if not 1 <= cooldown_steps <= total_steps:
    raise ValueError(
      f"linear_cooldown: cooldown_steps must lie between 1 and total_steps "
      f"({total_steps}), got {cooldown_steps}."
    )

  def cooled_down(step):
    left = (total_steps - step) / cooldown_steps
    return schedule(step) * jnp.clip(left, 0.0, 1.0)

  return cooled_down


def _decay_weights(rate: float) -> optax.GradientTransformation:
  """Subtracts `rate` of each weight, not multiplied by the learning rate."""
  return optax.stateless(
    lambda updates, params: jax.tree.map(
      lambda update, param: update - rate * param, updates, params
    )
  )


def _clip_by_rms(threshold: float) -> optax.GradientTransformation:
  """Scales each weight's update down to this root mean square."""
  return optax.stateless(
    lambda updates, params: jax.tree_util.tree_map_with_path(
      lambda path, x: x / jnp.maximum(1.0, _rms(path, x) / threshold), updates
    )
  )


def _scale_by_param_rms(*, min_scale: float) -> optax.GradientTransformation:
  """Multiplies each weight's update by the weight's root mean square."""
  return optax.stateless(
    lambda updates, params: jax.tree_util.tree_map_with_path(
      lambda path, update, param: (
        update * jnp.maximum(_rms(path, param), min_scale)
      ),
      updates,
      params,
    )
  )


def _rms(path: tuple[Any, ...], weight: Array) -> Array:
  """Returns the root mean square of a weight; of scanned layers, of each.

  A scanned stack must learn what its layers in turn would, and optax's own
  transformations see one weight in it.
  """
  is_stacked = any(getattr(key, "key", None) == SCANNED for key in path)
  axes = tuple(range(int(is_stacked), weight.ndim))
  square = jnp.mean(jnp.square(weight), axis=axes, keepdims=is_stacked)
  return jnp.sqrt(square)


def adafactor(
  *,
  learning_rate: optax.Schedule,
  decay_rate: float = 0.8,
  step_offset: int = 0,
  clipping_threshold: float | None = 1.0,
  multiply_by_parameter_scale: bool = True,
  weight_decay_rate: float = 0.0,
  min_dim_size_to_factor: int = 128,
  epsilon: float = 1e-30,
) -> Optimizer:
  """Adafactor as T5X runs it (Shazeer and Stern, 2018).

  Differences from `optax.adafactor`: weight decay is not scaled by the learning
  rate, and `step_offset` is the step at which the decay of the second moment
  begins. The reference recipe of prompt tuning continued the backbone's step
  counter of 1,100,000 with a fresh second moment, which then hardly decays.

  Args:
    learning_rate: A schedule over the steps of this run.
    decay_rate: The second moment decays by 1 - (t + 1) ** -decay_rate.
    step_offset: t of the first step.
    clipping_threshold: Highest root mean square of an update before it is
      multiplied by the learning rate; None does not clip.
    multiply_by_parameter_scale: Whether an update is also multiplied by the
      root mean square of its parameter (at least 1e-3).
    weight_decay_rate: Part of each weight subtracted at each step.
    min_dim_size_to_factor: The second moment is kept factored for parameters
      whose two largest axes are at least this long. A prompt of 128 tokens or
      more is factored, a shorter one is not.
    epsilon: Added to squared gradients.
  """
  steps = [
    optax.scale_by_factored_rms(
      factored=True,
      decay_rate=decay_rate,
      step_offset=-step_offset,
      min_dim_size_to_factor=min_dim_size_to_factor,
      epsilon=epsilon,
    )
  ]
  if clipping_threshold is not None:
    steps.append(_clip_by_rms(clipping_threshold))
  if multiply_by_parameter_scale:
    steps.append(_scale_by_param_rms(min_scale=1e-3))
  steps.append(optax.scale_by_learning_rate(learning_rate))
  if weight_decay_rate:
    steps.append(_decay_weights(weight_decay_rate))
  return _optimizer(learning_rate, *steps)


def adamw(
  *,
  learning_rate: optax.Schedule,
  b1: float = 0.9,
  b2: float = 0.999,
  epsilon: float = 1e-8,
  weight_decay_rate: float = 0.0,
  clip_global_norm: float | None = None,
) -> Optimizer:
  """AdamW (Loshchilov and Hutter, 2019).

  Args:
    learning_rate: A schedule over the steps of this run.
    b1: Decay of the first moment.
    b2: Decay of the second moment.
    epsilon: Added to the root of the second moment.
    weight_decay_rate: Part of each weight subtracted at each step, times the
      learning rate.
    clip_global_norm: Gradients are scaled down to this norm first; None does
      not clip. PPT clips at 1.0.
  """
  steps = []
  if clip_global_norm is not None:
    steps.append(optax.clip_by_global_norm(clip_global_norm))
  steps.append(
    optax.adamw(
      learning_rate,
      b1=b1,
      b2=b2,
      eps=epsilon,
      weight_decay=weight_decay_rate,
    )
  )
  return _optimizer(learning_rate, *steps)
