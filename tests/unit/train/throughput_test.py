"""Tests of rates and FLOPs."""

import jax
import jax.numpy as jnp
import pytest

from prompt_tuning.model import t5
from prompt_tuning.prompts.module import Prompt, PromptAttention
from prompt_tuning.testing import fakes
from prompt_tuning.train import throughput
from prompt_tuning.train.throughput import Gradients, Meter, Peak

B, L, T = 3, 40, 24


def _wide_model(**overrides):
  # Wide enough that what is no matrix product hardly counts.
  sizes = {"embed_dim": 256, "num_heads": 4, "head_dim": 48, "mlp_dim": 640}
  sizes |= {"vocab_size": 2048, "num_decoder_layers": 3} | overrides
  return fakes.tiny_model(**sizes)


def _counted_by_xla(function, *args):
  return jax.jit(function).lower(*args).cost_analysis()["flops"]


@pytest.mark.parametrize(
  "overrides",
  [{}, {"mlp_activations": ("relu",)}, {"num_encoder_layers": 5}],
  ids=str,
)
def test_forward_flops_agree_with_the_compiler(overrides):
  model = _wide_model(**overrides)
  counted = _counted_by_xla(
    lambda p, x, y: model.apply({"params": p}, x, y),
    t5.abstract_params(model),
    jax.ShapeDtypeStruct((B, L), jnp.int32),
    jax.ShapeDtypeStruct((B, T), jnp.int32),
  )
  products = throughput.batch_products(
    model.config, batch_size=B, inputs_length=L, targets_length=T
  )
  assert products.forward_flops == pytest.approx(counted, rel=0.02)


@pytest.mark.parametrize("attention", PromptAttention)
def test_prompt_tuning_flops_agree_with_the_compiler(attention):
  length = 30
  is_apart = attention is PromptAttention.PREFIX
  # So deep that what the lowest layers need no gradient of hardly counts.
  model = _wide_model(
    num_encoder_layers=10,
    prompt=Prompt(
      length, 256, jax.nn.initializers.normal(), attention=attention
    ),
  )
  inputs_length = L if is_apart else L + length

  def loss(prompt, frozen, x, y):
    return model.apply({"params": frozen | {"prompt": prompt}}, x, y).sum()

  params = dict(t5.abstract_params(model))
  counted = _counted_by_xla(
    jax.grad(loss),
    params.pop("prompt"),
    params,
    jax.ShapeDtypeStruct((B, inputs_length), jnp.int32),
    jax.ShapeDtypeStruct((B, T), jnp.int32),
  )
  products = throughput.batch_products(
    model.config,
    batch_size=B,
    inputs_length=inputs_length,
    targets_length=T,
    num_compiled=int(is_apart),
    compiled_length=length if is_apart else 0,
  )
  flops = products.step_flops(Gradients.ACTIVATIONS)
  assert flops == pytest.approx(counted, rel=0.05)
  assert flops > 2 * products.forward_flops


def test_model_tuning_costs_three_forward_passes():
  model = _wide_model()

  def loss(params, x, y):
    return model.apply({"params": params}, x, y).sum()

  counted = _counted_by_xla(
    jax.grad(loss),
    t5.abstract_params(model),
    jax.ShapeDtypeStruct((B, L), jnp.int32),
    jax.ShapeDtypeStruct((B, T), jnp.int32),
  )
  flops = throughput.batch_products(
    model.config, batch_size=B, inputs_length=L, targets_length=T
  ).step_flops(Gradients.ACTIVATIONS_AND_WEIGHTS)
  assert flops == pytest.approx(counted, rel=0.05)


class Clock:
  """Seconds that only pass when told."""

  def __init__(self):
    self.now = 100.0

  def __call__(self):
    return self.now


def test_rates_leave_pauses_out():
  clock = Clock()
  meter = Meter(clock=clock)
  for _ in range(4):
    clock.now += 0.5
    meter.count(examples=8, tokens=100)
  with meter.paused():
    clock.now += 1000.0
  assert meter.read() == {
    "steps_per_second": pytest.approx(2.0),
    "examples_per_second": pytest.approx(16.0),
    "tokens_per_second": pytest.approx(200.0),
  }


def test_a_reading_starts_a_new_window():
  clock = Clock()
  meter = Meter(clock=clock)
  meter.count(examples=1, tokens=1)
  clock.now += 1.0
  meter.read()
  assert meter.read() == {}
  clock.now += 4.0
  meter.count(examples=1, tokens=1)
  assert meter.read()["steps_per_second"] == pytest.approx(0.25)


def test_utilization_is_a_fraction_of_the_peak_of_all_devices():
  clock = Clock()
  peak = Peak(flops_per_second=1e12, num_devices=2)
  meter = Meter(step_flops=5e11, peak=peak, clock=clock)
  clock.now += 0.5
  meter.count(examples=1, tokens=1)
  assert meter.read()["model_flops_utilization"] == pytest.approx(0.5)


@pytest.mark.parametrize("arguments", [(0.0, 1), (-1.0, 1), (1e12, 0)])
def test_a_peak_must_be_positive(arguments):
  with pytest.raises(ValueError, match="positive"):
    Peak(*arguments)


def test_tokens_are_counted_without_padding():
  batch = {
    "encoder_input_tokens": [[70, 5, 1, 0], [71, 1, 0, 0]],
    "decoder_loss_weights": [[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]],
  }
  assert throughput.count_tokens(batch) == 5 + 3
