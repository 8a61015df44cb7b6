import functools

import jax
import numpy as np
import pytest

from benchmarks import flops, sizes
from benchmarks.flops import Mode, Products
from benchmarks.jobs import Job, make_batches
from prompt_tuning.model.config import T5Config
from prompt_tuning.testing import fakes
from prompt_tuning.train import throughput

SIZES = {
  "vocab_size": 64,
  "embed_dim": 16,
  "num_heads": 8,
  "head_dim": 4,
  "mlp_dim": 32,
  "num_encoder_layers": 2,
  "num_decoder_layers": 3,
}


def job(kind="train_step", **settings):
  sizes_ = settings.pop("sizes", SIZES)
  return Job(
    kind=kind,
    sizes=sizes_,
    **{"prompt_length": 5, "batch_size": 4, "targets_length": 3} | settings,
  )


def small(**settings):
  shape = sizes.read("small", vocab_size=32128)
  return job(sizes=shape, prompt_length=100, targets_length=8, **settings)


@pytest.mark.parametrize(
  ("mode", "slots", "apart", "gradients"),
  [
    (Mode.FULL, 5, 0, throughput.Gradients.ACTIVATIONS),
    (Mode.PREFIX, 0, 5, throughput.Gradients.ACTIVATIONS),
    (Mode.MODEL, 0, 0, throughput.Gradients.ACTIVATIONS_AND_WEIGHTS),
  ],
)
def test_a_step_agrees_with_what_runs_log(mode, slots, apart, gradients):
  floor = flops.forward(job(inputs_length=11), [11] * 4, mode)
  logged = throughput.batch_products(
    T5Config(**SIZES),
    batch_size=4,
    inputs_length=11 + slots,
    targets_length=3,
    num_compiled=int(apart > 0),
    compiled_length=apart,
  )
  assert floor.forward_flops == logged.forward_flops
  assert floor.train_flops(mode) == logged.step_flops(gradients)


def test_forward_agrees_with_what_is_compiled():
  model = fakes.tiny_model()
  tokens = np.ones((4, 40), np.int32)
  compiled = (
    jax.jit(lambda params: model.apply({"params": params}, tokens, tokens))
    .lower(fakes.tiny_params(model))
    .compile()
  )
  settings = {"num_decoder_layers": 2}
  products = flops.forward(
    job(sizes=SIZES | settings, targets_length=40), [40] * 4, Mode.MODEL
  )
  counted = compiled.cost_analysis()["flops"]
  # What is no matrix product, norms and softmax, is much at so small a width.
  assert products.forward_flops < counted < 1.5 * products.forward_flops


def test_a_frozen_weight_saves_one_of_three_products():
  products = Products(weights=1000, attention=10)
  assert products.forward_flops == 2020
  assert products.train_flops(Mode.FULL) == 2 * (2 * 1000 + 3 * 10)
  assert products.train_flops(Mode.PREFIX) == products.train_flops(Mode.FULL)
  assert products.train_flops(Mode.MODEL) == 3 * products.forward_flops


def test_prompt_tuning_needs_a_little_more_than_two_forward_passes():
  products = flops.forward(small(), [128] * 32, Mode.FULL)
  ratio = products.train_flops(Mode.FULL) / products.forward_flops
  assert ratio == pytest.approx(2.059, abs=0.001)


def test_floor_counts_no_padding():
  lengths = ((3, 2), (9, 1))
  padded = job(lengths=lengths, inputs_length=16)
  tight = job(lengths=lengths, inputs_length=16, length_multiple=1)
  count = functools.partial(flops.step_flops, mode=Mode.FULL)
  for one, other in zip(make_batches(padded), make_batches(tight), strict=True):
    assert one.inputs.shape[1] == 16
    assert other.inputs.shape[1] < 16
    assert count(padded, one) == count(tight, other)


def test_prefix_mode_shares_the_prompt_over_the_batch():
  def train(batch_size):
    sizes_ = small(batch_size=batch_size)
    return flops.forward(sizes_, [128] * batch_size, Mode.PREFIX)

  one, two, three = (train(n).weights for n in (1, 2, 3))
  assert two - one == three - two  # Each example costs the same,
  bare = flops.forward(small(), [128], Mode.MODEL).weights
  assert two - one == bare  # which is what the bare model costs,
  assert one > bare  # and the prompt comes once on top.


@pytest.mark.parametrize("mode", [Mode.FULL, Mode.PREFIX])
def test_many_prompts_need_what_one_needs_many_times(mode):
  one = job(inputs_length=11)
  many = job("many_prompts", num_prompts=3, inputs_length=11)
  counts = (
    flops.step_flops(each, make_batches(each)[0], mode) for each in (one, many)
  )
  assert 3 * next(counts) == next(counts)


def test_prefix_mode_predicts_at_the_products_of_the_bare_model():
  decode = small(kind="decode")
  prefix = flops.forward(decode, [128] * 4, Mode.PREFIX)
  bare = flops.forward(decode, [128] * 4, Mode.MODEL)
  assert prefix.weights == bare.weights
  assert prefix.attention > bare.attention


def test_verbalizers_are_scored_on_one_encoding():
  two, four = (
    flops.forward(job("eval", num_verbalizers=n), [11], Mode.FULL)
    for n in (2, 4)
  )
  decoder = flops.decoder(SIZES, 3, 11 + 5)
  assert four.weights - two.weights == 2 * decoder.weights
  assert two.weights < four.weights < 2 * two.weights
