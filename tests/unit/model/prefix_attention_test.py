"""A prompt computed once equals one that stands in every row behind a mask.

The other side of the comparison is the ordinary network with slots among its
tokens, and a mask that hides the inputs from the slots.
"""

import functools

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from prompt_tuning.evaluate.generation import BeamSearch, Generator, Greedy
from prompt_tuning.evaluate.prompt_compiler import PromptCompiler
from prompt_tuning.evaluate.rank_classification import (
  RankClassifier,
  Verbalizers,
)
from prompt_tuning.model.scoring import score_candidates
from prompt_tuning.prompts.module import Prompt, PromptAttention, PromptBank
from prompt_tuning.testing import fakes
from prompt_tuning.train.step import batch_loss

LENGTH = 5
TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}
T5_1_0 = {"mlp_activations": ("relu",), "tie_embeddings": True}


def _models(num_prompts, **overrides):
  """The same network, its prompt apart or among the tokens."""

  def model(attention):
    settings = {
      "length": LENGTH,
      "features": fakes.EMBED_DIM,
      "initializer": jax.nn.initializers.normal(1.0),
      "attention": attention,
    }
    prompt = (
      Prompt(**settings)
      if num_prompts == 1
      else PromptBank(num_prompts=num_prompts, **settings)
    )
    return fakes.tiny_model(prompt, **overrides)

  return model(PromptAttention.PREFIX), model(PromptAttention.FULL)


def _batch(num_prompts, **settings):
  batch = fakes.tiny_batch(np.random.default_rng(5), **settings)
  if num_prompts > 1:
    rows = len(batch["encoder_input_tokens"])
    batch["prompt_index"] = np.arange(rows, dtype=np.int32)[::-1] % num_prompts
  return batch


def _with_slots(batch):
  """The rows with their slots in front."""
  tokens = batch["encoder_input_tokens"]
  index = batch.get("prompt_index", np.zeros(len(tokens), np.int32))
  slots = fakes.VOCAB_SIZE + index[:, None] * LENGTH + np.arange(LENGTH)
  return np.concatenate([slots, tokens], axis=1).astype(np.int32)


def _encode_masked(module, rows):
  is_slot = rows >= fakes.VOCAB_SIZE
  mask = (rows > 0)[:, None, :] & (is_slot[:, None, :] | ~is_slot[:, :, None])
  encoded, _ = module.encoder(
    module.embed(rows),
    mask=mask[:, None],
    positions=jnp.arange(rows.shape[1])[None],
    deterministic=True,
  )
  return encoded


def _masked(module, rows, decoder_input_tokens):
  encoded = _encode_masked(module, rows)
  return module.decode(decoder_input_tokens, encoded, rows)


def _masked_logits(model, params, batch):
  apply = jax.jit(functools.partial(model.apply, method=_masked))
  rows = _with_slots(batch)
  return apply({"params": params}, rows, batch["decoder_input_tokens"])


def _logits(model, params, batch):
  return jax.jit(model.apply)(
    {"params": params},
    batch["encoder_input_tokens"],
    batch["decoder_input_tokens"],
    prompt_index=batch.get("prompt_index"),
  )


@pytest.mark.slow_after(2)
@pytest.mark.parametrize("num_prompts", [1, 3])
@pytest.mark.parametrize("overrides", [{}, T5_1_0], ids=["1.1", "1.0"])
def test_it_equals_the_masked_computation(num_prompts, overrides):
  apart, among = _models(num_prompts, **overrides)
  params = fakes.tiny_params(apart)
  batch = _batch(num_prompts)
  expected = _masked_logits(among, params, batch)
  np.testing.assert_allclose(
    _logits(apart, params, batch), expected, **TOLERANCE
  )
  # The mask matters: soft tokens that see the input give other numbers.
  full = jax.jit(among.apply)(
    {"params": params}, _with_slots(batch), batch["decoder_input_tokens"]
  )
  assert np.max(np.abs(full - expected)) > 1e-2


@pytest.mark.parametrize("num_prompts", [1, 3])
def test_gradients_equal_those_of_the_masked_computation(num_prompts):
  apart, among = _models(num_prompts)
  params = fakes.tiny_params(apart)
  batch = _batch(num_prompts)
  direction = np.random.default_rng(0).normal(
    size=(*batch["decoder_input_tokens"].shape, fakes.VOCAB_SIZE)
  )

  def gradient(logits_of, model):
    return jax.jit(
      jax.grad(
        lambda params: jnp.sum(logits_of(model, params, batch) * direction)
      )
    )(params)

  jax.tree.map(
    lambda ours, masked: np.testing.assert_allclose(
      ours, masked, rtol=1e-3, atol=1e-4 * np.max(np.abs(masked))
    ),
    gradient(_logits, apart),
    gradient(_masked_logits, among),
  )


def test_bfloat16_is_as_near_as_its_rounding_allows():
  apart, among = _models(1, dtype="bfloat16")
  exact, _ = _models(1)
  params = fakes.tiny_params(apart)
  batch = _batch(1)
  expected = _logits(exact, params, batch)
  ours = np.max(np.abs(_logits(apart, params, batch) - expected))
  masked = np.max(np.abs(_masked_logits(among, params, batch) - expected))
  assert ours < 2 * masked


def test_padding_changes_nothing():
  apart, _ = _models(3)
  params = fakes.tiny_params(apart)
  batch = _batch(3)
  longer = dict(batch)
  longer["encoder_input_tokens"] = np.pad(
    batch["encoder_input_tokens"], [(0, 0), (0, 7)]
  )
  np.testing.assert_allclose(
    _logits(apart, params, longer), _logits(apart, params, batch), **TOLERANCE
  )


def test_segments_of_a_packed_row_equal_rows_of_their_own():
  apart, _ = _models(1)
  params = fakes.tiny_params(apart)
  batch = _batch(1, batch_size=2)
  inputs = [row[row > 0] for row in batch["encoder_input_tokens"]]
  steps = batch["decoder_input_tokens"].shape[1]
  packed = jax.jit(apart.apply)(
    {"params": params},
    np.concatenate(inputs)[None],
    batch["decoder_input_tokens"].reshape(1, -1),
    encoder_segment_ids=np.repeat([1, 2], [len(r) for r in inputs])[None],
    encoder_positions=np.concatenate([np.arange(len(r)) for r in inputs])[None],
    decoder_segment_ids=np.repeat([1, 2], steps)[None],
    decoder_positions=np.tile(np.arange(steps), 2)[None],
  )
  np.testing.assert_allclose(
    np.reshape(packed, (2, steps, -1)),
    _logits(apart, params, batch),
    **TOLERANCE,
  )


@pytest.mark.parametrize("num_prompts", [1, 3])
def test_candidates_score_as_in_the_masked_computation(num_prompts):
  apart, among = _models(num_prompts)
  params = fakes.tiny_params(apart)
  batch = _batch(num_prompts)
  candidates = np.array([[7, 1, 0], [8, 9, 1]], np.int32)

  @jax.jit
  def score(params, prompt_index):
    prompt = apart.apply({"params": params}, method="compile_prompt")
    return score_candidates(
      apart,
      params,
      batch["encoder_input_tokens"],
      candidates,
      prompt=prompt.for_rows(prompt_index),
    )

  scores = score(params, batch.get("prompt_index"))
  for column, candidate in enumerate(candidates):
    rows = len(batch["encoder_input_tokens"])
    target = np.tile(candidate, (rows, 1))
    shifted = np.pad(target[:, :-1], [(0, 0), (1, 0)])
    logits = _masked_logits(
      among, params, batch | {"decoder_input_tokens": shifted}
    )
    log_probs = jax.nn.log_softmax(logits)
    picked = np.take_along_axis(np.asarray(log_probs), target[..., None], -1)
    expected = np.sum(picked[..., 0] * (target > 0), axis=-1)
    np.testing.assert_allclose(scores[:, column], expected, rtol=1e-4)


@pytest.mark.parametrize("num_prompts", [1, 3])
def test_cached_steps_write_what_the_masked_computation_finds(num_prompts):
  apart, among = _models(num_prompts)
  params = fakes.tiny_params(apart)
  batch = _batch(num_prompts)
  generator = Generator(apart, max_decode_length=4, decoder=Greedy())
  written = np.asarray(generator.predict(params, batch))
  shifted = np.pad(written[:, :-1], [(0, 0), (1, 0)])
  logits = _masked_logits(
    among, params, batch | {"decoder_input_tokens": shifted}
  )
  best = np.argmax(logits, axis=-1)
  assert np.array_equal(written, np.where(written > 0, best, 0))
  assert (written > 0).sum() > len(written)


def test_one_beam_is_greedy_for_every_prompt_of_a_mixed_batch():
  apart, _ = _models(3)
  params = fakes.tiny_params(apart)
  batch = _batch(3)
  greedy, beam = (
    Generator(apart, max_decode_length=4, decoder=decoder).predict(
      params, batch
    )
    for decoder in (Greedy(), BeamSearch(num_decodes=1))
  )
  assert np.array_equal(greedy, beam)


@pytest.mark.parametrize("decoder", [Greedy(), BeamSearch(num_decodes=2)])
def test_a_mixed_batch_reads_each_rows_prompt(decoder):
  bank, _ = _models(3)
  params = fakes.tiny_params(bank)
  batch = _batch(3)
  mixed = Generator(bank, max_decode_length=4, decoder=decoder).predict(
    params, batch
  )
  alone, _ = _models(1)
  generator = Generator(alone, max_decode_length=4, decoder=decoder)
  for row, index in enumerate(batch["prompt_index"]):
    embedding = params["prompt"]["embedding"][index]
    own = params | {"prompt": {"embedding": embedding}}
    one = {"encoder_input_tokens": batch["encoder_input_tokens"][[row]]}
    assert np.array_equal(generator.predict(own, one)[0], mixed[row])


def test_a_prompt_is_compiled_anew_for_other_parameters_only():
  apart, among = _models(1)
  params = fakes.tiny_params(apart)
  compiler = PromptCompiler(apart)
  first = compiler(params)
  assert compiler(dict(params)) is first
  changed = params | {
    "prompt": {"embedding": params["prompt"]["embedding"] + 1.0}
  }
  again = compiler(changed)
  assert again is not first
  assert np.any(again.cross[0].keys != first.cross[0].keys)
  assert PromptCompiler(among)(params) is None


def test_a_request_does_not_compute_the_prompt():
  """Compiled FLOPs of ranking, a prompt of 50 against none at all."""
  bare = fakes.tiny_model()
  apart = fakes.tiny_model(
    Prompt(
      length=50,
      features=fakes.EMBED_DIM,
      initializer=jax.nn.initializers.normal(1.0),
      attention=PromptAttention.PREFIX,
    )
  )
  tokens = _batch(1)["encoder_input_tokens"]
  candidates = np.array([[7, 1]], np.int32)

  def flops(model):
    params = fakes.tiny_params(model)
    prompt = PromptCompiler(model)(params)
    compiled = jax.jit(
      lambda params, prompt: score_candidates(
        model, params, tokens, candidates, prompt=prompt
      )
    ).lower(params, prompt)
    return compiled.compile().cost_analysis()["flops"]

  # All that is added is attention to 50 more keys: scores, softmax and means.
  width = bare.config.num_heads * bare.config.head_dim
  queries = tokens.size * bare.config.num_encoder_layers + (
    tokens.shape[0] * 2 * bare.config.num_decoder_layers
  )
  products = 4 * queries * 50 * width
  softmax = 12 * queries * 50 * bare.config.num_heads
  assert flops(apart) - flops(bare) < 1.2 * (products + softmax)


def test_dropout_drops_of_the_prompt_too():
  apart, _ = _models(1, dropout_rate=0.5)
  params = fakes.tiny_params(apart)
  batch = _batch(1)
  loss = jax.jit(
    lambda key: batch_loss(apart, params, batch, dropout_rng=key).loss
  )
  losses = {
    float(loss(key)) for key in (None, jax.random.key(0), jax.random.key(1))
  }
  assert len(losses) == 3


@pytest.mark.parametrize("rows", [None, [0], [0, 1, 2]])
def test_a_compiled_bank_needs_an_index_for_each_row(rows):
  apart, _ = _models(3)
  params = fakes.tiny_params(apart)
  prompt = PromptCompiler(apart)(params)
  index = None if rows is None else np.array(rows, np.int32)
  with pytest.raises(ValueError, match=r"each of the 4 rows .* got"):
    jax.eval_shape(
      lambda: apart.apply(
        {"params": params},
        _batch(3)["encoder_input_tokens"],
        prompt=prompt.for_rows(index),
        method="encode",
      )
    )


def test_rows_must_name_their_prompt():
  apart, _ = _models(3)
  params = fakes.tiny_params(apart)
  batch = _batch(3)
  del batch["prompt_index"]
  with pytest.raises(ValueError, match=r"3 prompts .* as `prompt_index`"):
    _logits(apart, params, batch)
  classifier = RankClassifier(
    apart, Verbalizers(texts=("a", "b"), tokens=((7,), (8,)))
  )
  with pytest.raises(ValueError, match=r"3 prompts .* as `prompt_index`"):
    classifier.rank(params, batch)


@pytest.mark.parametrize("index", [3, -1])
def test_a_prompt_that_the_bank_does_not_have_poisons_its_row_only(index):
  apart, _ = _models(3)
  params = fakes.tiny_params(apart)
  batch = _batch(3)
  batch["prompt_index"] = np.array([0, index, 1, 2], np.int32)
  is_nan = np.isnan(_logits(apart, params, batch)).any(axis=(1, 2))
  assert is_nan.tolist() == [False, True, False, False]


def test_slots_among_the_tokens_do_not_go_unnoticed():
  apart, _ = _models(1)
  params = fakes.tiny_params(apart)
  batch = _batch(1)
  batch["encoder_input_tokens"] = _with_slots(batch)
  assert np.isnan(_logits(apart, params, batch)).all()


def test_encoding_without_the_compiled_prompt_is_an_error():
  apart, _ = _models(1)
  params = fakes.tiny_params(apart)
  with pytest.raises(ValueError, match=r"pass what compile_prompt\(\) returns"):
    apart.apply(
      {"params": params}, _batch(1)["encoder_input_tokens"], method="encode"
    )
