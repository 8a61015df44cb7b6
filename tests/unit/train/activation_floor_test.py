"""What a step holds against the least that it must."""

import dataclasses

import jax
import numpy as np
import pytest

from prompt_tuning.model import t5
from prompt_tuning.model.config import T5Config
from prompt_tuning.prompts.module import Prompt, PromptAttention
from prompt_tuning.train import optimizers, partition
from prompt_tuning.train.activation_floor import activation_floor
from prompt_tuning.train.step import init_state, make_train_step

BATCH, INPUTS, TARGETS, LENGTH = 8, 96, 8, 32
CONFIG = T5Config(
  vocab_size=1_000,
  embed_dim=128,
  num_heads=2,
  head_dim=64,
  mlp_dim=256,
  num_encoder_layers=4,
  num_decoder_layers=4,
)


def _temporaries(
  attention, *, num_microbatches=1, config=CONFIG, patterns=("prompt/.*",)
):
  """Returns what the compiler allocates besides arguments and results."""
  model = t5.T5(
    config,
    prompt=Prompt(
      length=LENGTH,
      features=CONFIG.embed_dim,
      initializer=jax.nn.initializers.zeros,
      attention=attention,
    ),
  )
  parts = partition.split(t5.abstract_params(model), patterns)
  optimizer = optimizers.adafactor(
    learning_rate=optimizers.constant(learning_rate=0.3)
  )
  state = jax.eval_shape(lambda p: init_state(p, optimizer), parts.trainable)
  in_rows = LENGTH * (attention is PromptAttention.FULL)

  def feature(length, dtype=np.int32):
    return jax.ShapeDtypeStruct((BATCH, length), dtype)

  batch = {
    "encoder_input_tokens": feature(INPUTS + in_rows),
    "decoder_input_tokens": feature(TARGETS),
    "decoder_target_tokens": feature(TARGETS),
    "decoder_loss_weights": feature(TARGETS, np.float32),
  }
  step = make_train_step(model, optimizer, num_microbatches=num_microbatches)
  key = jax.eval_shape(lambda: jax.random.key(0))
  compiled = (
    jax.jit(step, donate_argnums=0)
    .lower(state, parts.frozen, batch, key)
    .compile()
  )
  return compiled.memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize("num_microbatches", [1, 4])
def test_full_mode_holds_little_more_than_it_must(num_microbatches):
  floor = activation_floor(
    CONFIG,
    batch_size=BATCH // num_microbatches,
    inputs_length=INPUTS + LENGTH,
    targets_length=TARGETS,
  )
  held = _temporaries(PromptAttention.FULL, num_microbatches=num_microbatches)
  assert 0.9 * floor < held < 1.3 * floor


def test_trained_weights_keep_what_they_are_multiplied_with():
  shape = {
    "batch_size": BATCH,
    "inputs_length": INPUTS + LENGTH,
    "targets_length": TARGETS,
  }
  floor = activation_floor(CONFIG, **shape, trains_weights=True)
  assert floor > 1.2 * activation_floor(CONFIG, **shape)
  params = jax.tree.leaves(t5.abstract_params(t5.T5(CONFIG)))
  gradients = 4 * sum(int(np.prod(leaf.shape)) for leaf in params)
  held = _temporaries(PromptAttention.FULL, patterns=(".*",))
  assert 0.7 * floor < held < 1.3 * (floor + gradients)


def test_layers_computed_anew_keep_what_they_start_from():
  config = dataclasses.replace(CONFIG, remat="layer", scan_layers=True)
  shape = {
    "batch_size": BATCH,
    "inputs_length": INPUTS + LENGTH,
    "targets_length": TARGETS,
  }
  floor = activation_floor(config, **shape)
  assert floor < 0.5 * activation_floor(CONFIG, **shape)
  held = _temporaries(PromptAttention.FULL, config=config)
  assert 0.7 * floor < held < 1.3 * floor


@pytest.mark.parametrize("axis", ["sequence_ways", "model_ways"])
def test_a_device_holds_its_part(axis):
  shape = {
    "batch_size": BATCH,
    "inputs_length": INPUTS + LENGTH,
    "targets_length": TARGETS,
  }
  whole = activation_floor(CONFIG, **shape)
  part = activation_floor(CONFIG, **shape, **{axis: 2})
  assert whole / 2 < part < whole


def test_prefix_mode_holds_little_more_than_it_must():
  floor = activation_floor(
    CONFIG,
    batch_size=BATCH,
    inputs_length=INPUTS,
    targets_length=TARGETS,
    num_compiled=1,
    compiled_length=LENGTH,
  )
  assert 0.9 * floor < _temporaries(PromptAttention.PREFIX) < 1.3 * floor
