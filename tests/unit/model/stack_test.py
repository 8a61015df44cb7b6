"""Scanned or rematerialised layers compute what layers in turn do."""

import functools

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from prompt_tuning.evaluate.generation import BeamSearch, Generator, Greedy
from prompt_tuning.model import t5
from prompt_tuning.model.stack import stack_layers, unstack_layers
from prompt_tuning.prompts.module import Prompt, PromptAttention, PromptBank
from prompt_tuning.testing import fakes
from prompt_tuning.train.step import batch_loss

LENGTH = 3
LAYERS = {"num_encoder_layers": 2, "num_decoder_layers": 2}
TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}


def _model(attention, *, num_prompts=1, **overrides):
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
  return fakes.tiny_model(prompt, **(LAYERS | overrides))


def _batch(attention):
  slots = LENGTH if attention is PromptAttention.FULL else 0
  return fakes.tiny_batch(np.random.default_rng(1), prompt_length=slots)


def test_stacked_parameters_are_those_of_the_scanned_model():
  params = fakes.tiny_params(_model(PromptAttention.FULL))
  scanned = t5.abstract_params(_model(PromptAttention.FULL, scan_layers=True))
  stacked = stack_layers(params)
  assert jax.tree.map(jnp.shape, stacked) == jax.tree.map(jnp.shape, scanned)
  back = unstack_layers(stacked)
  assert jax.tree.structure(back) == jax.tree.structure(params)
  jax.tree.map(np.testing.assert_array_equal, back, params)
  assert unstack_layers(params).keys() == params.keys()


def test_more_than_ten_layers_stay_in_their_order():
  layers = {
    f"layers_{index}": {"scale": np.array(index)} for index in range(11)
  }
  stacked = stack_layers({"encoder": layers, "decoder": layers})
  assert stacked["encoder"]["layers"]["scale"].tolist() == list(range(11))


def test_every_stacked_parameter_has_an_axis_of_layers():
  axes = t5.logical_axes(_model(PromptAttention.FULL, scan_layers=True))
  layer = axes["encoder"]["layers"]
  assert layer["mlp"]["wo"]["kernel"] == ("layers", "mlp", "embed")
  assert layer["pre_mlp_layer_norm"]["scale"] == ("layers", "embed")


@pytest.mark.parametrize(
  ("attention", "how"),
  [
    (PromptAttention.FULL, {"scan_layers": True}),
    (PromptAttention.PREFIX, {"scan_layers": True, "remat": "layer"}),
  ],
)
def test_loss_and_gradients_are_those_of_layers_in_turn(attention, how):
  num_prompts = 2 if attention is PromptAttention.PREFIX else 1
  plain = _model(attention, num_prompts=num_prompts)
  other = _model(attention, num_prompts=num_prompts, **how)
  params = fakes.tiny_params(plain)
  batch = _batch(attention) | {"prompt_index": np.array([1, 0, 1, 1], np.int32)}

  def loss_and_gradients(model, params):
    loss = jax.value_and_grad(lambda p: batch_loss(model, p, batch).loss)
    return jax.jit(loss)(params)

  expected = loss_and_gradients(plain, params)
  if other.config.scan_layers:
    loss, gradients = loss_and_gradients(other, stack_layers(params))
    found = loss, unstack_layers(gradients)
  else:
    found = loss_and_gradients(other, params)
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(
      x, y, rtol=1e-4, atol=1e-5 * np.max(np.abs(y))
    ),
    found,
    expected,
  )


@pytest.mark.parametrize(
  ("attention", "decoder"),
  [
    (PromptAttention.FULL, Greedy()),
    (PromptAttention.PREFIX, BeamSearch(num_decodes=2)),
  ],
)
def test_a_scanned_model_writes_the_same(attention, decoder):
  batch = _batch(attention)
  params = fakes.tiny_params(_model(attention))

  def written(params, **how):
    generator = Generator(
      _model(attention, **how), max_decode_length=4, decoder=decoder
    )
    return generator.decode(params, batch)

  scanned = written(stack_layers(params), scan_layers=True)
  plain = written(params)
  np.testing.assert_array_equal(scanned.tokens, plain.tokens)
  np.testing.assert_allclose(scanned.scores, plain.scores, **TOLERANCE)


def test_dropout_drops_by_the_key():
  how = {"scan_layers": True, "remat": "layer"}
  model = _model(PromptAttention.FULL, dropout_rate=0.5, **how)
  params = t5.init_params(model, jax.random.key(0))
  batch = _batch(PromptAttention.FULL)
  loss = jax.jit(
    lambda key: batch_loss(model, params, batch, dropout_rng=key).loss
  )
  losses = {float(loss(key)) for key in (jax.random.key(0), jax.random.key(1))}
  assert len(losses) == 2
  assert float(loss(jax.random.key(1))) in losses


def test_rematerialisation_keeps_less():
  """Bytes that the backward pass of a deep model is left with."""
  batch = fakes.tiny_batch(
    np.random.default_rng(1), prompt_length=LENGTH, inputs_length=64
  )

  def temporary_bytes(remat):
    model = _model(
      PromptAttention.FULL,
      num_encoder_layers=12,
      scan_layers=True,
      remat=remat,
    )
    params = t5.abstract_params(model)
    grad = jax.grad(
      lambda prompt, rest: (
        batch_loss(model, {**rest, "prompt": prompt}, batch).loss
      )
    )
    rest = {k: v for k, v in params.items() if k != "prompt"}
    compiled = jax.jit(grad).lower(params["prompt"], rest).compile()
    return compiled.memory_analysis().temp_size_in_bytes

  assert temporary_bytes("layer") < 0.8 * temporary_bytes("none")


def test_a_scan_is_compiled_once_whatever_its_depth():
  def lines(num_layers):
    model = _model(
      PromptAttention.FULL, num_encoder_layers=num_layers, scan_layers=True
    )
    params = t5.abstract_params(model)
    batch = _batch(PromptAttention.FULL)
    lowered = jax.jit(functools.partial(batch_loss, model)).lower(params, batch)
    return len(lowered.as_text().splitlines())

  assert lines(12) == lines(4)
