"""Prefixes are read as keys and values, and what trained them folds away."""

import dataclasses

import jax
import numpy as np
import pytest

from prompt_tuning.evaluate.generation import BeamSearch, Generator, Greedy
from prompt_tuning.methods.prefix_tuning import PrefixTuning, fold
from prompt_tuning.model import t5
from prompt_tuning.model.attention import relative_position_buckets
from prompt_tuning.prompts.module import PromptAttention
from prompt_tuning.testing import fakes
from prompt_tuning.train import partition

METHOD = PrefixTuning(length=3, hidden=5)


def _params(model):
  bare = fakes.tiny_params(model.clone(method=None))
  return partition.merge(t5.method_params(model, jax.random.key(2)), bare)


def _logits(model, params, batch):
  return jax.jit(model.apply)(
    {"params": params},
    batch["encoder_input_tokens"],
    batch["decoder_input_tokens"],
  )


@pytest.mark.parametrize("scan_layers", [False, True])
def test_a_folded_prefix_computes_the_same(scan_layers):
  model = fakes.tiny_model(scan_layers=scan_layers).clone(method=METHOD)
  params = _params(model)
  batch = fakes.tiny_batch(np.random.default_rng(0))
  direct, folded = fold(METHOD, model.config, params)
  assert direct == dataclasses.replace(METHOD, hidden=None)
  np.testing.assert_allclose(
    _logits(model.clone(method=direct), folded, batch),
    _logits(model, params, batch),
    rtol=1e-5,
    atol=1e-5,
  )
  assert fold(direct, model.config, folded) == (direct, folded)


def test_logits_equal_those_of_numpy():
  """One layer of each stack, written down from the paper."""
  config = {"num_encoder_layers": 1, "num_decoder_layers": 1}
  model = fakes.tiny_model(None, **config).clone(
    method=PrefixTuning(length=3, hidden=None)
  )
  params = jax.tree.map(np.asarray, _params(model))
  batch = fakes.tiny_batch(np.random.default_rng(0), batch_size=1)
  inputs = batch["encoder_input_tokens"][0]
  inputs = inputs[inputs > 0]
  targets = batch["decoder_input_tokens"][0]
  wanted = _numpy_logits(model.config, params, inputs, targets)
  actual = jax.jit(model.apply)({"params": params}, inputs[None], targets[None])
  np.testing.assert_allclose(actual[0], wanted, rtol=1e-4, atol=1e-4)


def _numpy_logits(config, params, inputs, targets):
  heads, width = config.num_heads, config.head_dim
  table = params["token_embedder"]["embedding"]

  def norm(x, layer):
    root = np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + 1e-6)
    return x / root * layer["scale"]

  def bias(stack, queries, keys, is_causal):
    distances = np.arange(keys)[None, :] - np.arange(queries)[:, None]
    buckets = np.array(t5_buckets(distances, bidirectional=not is_causal))
    rows = params[stack]["relpos_bias"]["rel_embedding"][:, buckets]
    return np.where(is_causal & (distances > 0), -np.inf, rows)

  def attend(x, context, layer, prefix, scores_bias):
    def split(x):
      return x.reshape(len(x), heads, width)

    keys, values = prefix[0]  # Of the only layer, [P, H, K] each.
    own = [split(context @ layer[n]["kernel"]) for n in ("key", "value")]
    keys = np.concatenate([keys, own[0]])
    values = np.concatenate([values, own[1]])
    queries = split(x @ layer["query"]["kernel"])
    scores = np.einsum("qhk,mhk->hqm", queries, keys)
    scores += np.pad(scores_bias, [(0, 0), (0, 0), (3, 0)])
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    weights = powers / powers.sum(-1, keepdims=True)
    mixed = np.einsum("hqm,mhk->qhk", weights, values)
    return mixed.reshape(len(x), -1) @ layer["out"]["kernel"]

  def feed_forward(x, layer):
    gate = x @ layer["wi_0"]["kernel"]
    gate = np.asarray(jax.nn.gelu(gate, approximate=True))
    return (gate * (x @ layer["wi_1"]["kernel"])) @ layer["wo"]["kernel"]

  prefix = {
    name: part["keys_values"] for name, part in params["prefix"].items()
  }
  x, layer = table[inputs], params["encoder"]["layers_0"]
  y = norm(x, layer["pre_attention_layer_norm"])
  scores_bias = bias("encoder", len(x), len(x), False)
  x = x + attend(y, y, layer["attention"], prefix["encoder"], scores_bias)
  x = x + feed_forward(norm(x, layer["pre_mlp_layer_norm"]), layer["mlp"])
  encoded = norm(x, params["encoder"]["encoder_norm"])

  x, layer = table[targets], params["decoder"]["layers_0"]
  y = norm(x, layer["pre_self_attention_layer_norm"])
  scores_bias = bias("decoder", len(x), len(x), True)
  x = x + attend(y, y, layer["self_attention"], prefix["past"], scores_bias)
  y = norm(x, layer["pre_cross_attention_layer_norm"])
  x = x + attend(
    y,
    encoded,
    layer["encoder_decoder_attention"],
    prefix["cross"],
    np.zeros((heads, len(x), len(encoded))),
  )
  x = x + feed_forward(norm(x, layer["pre_mlp_layer_norm"]), layer["mlp"])
  x = norm(x, params["decoder"]["decoder_norm"])
  return x @ params["decoder"]["logits_dense"]["kernel"]


def t5_buckets(distances, *, bidirectional):
  return relative_position_buckets(
    distances, bidirectional=bidirectional, num_buckets=32, max_distance=128
  )


def test_beams_carry_the_prefix_along():
  model = fakes.tiny_model().clone(method=METHOD)
  params = _params(model)
  batch = fakes.tiny_batch(np.random.default_rng(0))
  greedy, beam = (
    Generator(model, max_decode_length=5, decoder=decoder)
    for decoder in (Greedy(), BeamSearch(num_decodes=1))
  )
  np.testing.assert_array_equal(
    greedy.predict(params, batch), beam.predict(params, batch)
  )


def test_it_stands_where_a_prompt_computed_apart_would():
  prompt = fakes.tiny_prompt().clone(attention=PromptAttention.PREFIX)
  model = fakes.tiny_model(prompt).clone(method=METHOD)
  with pytest.raises(ValueError, match="both the prefixes of a method and"):
    t5.abstract_params(model)


def test_encoding_without_the_compiled_prefix_is_refused():
  model = fakes.tiny_model().clone(method=METHOD)
  tokens = np.ones((1, 2), np.int32)
  with pytest.raises(ValueError, match=r"pass what compile_prompt\(\) returns"):
    model.apply({"params": _params(model)}, tokens, method="encode")
