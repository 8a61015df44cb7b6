"""Until the library has it: the signature of its joint step, one by one."""

import jax
from jax import numpy as jnp

from prompt_tuning.train.step import make_train_step


def make_joint_train_step(model, optimizers, **options):
  """Returns a step of several prompts."""
  steps = [make_train_step(model, each, **options) for each in optimizers]

  def joint(states, frozen, batches, rngs):
    new, metrics = zip(
      *(
        step(state, frozen, jax.tree.map(lambda x: x[n], batches), rngs[n])  # noqa: B023
        for n, (step, state) in enumerate(zip(steps, states, strict=True))
      ),
      strict=True,
    )
    return tuple(new), jax.tree.map(lambda *each: jnp.stack(each), *metrics)

  return joint
