"""What holds of every method: where it starts, what it trains, how it decodes.

That a method computes the right thing is the matter of the tests beside this
one, which compare with other implementations.
"""

import re

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from prompt_tuning.evaluate.prompt_compiler import PromptCompiler
from prompt_tuning.methods.adapters import Adapters
from prompt_tuning.methods.ia3 import IA3
from prompt_tuning.methods.label_head import LabelHead
from prompt_tuning.methods.layer_prompts import Combination, LayerPrompts
from prompt_tuning.methods.lora import LoRA
from prompt_tuning.methods.prefix_tuning import PrefixTuning
from prompt_tuning.model import t5
from prompt_tuning.model.method import Method
from prompt_tuning.model.stack import stack_layers
from prompt_tuning.testing import fakes
from prompt_tuning.train import optimizers, partition
from prompt_tuning.train.step import init_state, make_train_step

LENGTH = 4
METHODS = {
  "lora": LoRA(rank=2),
  "ia3": IA3(),
  "adapters": Adapters(width=3),
  "layer_prompts_add": LayerPrompts(num_slots=LENGTH),
  "layer_prompts_replace": LayerPrompts(
    num_slots=LENGTH, combination=Combination.REPLACE
  ),
  "label_head": LabelHead(labels=("a", "b"), tokens=(20, 21)),
  "prefix_tuning": PrefixTuning(length=3, hidden=5),
  "prefix_tuning_direct": PrefixTuning(length=3, hidden=None),
}
TRAINABLE = {
  "lora": ".*/lora/.*",
  "ia3": ".*/ia3/.*",
  "adapters": ".*/adapter/.*",
  "layer_prompts_add": ".*/prompt/.*",
  "layer_prompts_replace": ".*/prompt/.*",
  "label_head": "head/.*",
  "prefix_tuning": "prefix/.*",
  "prefix_tuning_direct": "prefix/.*",
}
STARTS_ELSEWHERE = {
  "layer_prompts_replace",
  "prefix_tuning",
  "prefix_tuning_direct",
}


def _model(name, **overrides):
  """A tiny T5 with a method, and a soft prompt where the method needs one."""
  prompt = fakes.tiny_prompt(LENGTH) if "layer_prompts" in name else None
  return fakes.tiny_model(prompt, **overrides).clone(method=METHODS.get(name))


def _batch(name):
  length = LENGTH if "layer_prompts" in name else 0
  return fakes.tiny_batch(np.random.default_rng(3), prompt_length=length)


def _params(name, *, moved=False, **overrides):
  """Parameters; a method's own are random numbers where it has `moved`."""
  model = _model(name, **overrides)
  bare = fakes.tiny_params(model.clone(method=None))
  own = t5.method_params(model, jax.random.key(7))
  if moved:
    rng = np.random.default_rng(1)
    own = jax.tree.map(
      lambda leaf: leaf + rng.normal(0, 0.3, leaf.shape).astype(np.float32), own
    )
  return partition.merge(own, bare)


def _logits(model, params, batch):
  return jax.jit(model.apply)(
    {"params": params},
    batch["encoder_input_tokens"],
    batch["decoder_input_tokens"],
  )


def _own(name):
  model = _model(name)
  key = jax.random.key(0)
  return partition.flatten(jax.eval_shape(lambda: t5.method_params(model, key)))


@pytest.mark.slow_after(2)
@pytest.mark.parametrize("name", sorted(METHODS.keys() - STARTS_ELSEWHERE))
def test_it_starts_at_the_frozen_model(name):
  model, params, batch = _model(name), _params(name), _batch(name)
  start = _logits(model, params, batch)
  frozen = _logits(model.clone(method=None), params, batch)
  np.testing.assert_array_equal(start, frozen)
  moved = _logits(model, _params(name, moved=True), batch)
  assert np.max(np.abs(moved - frozen)) > 1e-2


@pytest.mark.parametrize("name", METHODS)
def test_its_pattern_is_its_parameters(name):
  parts = partition.split(_params(name), [TRAINABLE[name]])
  assert partition.flatten(parts.trainable).keys() == _own(name).keys()


def test_parameter_counts():
  c = fakes.tiny_config()
  wide, layers = c.num_heads * c.head_dim, c.num_encoder_layers
  assert layers == c.num_decoder_layers
  expected = {
    # Query and value of three attentions.
    "lora": layers * 3 * 2 * 2 * (c.embed_dim + wide),
    # Keys and values of three attentions, two feed-forward layers.
    "ia3": layers * (3 * 2 * wide + 2 * c.mlp_dim),
    "adapters": layers * 5 * (2 * c.embed_dim * 3 + c.embed_dim + 3),
    "layer_prompts_add": layers * LENGTH * c.embed_dim,
    "layer_prompts_replace": layers * LENGTH * c.embed_dim,
    "label_head": 2 * c.embed_dim,
    "prefix_tuning": 3
    * (3 * c.embed_dim + 5 * (c.embed_dim + 1) + 6 * layers * 2 * wide),
    "prefix_tuning_direct": 3 * 3 * layers * 2 * wide,
  }
  counts = {
    name: sum(leaf.size for leaf in _own(name).values()) for name in METHODS
  }
  assert counts == expected


@pytest.mark.slow_after(3)
@pytest.mark.parametrize("name", METHODS)
def test_two_steps_change_all_of_it_and_nothing_else(name):
  model = _model(name)
  parts = partition.split(_params(name), [TRAINABLE[name]])
  optimizer = optimizers.adamw(
    learning_rate=optimizers.constant(learning_rate=0.01)
  )
  step = jax.jit(make_train_step(model, optimizer))
  state = init_state(parts.trainable, optimizer)
  # The first moves what starts at zero, without which the rest has no gradient.
  for _ in range(2):
    state, metrics = step(state, parts.frozen, _batch(name), jax.random.key(0))
    assert np.isfinite(metrics["loss"])
  before = partition.flatten(parts.trainable)
  after = partition.flatten(state.trainable)
  assert after.keys() == _own(name).keys()
  for path, leaf in after.items():
    assert np.any(leaf != before[path]), path


@pytest.mark.slow_after(3)
@pytest.mark.parametrize("name", METHODS)
def test_decoding_with_a_cache_equals_teacher_forcing(name):
  model, batch = _model(name), _batch(name)
  params = _params(name, moved=True)
  inputs, targets = (
    batch["encoder_input_tokens"],
    batch["decoder_input_tokens"],
  )
  prompt = PromptCompiler(model)(params)

  @jax.jit
  def decode(params, prompt):
    def apply(*args, **settings):
      return model.apply({"params": params}, *args, **settings)

    encoded = apply(inputs, prompt=prompt, method="encode")
    length = targets.shape[1]
    cache = apply(
      encoded,
      inputs,
      prompt=prompt,
      max_decode_length=length,
      method="start_cache",
    )
    steps = []
    for index in range(length):
      logits, cache = apply(targets[:, index], cache, method="decode_step")
      steps.append(logits)
    return jnp.stack(steps, axis=1)

  np.testing.assert_allclose(
    decode(params, prompt), _logits(model, params, batch), rtol=1e-4, atol=1e-4
  )


@pytest.mark.slow_after(3)
@pytest.mark.parametrize(
  ("name", "remat"), [*((name, "none") for name in METHODS), ("lora", "layer")]
)
def test_scanned_layers_equal_layers_in_turn(name, remat):
  batch, params = _batch(name), _params(name, moved=True)
  scanned = _model(name, scan_layers=True, remat=remat)
  stacked = stack_layers(params)
  np.testing.assert_allclose(
    _logits(scanned, stacked, batch),
    _logits(_model(name), params, batch),
    rtol=1e-4,
    atol=1e-5,
  )
  own = t5.method_params(scanned, jax.random.key(7))
  one_by_one = t5.method_params(_model(name), jax.random.key(7))
  jax.tree.map(np.testing.assert_array_equal, own, stack_layers(one_by_one))
  axes = partition.flatten(t5.logical_axes(scanned))
  for path, leaf in partition.flatten(stacked).items():
    assert len(axes[path]) == leaf.ndim, path


@pytest.mark.parametrize("scan_layers", [False, True])
def test_a_method_without_hooks_is_the_bare_program(scan_layers):
  model = fakes.tiny_model(
    fakes.tiny_prompt(), scan_layers=scan_layers, dropout_rate=0.1
  )
  params = t5.abstract_params(model)
  batch = fakes.tiny_batch(np.random.default_rng(0), prompt_length=LENGTH)

  def program(model):
    def logits(params, rng):
      return model.apply(
        {"params": params},
        batch["encoder_input_tokens"],
        batch["decoder_input_tokens"],
        deterministic=False,
        rngs={"dropout": rng},
      )

    compiled = jax.jit(logits).lower(params, jax.random.key(0)).compile()
    # Every operation with the shape of its result, without where it is from.
    text = compiled.as_text()
    assert text is not None
    return re.findall(r"^ *\S+ = (\S+ [\w-]+)\(", text, re.M)

  bare = program(model)
  assert len(bare) > 100
  assert bare == program(model.clone(method=Method()))
  unhooked = t5.abstract_params(model.clone(method=Method()))
  assert jax.tree.structure(params) == jax.tree.structure(unhooked)


@pytest.mark.parametrize(
  ("make", "said"),
  [
    (lambda: LoRA(rank=0), "LoRA.rank must be at least 1, got 0"),
    (lambda: Adapters(width=0), "Adapters.width must be at least 1, got 0"),
    (lambda: LabelHead(labels=()), "LabelHead.labels needs at least one"),
    (lambda: PrefixTuning(length=0), "PrefixTuning.length must be at least 1"),
    (lambda: PrefixTuning(hidden=0), "PrefixTuning.hidden must be at least 1"),
    (lambda: LayerPrompts(num_slots=0), "num_slots must be at least 1, got 0"),
    (
      lambda: LayerPrompts(num_slots=1, combination="mix"),
      "must be one of 'replace', 'add', got 'mix'",
    ),
  ],
)
def test_what_is_refused(make, said):
  with pytest.raises(ValueError, match=said):
    make()
