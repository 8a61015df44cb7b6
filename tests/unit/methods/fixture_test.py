"""Per-layer prompts and IA3 equal the reference's, on its weights.

The numbers come from google's prompt tuning on T5X.
"""

import functools

import jax
import numpy as np
import pytest

from prompt_tuning.methods.ia3 import IA3
from prompt_tuning.methods.layer_prompts import LayerPrompts
from prompt_tuning.model import t5
from prompt_tuning.model.config import T5Config
from prompt_tuning.model.t5 import T5
from prompt_tuning.prompts.module import Prompt
from prompt_tuning.testing.fixtures import read_params
from prompt_tuning.testing.shared import fixture_path
from prompt_tuning.train import partition
from prompt_tuning.train.step import batch_loss

BOUND = 1e-5
PROMPT_LENGTH = 10
CONFIG = T5Config(
  vocab_size=1024,
  embed_dim=48,
  num_heads=4,
  head_dim=16,
  mlp_dim=96,
  num_encoder_layers=3,
  num_decoder_layers=2,
)
# Where the reference keeps what we keep elsewhere.
NAMES = (
  ("encoder/prompt/prompt/prompt", "prompt/embedding"),
  ("prompt/prompt/prompt", "prompt/embedding"),
  ("k_conv/ia3_scaling", "key/ia3/scale"),
  ("v_conv/ia3_scaling", "value/ia3/scale"),
  ("mlp/intermediate_conv/ia3_scaling", "mlp/ia3/scale"),
)


@functools.cache
def reference():
  return dict(np.load(fixture_path("extended.npz")))


def method_params(tag):
  """Returns the parameters that the reference used, under our names."""
  params = {}
  for path, array in reference().items():
    if not path.startswith(f"{tag}/param/"):
      continue
    name = path.removeprefix(f"{tag}/param/")
    for theirs, ours in NAMES:
      if name.endswith(theirs):
        name = name.removesuffix(theirs) + ours
        break
    shape = (-1, 48) if "prompt" in name else (-1,)
    params[name] = array.reshape(shape)
  return params


def batch(prompt_length):
  batches = np.load(fixture_path("batches.npz"))
  first = {k.removeprefix("0/"): v for k, v in batches.items() if k[:2] == "0/"}
  rows = first["encoder_input_tokens"]
  slots = np.arange(1024, 1024 + prompt_length, dtype=rows.dtype)
  slots = np.broadcast_to(slots, (len(rows), prompt_length))
  return {**first, "encoder_input_tokens": np.concatenate([slots, rows], 1)}


def relative_error(actual, wanted):
  return np.abs(actual - wanted).max() / np.abs(wanted).max()


@pytest.mark.parametrize(
  ("tag", "method"),
  [
    (
      "per_layer_replace",
      LayerPrompts(num_slots=PROMPT_LENGTH, combination="replace"),
    ),
    ("per_layer_add", LayerPrompts(num_slots=PROMPT_LENGTH)),
    ("ia3", IA3()),
  ],
)
def test_logits_and_loss_equal_the_reference(tag, method):
  length = 0 if tag == "ia3" else PROMPT_LENGTH
  init = jax.nn.initializers.zeros
  prompt = Prompt(length, features=48, initializer=init) if length else None
  model = T5(CONFIG, prompt=prompt, method=method)
  params = partition.flatten(read_params(fixture_path("params.npz")))
  params |= method_params(tag)
  expected = partition.flatten(t5.abstract_params(model))
  assert params.keys() == expected.keys()
  nested = partition.merge({}, params)
  rows = batch(length)

  @jax.jit
  def run(params):
    logits = model.apply(
      {"params": params},
      rows["encoder_input_tokens"],
      rows["decoder_input_tokens"],
    )
    return logits, batch_loss(model, params, rows, z_loss=1e-4).loss

  logits, loss = run(nested)
  is_target = rows["decoder_target_tokens"] > 0
  wanted = reference()[f"{tag}/logits"][is_target]
  assert relative_error(np.asarray(logits)[is_target], wanted) <= BOUND
  assert relative_error(loss, reference()[f"{tag}/loss"]) <= BOUND
