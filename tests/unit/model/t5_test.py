"""What must hold of the network whatever its weights are."""

import jax
import numpy as np
import pytest
from flax import traverse_util
from jax import numpy as jnp

from prompt_tuning.model import quantization, t5
from prompt_tuning.model.attention import relative_position_buckets
from prompt_tuning.model.config import T5Config
from prompt_tuning.prompts.module import Prompt, PromptAttention, PromptBank
from prompt_tuning.testing import fakes

TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}


def run(model, params, batch):
  apply = jax.jit(model.apply)
  return np.asarray(
    apply(
      {"params": params},
      batch["encoder_input_tokens"],
      batch["decoder_input_tokens"],
    )
  )


def batch_of(prompt_length=0, **settings):
  return fakes.tiny_batch(
    np.random.default_rng(3), prompt_length=prompt_length, **settings
  )


# Lester et al. (2021), table 4: totals without a prompt, and the percentages of
# prompts of 100 tokens. (It has 0.01907 for large, against its own numbers.)
SHARES = {
  "small": 0.06648,
  "base": 0.03101,
  "large": 0.01307,
  "xl": 0.00719,
  "xxl": 0.00368,
}
SIZES = {
  "small": (512, 6, 8, 1024, 76_961_152),
  "base": (768, 12, 12, 2048, 247_577_856),
  "large": (1024, 16, 24, 2816, 783_150_080),
  "xl": (2048, 32, 24, 5120, 2_849_757_184),
  "xxl": (4096, 64, 24, 10240, 11_135_332_352),
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("prompt_length", [0, 1, 5, 20, 50, 100, 150])
def test_parameter_counts_are_the_papers(size, prompt_length):
  embed_dim, num_heads, num_layers, mlp_dim, total = SIZES[size]
  config = T5Config(
    vocab_size=32128,
    embed_dim=embed_dim,
    num_heads=num_heads,
    head_dim=64,
    mlp_dim=mlp_dim,
    num_encoder_layers=num_layers,
    num_decoder_layers=num_layers,
  )
  prompt = Prompt(
    length=prompt_length,
    features=embed_dim,
    initializer=jax.nn.initializers.zeros,
  )
  params = t5.abstract_params(t5.T5(config, prompt=prompt))
  count = sum(leaf.size for leaf in jax.tree.leaves(params))
  assert count == total + prompt_length * embed_dim
  if prompt_length == 100:
    trained = params["prompt"]["embedding"].size
    assert round(100 * trained / count, 5) == SHARES[size]


# As transformers counts google-t5/t5-{small,base,large}.
@pytest.mark.parametrize(
  ("embed_dim", "num_heads", "num_layers", "total"),
  [
    (512, 8, 6, 60_506_624),
    (768, 12, 12, 222_903_552),
    (1024, 16, 24, 737_668_096),
  ],
)
def test_parameter_counts_of_t5_1_0(embed_dim, num_heads, num_layers, total):
  config = T5Config(
    vocab_size=32128,
    embed_dim=embed_dim,
    num_heads=num_heads,
    head_dim=64,
    mlp_dim=4 * embed_dim,
    num_encoder_layers=num_layers,
    num_decoder_layers=num_layers,
    mlp_activations=("relu",),
    tie_embeddings=True,
  )
  params = t5.abstract_params(t5.T5(config))
  assert sum(leaf.size for leaf in jax.tree.leaves(params)) == total


@pytest.mark.parametrize("tie_embeddings", [False, True])
@pytest.mark.parametrize("activations", [("relu",), ("gelu", "linear")])
def test_every_parameter_has_a_logical_axis_for_every_dimension(
  tie_embeddings, activations
):
  model = fakes.tiny_model(
    fakes.tiny_prompt(4),
    tie_embeddings=tie_embeddings,
    mlp_activations=activations,
  )
  params = t5.abstract_params(model)
  as_int8 = quantization.abstract_params(params, quantization.INT8)
  params = traverse_util.flatten_dict(params)
  axes = traverse_util.flatten_dict(
    t5.logical_axes(model), is_leaf=lambda _, x: isinstance(x, tuple)
  )
  # Those of the scales stand there for backbones that are kept in int8.
  leaves = params | traverse_util.flatten_dict(as_int8)
  assert leaves.keys() == axes.keys()
  for path, leaf in leaves.items():
    assert len(axes[path]) == leaf.ndim, path
  assert (("decoder", "logits_dense", "kernel") in params) != tie_embeddings


def test_a_prompt_of_length_zero_is_the_bare_model():
  bare = fakes.tiny_model()
  params = fakes.tiny_params(bare)
  empty = fakes.tiny_model(fakes.tiny_prompt(0))
  batch = batch_of()
  np.testing.assert_array_equal(
    run(empty, fakes.tiny_params(empty) | params, batch),
    run(bare, params, batch),
  )


@pytest.mark.parametrize("prompt_length", [0, 4])
def test_padding_and_batch_order_change_nothing(prompt_length):
  model = fakes.tiny_model(fakes.tiny_prompt(prompt_length))
  params = fakes.tiny_params(model)
  batch = batch_of(prompt_length)
  plain = run(model, params, batch)
  padded = {
    key: np.pad(value, ((0, 0), (0, 7))) for key, value in batch.items()
  }
  length = plain.shape[1]
  np.testing.assert_allclose(
    run(model, params, padded)[:, :length], plain, **TOLERANCE
  )
  order = np.array([2, 0, 3, 1])
  shuffled = {key: value[order] for key, value in batch.items()}
  np.testing.assert_allclose(
    run(model, params, shuffled), plain[order], **TOLERANCE
  )


@pytest.mark.parametrize("attention", ["full", "prefix"])
def test_padding_changes_nothing_of_what_is_dropped(attention):
  prompt = fakes.tiny_prompt(4).clone(attention=PromptAttention(attention))
  model = fakes.tiny_model(prompt, dropout_rate=0.5)
  params = {"params": fakes.tiny_params(model)}
  batch = batch_of(4 if attention == "full" else 0)

  def logits(padding):
    padded = [
      np.pad(batch[name], ((0, 0), (0, padding)))
      for name in ("encoder_input_tokens", "decoder_input_tokens")
    ]
    rngs = {"dropout": jax.random.key(1)}
    return model.apply(params, *padded, deterministic=False, rngs=rngs)

  plain = logits(0)
  np.testing.assert_allclose(logits(7)[:, : plain.shape[1]], plain, **TOLERANCE)


def test_what_stands_in_padding_of_the_targets_changes_nothing_before_it():
  model = fakes.tiny_model()
  params = fakes.tiny_params(model)
  batch = batch_of()
  plain = run(model, params, batch)
  batch["decoder_input_tokens"][:, 3:] = 9
  np.testing.assert_allclose(
    run(model, params, batch)[:, :3], plain[:, :3], **TOLERANCE
  )


def test_the_decoder_is_causal_and_sees_every_slot():
  model = fakes.tiny_model(fakes.tiny_prompt(4))
  params = fakes.tiny_params(model)
  batch = batch_of(4, batch_size=1)
  variable, rest = params["prompt"], dict(params)

  def logits(prompt):
    return model.apply(
      {"params": rest | {"prompt": prompt}},
      batch["encoder_input_tokens"],
      batch["decoder_input_tokens"],
    )[0, 0].sum()

  gradient = jax.jit(jax.grad(logits))(variable)["embedding"]
  assert np.all(np.abs(gradient).max(axis=1) > 0)


@pytest.mark.parametrize("num_prompts", [1, 3])
def test_a_bank_of_n_equals_n_prompts(num_prompts):
  length = 4
  single = fakes.tiny_model(fakes.tiny_prompt(length))
  params = fakes.tiny_params(single)
  prompts = np.random.default_rng(0).normal(
    size=(num_prompts, length, fakes.EMBED_DIM)
  )
  bank = fakes.tiny_model(
    PromptBank(
      num_prompts=num_prompts,
      length=length,
      features=fakes.EMBED_DIM,
      initializer=jax.nn.initializers.zeros,
    )
  )
  batch = batch_of(length)
  rows = np.arange(len(batch["encoder_input_tokens"])) % num_prompts
  mixed = {key: value.copy() for key, value in batch.items()}
  mixed["encoder_input_tokens"][:, :length] += rows[:, None] * length
  together = run(
    bank, params | {"prompt": {"embedding": jnp.asarray(prompts)}}, mixed
  )
  for index in range(num_prompts):
    alone = run(
      single,
      params | {"prompt": {"embedding": jnp.asarray(prompts[index])}},
      batch,
    )
    np.testing.assert_allclose(
      together[rows == index], alone[rows == index], **TOLERANCE
    )


def test_each_prompt_of_a_bank_starts_differently():
  bank = PromptBank(
    num_prompts=3,
    length=4,
    features=16,
    initializer=jax.nn.initializers.normal(),
  )
  embedding = fakes.tiny_params(fakes.tiny_model(bank))["prompt"]["embedding"]
  assert embedding.shape == (3, 4, 16)
  assert len(np.unique(np.asarray(embedding))) == embedding.size


@pytest.mark.parametrize("slot", [4, 400])
def test_a_slot_that_no_prompt_owns_poisons_its_row_only(slot):
  model = fakes.tiny_model(fakes.tiny_prompt(4))
  batch = batch_of(4)
  batch["encoder_input_tokens"][1, 0] = fakes.VOCAB_SIZE + slot
  logits = run(model, fakes.tiny_params(model), batch)
  assert np.isnan(logits[1]).all()
  assert np.isfinite(logits[[0, 2, 3]]).all()


def test_slots_on_the_bare_model_do_not_go_unnoticed():
  model = fakes.tiny_model()
  logits = run(model, fakes.tiny_params(model), batch_of(4))
  assert np.isnan(logits).all()


def test_segments_of_a_packed_row_equal_rows_of_their_own():
  model = fakes.tiny_model(fakes.tiny_prompt(2))
  params = fakes.tiny_params(model)
  batch = batch_of(2, batch_size=2, inputs_length=8)
  inputs = [row[row > 0] for row in batch["encoder_input_tokens"]]
  targets = batch["decoder_input_tokens"]
  packed = {
    "encoder_input_tokens": np.concatenate(inputs),
    "encoder_segment_ids": np.repeat([1, 2], [len(row) for row in inputs]),
    "encoder_positions": np.concatenate([np.arange(len(r)) for r in inputs]),
    "decoder_input_tokens": targets.reshape(-1),
    "decoder_segment_ids": np.repeat([1, 2], targets.shape[1]),
    "decoder_positions": np.tile(np.arange(targets.shape[1]), 2),
  }
  packed = {key: value[None] for key, value in packed.items()}
  logits = model.apply(
    {"params": params},
    packed.pop("encoder_input_tokens"),
    packed.pop("decoder_input_tokens"),
    **packed,
  )
  np.testing.assert_allclose(
    np.reshape(logits, (2, targets.shape[1], -1)),
    run(model, params, batch),
    **TOLERANCE,
  )


@pytest.mark.parametrize("tie_embeddings", [False, True])
def test_cached_steps_equal_teacher_forcing(tie_embeddings):
  model = fakes.tiny_model(fakes.tiny_prompt(4), tie_embeddings=tie_embeddings)
  params = {"params": fakes.tiny_params(model)}
  batch = batch_of(4, targets_length=6)
  inputs = batch["encoder_input_tokens"]
  encoded = model.apply(params, inputs, method="encode")
  cache = model.apply(
    params, encoded, inputs, max_decode_length=6, method="start_cache"
  )
  steps = []
  for step in range(6):
    logits, cache = model.apply(
      params,
      jnp.asarray(batch["decoder_input_tokens"][:, step]),
      cache,
      method="decode_step",
    )
    steps.append(logits)
  np.testing.assert_allclose(
    np.stack(steps, axis=1), run(model, params["params"], batch), **TOLERANCE
  )


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(("num_buckets", "max_distance"), [(32, 128), (16, 64)])
def test_buckets_follow_the_published_formula(
  bidirectional, num_buckets, max_distance
):
  distances = np.arange(-300, 301)
  buckets = relative_position_buckets(
    jnp.asarray(distances),
    bidirectional=bidirectional,
    num_buckets=num_buckets,
    max_distance=max_distance,
  )
  half = num_buckets // 2 if bidirectional else num_buckets
  exact = half // 2
  for distance, bucket in zip(distances, np.asarray(buckets), strict=True):
    behind = abs(distance) if bidirectional else max(-distance, 0)
    if behind < exact:
      expected = behind
    else:
      ratio = np.log(behind / exact) / np.log(max_distance / exact)
      # Whole borders belong above: nudge past the rounding of the logarithm.
      expected = min(exact + int(ratio * (half - exact) + 1e-9), half - 1)
    if bidirectional and distance > 0:
      expected += half
    assert bucket == expected, distance


@pytest.mark.parametrize(
  ("field", "value", "message"),
  [
    ("embed_dim", 0, "embed_dim must be a positive integer"),
    ("num_heads", "8", "num_heads must be a positive integer"),
    ("mlp_activations", ("swish",), "unknown activation 'swish'"),
    ("mlp_activations", (), "at least one"),
    ("dropout_rate", 1.0, "below 1"),
    ("dtype", "float16", "must be one of float32, bfloat16"),
  ],
)
def test_a_wrong_shape_is_named(field, value, message):
  with pytest.raises(ValueError, match=message):
    fakes.tiny_config(**{field: value})


def test_dropout_drops_in_training_only():
  model = fakes.tiny_model(dropout_rate=0.5)
  params = {"params": fakes.tiny_params(model)}
  batch = batch_of()
  args = (batch["encoder_input_tokens"], batch["decoder_input_tokens"])

  @jax.jit
  def train(rng):
    return model.apply(
      params, *args, deterministic=False, rngs={"dropout": rng}
    )

  keys = jax.random.split(jax.random.key(0), 30)
  still = model.apply(params, *args)
  np.testing.assert_array_equal(still, model.apply(params, *args))
  assert not np.allclose(train(keys[0]), train(keys[1]))
  # The first layer norm cancels a common scale, so compare over many draws
  # what only an unscaled dropout would shift: the mean stays near.
  draws = [train(key) for key in keys]
  mean, spread = np.mean(draws, axis=0), np.std(draws, axis=0).mean()
  assert np.abs(mean - still).mean() < spread
