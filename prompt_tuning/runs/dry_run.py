"""What a training run would do, without weights, data or devices.

Everything is computed on shapes, so that XXL can be looked at on a laptop.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from prompt_tuning.backbone import Backbone
from prompt_tuning.data.features import FeatureBuilder, FeatureLengths
from prompt_tuning.model import t5
from prompt_tuning.prompts import layout as layout_lib
from prompt_tuning.prompts.module import Prompt, PromptBank
from prompt_tuning.prompts.spec import PromptSpec
from prompt_tuning.train import partition
from prompt_tuning.train.optimizers import Optimizer
from prompt_tuning.train.step import (
  LossNormalization,
  init_state,
  make_train_step,
)


def dry_run(
  *,
  backbone: Backbone,
  feature_lengths: Mapping[str, int],
  batch_size: int,
  trainable: Sequence[str],
  optimizer: Optimizer,
  prompt: PromptSpec | None = None,
  z_loss: float = 1e-4,
  loss_normalization: LossNormalization = LossNormalization.SUM,
  num_microbatches: int = 1,
  **unused: Any,
) -> str:
  """Returns the parameter table and one step by shape evaluation, as text.

  Args:
    backbone: See `runs.train.train` for this and the others.
    feature_lengths: TASK_FEATURE_LENGTHS.
    batch_size: B.
    trainable: Patterns of the paths that are trained.
    optimizer: Updates what is trained.
    prompt: The soft prompt; its initialiser is not called.
    z_loss: Coefficient of the z-loss.
    loss_normalization: What the summed loss is divided by.
    num_microbatches: Parts in which a batch is run.
    **unused: What else a run is configured with, which decides no shape.

  Raises:
    ValueError: As the run itself would, of what can be known without data.
  """
  del unused
  model = t5.T5(backbone.config, prompt=_blank_prompt(prompt, backbone))
  params = t5.abstract_params(model)
  parts = partition.split(params, trainable)
  frozen = _in_dtype(parts.frozen, backbone.dtype)
  layout = layout_lib.prefix(0)
  if prompt is not None:
    layout = prompt.layout(backbone.vocabulary.encode)
  builder = FeatureBuilder(
    FeatureLengths.from_mapping(feature_lengths),
    vocab_size=backbone.config.vocab_size,
    layout=layout,
  )
  batch = {
    name: jax.ShapeDtypeStruct(value.shape, value.dtype)
    for name, value in builder.batch([], num_rows=batch_size).items()
  }
  state = jax.eval_shape(lambda p: init_state(p, optimizer), parts.trainable)
  step = make_train_step(
    model,
    optimizer,
    z_loss=z_loss,
    loss_normalization=loss_normalization,
    num_microbatches=num_microbatches,
  )
  rng = jax.eval_shape(lambda: jax.random.key(0))
  after, metrics = jax.eval_shape(step, state, frozen, batch, rng)
  described = partition.merge(parts.trainable, frozen)
  lines = [
    partition.describe(described, trainable),
    "one batch:",
    *(f"  {name}: {x.dtype}{list(x.shape)}" for name, x in batch.items()),
    f"frozen parameters: {_bytes(frozen)}",
    f"trainable parameters: {_bytes(after.trainable)}",
    f"optimizer state: {_bytes(after.opt_state)}",
    f"metrics: {', '.join(sorted(metrics))}",
  ]
  return "\n".join(lines) + "\n"


def _blank_prompt(
  prompt: PromptSpec | None, backbone: Backbone
) -> Prompt | PromptBank | None:
  """Returns a module of the prompt's shape, as its start needs weights."""
  if prompt is None:
    return None
  return prompt.module_from(
    jax.nn.initializers.zeros, features=backbone.config.embed_dim
  )


def _in_dtype(params: Any, dtype: str) -> Any:
  return jax.tree.map(
    lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.dtype(dtype)), params
  )


def _bytes(tree: Any) -> str:
  total = sum(
    int(np.prod(leaf.shape)) * np.dtype(leaf.dtype).itemsize
    for leaf in jax.tree.leaves(tree)
  )
  return f"{total:,} bytes"
