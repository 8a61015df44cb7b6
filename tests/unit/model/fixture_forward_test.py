"""Logits, loss, prompt gradient, beams and scores that T5X computed.

Errors are relative to the largest magnitude in the reference array. Logits are
compared where there is a target: elsewhere the reference stack returns zeros.
"""

import functools

import jax
import numpy as np
import pytest

from prompt_tuning.evaluate.generation import BeamSearch, Generator
from prompt_tuning.model.config import T5Config
from prompt_tuning.model.scoring import sequence_log_likelihood
from prompt_tuning.model.t5 import T5
from prompt_tuning.prompts.module import Prompt
from prompt_tuning.testing.fixtures import read_params
from prompt_tuning.testing.shared import fixture_path
from prompt_tuning.train.step import batch_loss
from prompt_tuning.types import EOS_ID, PAD_ID

PROMPT_LENGTH = 10
PLACEMENTS = ("prefix", "after_bos", "suffix_before_eos", "suffix_after_eos")
F32_BOUND = 1e-5


def build_model(prompt_length=PROMPT_LENGTH, **overrides):
  config = T5Config(
    vocab_size=1024,
    embed_dim=48,
    num_heads=4,
    head_dim=16,
    mlp_dim=96,
    num_encoder_layers=3,
    num_decoder_layers=2,
    **overrides,
  )
  init = jax.nn.initializers.zeros
  return T5(config, prompt=Prompt(prompt_length, features=48, initializer=init))


@functools.cache
def reference():
  return dict(np.load(fixture_path("forward.npz")))


@functools.cache
def prompted_params():
  prompt = np.load(fixture_path("prompt_init.npy"))
  params = read_params(fixture_path("params.npz"))
  return {**params, "prompt": {"embedding": prompt}}


def place(row, placement):
  """Puts the slots into one row by hand, as the reference places them."""
  slots = np.arange(1024, 1024 + PROMPT_LENGTH, dtype=row.dtype)
  length = np.count_nonzero(row != PAD_ID)
  column = {
    "prefix": 0,
    "after_bos": 1,
    "suffix_before_eos": length - 1,
    "suffix_after_eos": length,
  }[placement]
  assert row[length - 1] == EOS_ID
  return np.insert(row, column, slots)


@functools.cache
def first_batch():
  batches = np.load(fixture_path("batches.npz"))
  return {
    name.removeprefix("0/"): batches[name]
    for name in batches
    if name.startswith("0/")
  }


def batch_with_slots(placement):
  batch = dict(first_batch())
  rows = batch["encoder_input_tokens"]
  batch["encoder_input_tokens"] = np.stack([place(r, placement) for r in rows])
  return batch


@functools.cache
def compiled(dtype):
  """Returns a function of params and batch: logits, loss and its gradient."""
  model = build_model(dtype=dtype)

  def loss(prompt, params, batch):
    params = {**params, "prompt": {"embedding": prompt}}
    return batch_loss(model, params, batch, z_loss=1e-4).loss

  def run(params, batch):
    prompt = params["prompt"]["embedding"]
    value, gradient = jax.value_and_grad(loss)(prompt, params, batch)
    logits = model.apply(
      {"params": params},
      batch["encoder_input_tokens"],
      batch["decoder_input_tokens"],
    )
    return {"logits": logits, "loss": value, "grad_prompt": gradient}

  return jax.jit(run)


@functools.cache
def computed(placement, dtype="float32"):
  results = compiled(dtype)(prompted_params(), batch_with_slots(placement))
  results = {what: np.asarray(array) for what, array in results.items()}
  return {**results, "logits": at_targets(results["logits"])}


def at_targets(logits):
  return np.asarray(logits)[first_batch()["decoder_target_tokens"] > 0]


def expected(tag, what):
  array = reference()[f"{tag}/{what}"]
  return at_targets(array) if what == "logits" else array


def relative_error(actual, wanted):
  return np.abs(actual - wanted).max() / np.abs(wanted).max()


@pytest.mark.parametrize("what", ["logits", "loss", "grad_prompt"])
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_float32_equals_t5x(placement, what):
  wanted = expected(f"{placement}_f32", what)
  assert relative_error(computed(placement)[what], wanted) <= F32_BOUND


@pytest.mark.parametrize("what", ["logits", "loss", "grad_prompt"])
def test_bfloat16_is_as_near_t5x_as_its_rounding_allows(what):
  """The bound is what bfloat16 costs T5X itself: bfloat16 against float32."""
  wanted = expected("prefix_bf16", what)
  rounding = np.abs(wanted - expected("prefix_f32", what)).max()
  actual = computed("prefix", "bfloat16")[what]
  assert np.abs(actual - wanted).max() <= rounding
  # Computing in float32 would pass the bound; it must not go unnoticed.
  assert relative_error(actual, computed("prefix")[what]) > 10 * F32_BOUND


def test_bare_model_equals_t5x():
  params = read_params(fixture_path("params.npz"))
  actual = jax.jit(T5(build_model().config).apply)(
    {"params": params},
    first_batch()["encoder_input_tokens"],
    first_batch()["decoder_input_tokens"],
  )
  wanted = at_targets(reference()["noprompt/logits"])
  assert relative_error(at_targets(actual), wanted) <= F32_BOUND


@pytest.mark.parametrize("num_decodes", [1, 4])
def test_beam_search_equals_t5x(num_decodes):
  generator = Generator(
    build_model(),
    max_decode_length=8,
    decoder=BeamSearch(num_decodes=num_decodes, alpha=0.6),
  )
  decodes = generator.decode(prompted_params(), batch_with_slots("prefix"))
  tag = f"decode/beam{num_decodes}"
  np.testing.assert_array_equal(decodes.tokens, reference()[f"{tag}/tokens"])
  np.testing.assert_allclose(
    decodes.scores, reference()[f"{tag}/scores"], atol=1e-4, rtol=0
  )


def test_scores_equal_t5x():
  run = compiled("float32")
  results = run(prompted_params(), batch_with_slots("prefix"))
  scores = sequence_log_likelihood(
    results["logits"],
    first_batch()["decoder_target_tokens"],
    first_batch()["decoder_loss_weights"],
  )
  np.testing.assert_allclose(
    scores, reference()["score_batch"], atol=1e-4, rtol=0
  )
