"""The small layers of T5: projections, layer norm, feed-forward, dropout."""

import functools
from collections.abc import Callable
from typing import Any

import jax
from flax import linen as nn
from jax import numpy as jnp

from prompt_tuning.model.config import T5Config
from prompt_tuning.model.method import Method, hooked
from prompt_tuning.model.quantization import product, scales_of
from prompt_tuning.types import Array, Float, Initializer

_ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
  # T5 1.1 uses the tanh approximation.
  "gelu": lambda x: jax.nn.gelu(x, approximate=True),
  "relu": jax.nn.relu,
  "silu": jax.nn.silu,
  "linear": lambda x: x,
}

FAN_IN_NORMAL = nn.initializers.variance_scaling(1.0, "fan_in", "normal")


class Projection(nn.Module):
  """A matrix product without bias, `kernel` [inputs, outputs].

  A frozen kernel may be int8, with `kernel_scale` [outputs] beside it.

  Attributes:
    features: Width of the output.
    axes: Logical names of the kernel's two axes.
    dtype: Type in which the product is taken.
    initializer: Initialises the kernel.
    method: May change the output.
  """

  features: int
  axes: tuple[str, str]
  dtype: jnp.dtype
  initializer: Initializer = FAN_IN_NORMAL
  method: Method | None = None

  @nn.compact
  def __call__(self, x: Float[Array, "*shape I"]) -> Float[Array, "*shape O"]:
    """Returns `x` times the kernel."""
    # Flax takes the box with the axis names off.
    kernel: Any = self.param(
      "kernel",
      nn.with_logical_partitioning(self.initializer, self.axes),
      (x.shape[-1], self.features),
      jnp.float32,
    )
    scales = scales_of(self, "kernel", kernel)
    return hooked(self, product(x, kernel, scales, dtype=self.dtype), x)


class RMSNorm(nn.Module):
  """T5's layer norm: no mean, no bias (Zhang and Sennrich, 2019).

  Attributes:
    epsilon: Added to the mean square.
    dtype: Type of the result; the statistics are float32.
  """

  epsilon: float
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: Float[Array, "*shape D"]) -> Float[Array, "*shape D"]:
    """Returns `x` over its root mean square, times `scale`."""
    scale: Any = self.param(
      "scale",
      nn.with_logical_partitioning(nn.initializers.ones, ("embed",)),
      (x.shape[-1],),
      jnp.float32,
    )

    @jax.checkpoint
    def normalize(x, scale):
      x = x.astype(jnp.float32)
      mean_square = jnp.mean(jax.lax.square(x), axis=-1, keepdims=True)
      x = x * jax.lax.rsqrt(mean_square + self.epsilon)
      return x.astype(self.dtype) * scale.astype(self.dtype)

    return normalize(x, scale)


def layer_norm(config: T5Config, name: str | None = None) -> RMSNorm:
  """Returns the layer norm of a model."""
  return RMSNorm(
    epsilon=config.layer_norm_epsilon, dtype=config.jax_dtype, name=name
  )


class MLP(nn.Module):
  """The feed-forward layer, gated when it has several activations.

  Attributes:
    config: The model's shape.
    method: May change what the layers pass on.
  """

  config: T5Config
  method: Method | None = None

  @nn.compact
  def __call__(
    self, x: Float[Array, "B L D"], *, deterministic: bool
  ) -> Float[Array, "B L D"]:
    """Returns the layer's output, before the residual sum."""
    config = self.config
    gated = len(config.mlp_activations) > 1
    branches = [
      Projection(
        features=config.mlp_dim,
        axes=("embed", "mlp"),
        dtype=config.jax_dtype,
        method=self.method,
        name=f"wi_{index}" if gated else "wi",
      )(x)
      for index in range(len(config.mlp_activations))
    ]  # [B, L, F] each

    @jax.checkpoint
    def gate(branches):
      return functools.reduce(
        jnp.multiply,
        [
          _ACTIVATIONS[activation](branch)
          for activation, branch in zip(
            config.mlp_activations, branches, strict=True
          )
        ],
      )

    hidden = hooked(self, gate(branches), None, "hidden")
    hidden = dropout(self, hidden, deterministic=deterministic)
    return Projection(
      features=config.embed_dim,
      axes=("mlp", "embed"),
      dtype=config.jax_dtype,
      method=self.method,
      name="wo",
    )(hidden)


def dropout(module: nn.Module, x: Array, *, deterministic: bool) -> Array:
  """Drops whole features of an example: one draw serves all its positions.

  T5X broadcasts the draw over the length too; it is what the released models
  were trained with, and it makes far fewer random numbers. By JAX's default
  generator, what a feature draws does not depend on how many follow it: the
  keys of attention are features here, and their padding changes nothing.

  Args:
    module: The module that drops; its `config` says how much, and it draws from
      its `dropout` stream.
    x: [B, ..., L, features].
    deterministic: Whether to return `x` as it is.
  """
  rate = module.config.dropout_rate
  if deterministic or rate == 0.0:
    return x
  shape = (x.shape[-1], *x.shape[:-2])
  keep = jax.random.bernoulli(module.make_rng("dropout"), 1.0 - rate, shape)
  keep = jnp.moveaxis(keep, 0, -1)[..., None, :]
  return jnp.where(keep, x / (1.0 - rate), jnp.zeros_like(x))
