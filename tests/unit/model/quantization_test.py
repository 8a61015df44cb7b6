"""Backbones in int8: how far from float they may be, and what they hold."""

import functools

import jax
import numpy as np
import pytest
from jax import numpy as jnp
from jax.sharding import PartitionSpec

from prompt_tuning.checkpoints import tree
from prompt_tuning.evaluate.generation import Generator, Greedy
from prompt_tuning.model import quantization, t5
from prompt_tuning.model.layers import Projection
from prompt_tuning.model.stack import stack_layers
from prompt_tuning.prompts.module import Prompt, PromptAttention
from prompt_tuning.testing import fakes, oracles
from prompt_tuning.train import mesh as mesh_lib
from prompt_tuning.train import partition
from prompt_tuning.train.step import batch_loss

LENGTH = 3
KERNEL, TABLE = -2, -1
T5_1_0 = {"mlp_activations": ("relu",), "tie_embeddings": True}
# With the order of a computation that takes the least memory, as on a TPU; by
# default a CPU converts whatever it can at once, to have more to do.
LEAST_MEMORY = {"xla_cpu_enable_concurrency_optimized_scheduler": False}


def _matrix(shape=(37, 12), dtype=np.float32):
  matrix = np.random.default_rng(0).normal(size=shape) * np.geomspace(
    1e-4, 1e2, shape[1]
  )
  return matrix.astype(dtype)


def _model(attention=PromptAttention.FULL, **overrides):
  prompt = Prompt(
    length=LENGTH,
    features=fakes.EMBED_DIM,
    initializer=jax.nn.initializers.normal(1.0),
    attention=attention,
  )
  return fakes.tiny_model(prompt, **overrides)


def _dequantized(params):
  """The float32 weights that an int8 backbone stands for."""
  flat = tree.flatten(params)
  floats = {}
  for path, leaf in flat.items():
    if path.endswith("_scale"):
      continue
    scales = flat.get(f"{path}_scale")
    if scales is not None:
      axis = TABLE if "embedder" in path else KERNEL
      leaf = leaf * np.expand_dims(scales, axis)
    floats[path] = leaf
  return tree.unflatten(floats)


def _batch(model, **settings):
  slots = 0 if t5.is_apart(model.prompt) else LENGTH
  rng = np.random.default_rng(1)
  return fakes.tiny_batch(rng, prompt_length=slots, **settings)


# One matrix.


@pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16, np.float16])
@pytest.mark.parametrize("axis", [KERNEL, TABLE])
@pytest.mark.parametrize("block", [2**20, 50])
def test_no_weight_is_off_by_more_than_half_a_scale(
  monkeypatch, dtype, axis, block
):
  monkeypatch.setattr(quantization, "_BLOCK_VALUES", block)
  matrix = _matrix(dtype=dtype)
  values, scales = quantization.quantize(matrix, axis=axis)
  exact = matrix.astype(np.float64)
  np.testing.assert_allclose(
    scales, np.abs(exact).max(axis=axis) / 127, rtol=1e-6
  )
  wide = np.expand_dims(scales.astype(np.float64), axis)
  # A quotient of up to 127 is rounded to float32 before it is to an integer.
  assert (np.abs(exact - values * wide) <= wide * (0.5 + 127 * 2**-23)).all()
  assert np.abs(values.astype(int)).max(axis=axis).tolist() == (
    [127] * len(scales)
  )


def test_channels_of_zeros_and_of_denormal_numbers():
  matrix = np.zeros((4, 2), np.float32)
  matrix[:, 1] = np.array([2, -1, 0, 1]) * 1e-44
  values, scales = quantization.quantize(matrix, axis=KERNEL)
  assert values[:, 0].tolist() == [0] * 4
  assert scales[0] == 0.0
  # Where a processor takes such numbers for zeros, so are these.
  assert np.sign(values[:, 1]).tolist() in ([1, -1, 0, 1], [0] * 4)


@pytest.mark.oracle
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
@pytest.mark.parametrize(("axis", "channels"), [(KERNEL, 1), (TABLE, 0)])
def test_the_integers_are_those_of_torch(axis, channels):
  torch = oracles.require("torch")
  matrix = _matrix()
  values, scales = quantization.quantize(matrix, axis=axis)
  theirs = torch.quantize_per_channel(
    torch.from_numpy(matrix),
    torch.from_numpy(scales),
    torch.zeros(len(scales)),
    channels,
    torch.qint8,
  )
  np.testing.assert_array_equal(values, theirs.int_repr().numpy())
  np.testing.assert_allclose(
    quantization.dequantize(values, scales, axis=axis),
    theirs.dequantize().numpy(),
    rtol=1e-6,
  )


def test_a_product_is_off_by_what_half_a_scale_allows():
  x = np.random.default_rng(2).normal(size=(5, 37)).astype(np.float32)
  kernel = _matrix()
  values, scales = quantization.quantize(kernel, axis=KERNEL)
  projection = Projection(
    features=12, axes=("embed", "mlp"), dtype=jnp.dtype("float32")
  )
  params = {"kernel": values, "kernel_scale": scales}
  found: object = projection.apply({"params": params}, x)
  exact = x.astype(np.float64) @ kernel.astype(np.float64)
  allowed = np.abs(x).sum(axis=1, keepdims=True) * scales / 2
  error = np.abs(np.asarray(found) - exact)
  assert (error <= allowed * 1.001).all()
  assert error.max() > 0.0


def test_integers_without_their_scales_are_an_error():
  projection = Projection(
    features=3, axes=("embed", "mlp"), dtype=jnp.dtype("float32")
  )
  params = {"kernel": np.ones((2, 3), np.int8)}
  with pytest.raises(ValueError, match=r"kernel is int8, but kernel_scale is"):
    projection.apply({"params": params}, np.ones((1, 2), np.float32))


# The whole model.

CASES = {
  "plain": (PromptAttention.FULL, {}),
  "tied": (PromptAttention.FULL, T5_1_0),
  "scanned, rematerialised": (
    PromptAttention.FULL,
    {"scan_layers": True, "remat": "layer"},
  ),
  "prefix": (PromptAttention.PREFIX, {"scan_layers": True, "remat": "layer"}),
}


@functools.cache
def _loss_and_gradient(model):
  def loss(prompt, params, batch):
    return batch_loss(model, {**params, "prompt": prompt}, batch).loss

  return jax.jit(jax.value_and_grad(loss))


@pytest.mark.slow_after(2)
@pytest.mark.parametrize("case", CASES)
def test_loss_and_gradient_are_those_of_the_weights_it_stands_for(case):
  attention, overrides = CASES[case]
  model = _model(attention, **overrides)
  unscanned = _model(attention, **(overrides | {"scan_layers": False}))
  params = fakes.tiny_params(unscanned)
  prompt = params.pop("prompt")
  int8 = quantization.quantize_params(params)
  floats = _dequantized(int8)
  if model.config.scan_layers:
    int8, floats = stack_layers(int8), stack_layers(floats)
  batch = _batch(model)
  found = _loss_and_gradient(model)(prompt, int8, batch)
  expected = _loss_and_gradient(model)(prompt, floats, batch)
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(
      x, y, rtol=1e-4, atol=1e-5 * np.max(np.abs(y))
    ),
    found,
    expected,
  )


@pytest.mark.parametrize("overrides", [{}, T5_1_0])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_logits_stay_near_those_of_float32(overrides, dtype):
  """Errors of matrices add up in quadrature, as independent ones do.

  A random matrix whose relative error (root of the mean square over that of
  the weights) is r changes a product by r; behind n matrices on the way, each
  fed by a layer norm so that none enlarges what came before, logits change by r
  times the root of n.
  """
  model = fakes.tiny_model(**overrides, dtype=dtype)
  exact = fakes.tiny_model(**overrides)
  params = fakes.tiny_params(exact)
  int8 = quantization.quantize_params(params)
  floats = _dequantized(int8)
  errors = [
    np.linalg.norm(kept - full) / np.linalg.norm(full)
    for kept, full in zip(
      jax.tree.leaves(floats), jax.tree.leaves(params), strict=True
    )
  ]
  changed = [error for error in errors if error > 0.0]
  assert len(changed) == sum(
    leaf.dtype == np.int8 for leaf in jax.tree.leaves(int8)
  )
  # Half a scale at most, that is one part in 254 of the largest in a channel;
  # on the average a root of twelfth of a scale.
  assert max(changed) < 0.01
  bound = np.sqrt(np.sum(np.square(changed)))
  if dtype == "bfloat16":  # Eight bits round every activation, too.
    bound += 2.0**-8 * np.sqrt(len(changed))
  batch = fakes.tiny_batch(np.random.default_rng(3), batch_size=16)
  tokens = batch["encoder_input_tokens"], batch["decoder_input_tokens"]
  found = np.asarray(model.apply({"params": int8}, *tokens))
  expected = np.asarray(exact.apply({"params": params}, *tokens))
  rows = batch["decoder_target_tokens"] > 0
  error = np.linalg.norm((found - expected)[rows])
  assert 0.0 < error <= bound * np.linalg.norm(expected[rows])


def test_decoding_is_that_of_the_weights_it_stands_for():
  model = fakes.tiny_model(scan_layers=True)
  int8 = quantization.quantize_params(fakes.tiny_params(fakes.tiny_model()))
  generator = Generator(model, max_decode_length=4, decoder=Greedy())
  batch = fakes.tiny_batch(np.random.default_rng(4))
  found = generator.decode(stack_layers(int8), batch)
  expected = generator.decode(stack_layers(_dequantized(int8)), batch)
  np.testing.assert_array_equal(found.tokens, expected.tokens)
  np.testing.assert_allclose(
    found.scores, expected.scores, rtol=1e-4, atol=1e-5
  )


def test_a_slot_on_the_bare_model_is_no_number():
  model = fakes.tiny_model(num_encoder_layers=1, num_decoder_layers=1)
  int8 = quantization.quantize_params(fakes.tiny_params(model))
  tokens = np.array([[5, fakes.VOCAB_SIZE]], np.int32)
  rows = np.asarray(model.apply({"params": int8}, tokens, method="embed"))
  assert np.isfinite(rows[0, 0]).all()
  assert np.isnan(rows[0, 1]).all()


# Where it lies.


def _memory(function, *arguments):
  compiled = jax.jit(function).lower(*arguments).compile(LEAST_MEMORY)
  return compiled.memory_analysis()


def _size(params):
  return sum(
    leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(params)
  )


def _abstract(model, dtype):
  params = dict(t5.abstract_params(model))
  params.pop("prompt", None)
  return quantization.abstract_params(params, dtype)


# Wide enough that weights outweigh activations.
_WIDE = {"mlp_dim": 512, "num_encoder_layers": 4, "num_decoder_layers": 1}


# Of layers one after another XLA's CPU compiler converts all matrices at once.
def test_the_step_holds_the_backbone_once_and_in_int8():
  model = _model(scan_layers=True, **_WIDE)
  prompt = t5.abstract_params(model)["prompt"]
  batch = _batch(model, batch_size=1)
  int8, full = _abstract(model, "int8"), _abstract(model, "float32")
  found = _memory(_loss_and_gradient(model), prompt, int8, batch)
  expected = _memory(_loss_and_gradient(model), prompt, full, batch)
  saved = expected.argument_size_in_bytes - found.argument_size_in_bytes
  assert saved == _size(full) - _size(int8)
  more = found.temp_size_in_bytes - expected.temp_size_in_bytes
  one_layer = 4 * model.config.embed_dim * (4 * 32 + 3 * 512)
  assert more <= one_layer


def test_a_decoder_converts_no_more_than_a_layer_ahead():
  sizes = _WIDE | {"num_encoder_layers": 1, "num_decoder_layers": 4}
  model = fakes.tiny_model(scan_layers=True, **sizes)
  generator = Generator(model, max_decode_length=4, decoder=Greedy())
  batch = fakes.tiny_batch(np.random.default_rng(4), batch_size=1)

  def memory(dtype):
    return _memory(
      lambda params, batch: generator.decode(params, batch).tokens,
      _abstract(model, dtype),
      batch,
    ).temp_size_in_bytes

  one_layer = 4 * model.config.embed_dim * (8 * 32 + 3 * 512)
  assert memory("int8") - memory("float32") <= one_layer


@pytest.mark.multidevice
@pytest.mark.parametrize("scan_layers", [False, True])
def test_scales_lie_with_their_channels(scan_layers):
  model = fakes.tiny_model(scan_layers=scan_layers)
  mesh = mesh_lib.make_mesh(4, 2)
  placed = partition.flatten(
    mesh_lib.param_shardings(
      _abstract(model, "int8"), t5.logical_axes(model), mesh=mesh
    )
  )
  layer = "layers" if scan_layers else "layers_0"
  ahead = (None,) if scan_layers else ()
  mlp = f"encoder/{layer}/mlp"
  specs = {
    "token_embedder/embedding_scale": ("model",),
    "decoder/logits_dense/kernel_scale": ("model",),
    f"{mlp}/wi_0/kernel": (*ahead, None, "model"),
    f"{mlp}/wi_0/kernel_scale": (*ahead, "model"),
    f"{mlp}/wo/kernel": (*ahead, "model", None),
    f"{mlp}/wo/kernel_scale": (*ahead, None),
  }
  for path, spec in specs.items():
    assert placed[path].spec == PartitionSpec(*spec), path


@pytest.mark.multidevice
def test_a_mesh_gives_the_loss_of_one_device():
  model = _model(num_encoder_layers=1, num_decoder_layers=1)
  params = fakes.tiny_params(model)
  prompt = params.pop("prompt")
  int8 = quantization.quantize_params(params)
  batch = _batch(model)
  mesh = mesh_lib.make_mesh(4, 2)
  shardings = mesh_lib.param_shardings(int8, t5.logical_axes(model), mesh=mesh)
  found = _loss_and_gradient(model)(
    jax.device_put(prompt, mesh_lib.replicated(mesh)),
    mesh_lib.place(int8, shardings),
    mesh_lib.shard_batch(batch, mesh),
  )
  expected = _loss_and_gradient(model)(prompt, int8, batch)
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-4),
    found,
    expected,
  )
