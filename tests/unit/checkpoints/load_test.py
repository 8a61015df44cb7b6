import functools
import json
import shutil
import tarfile

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

from prompt_tuning.checkpoints import huggingface, load, t5x, tree
from prompt_tuning.checkpoints.locate import Format, detect_format
from prompt_tuning.model import quantization, t5
from prompt_tuning.model.config import T5Config
from prompt_tuning.model.stack import stack_layers
from prompt_tuning.prompts import artifact
from prompt_tuning.testing import fakes
from prompt_tuning.testing.shared import data_path, fixture_path
from prompt_tuning.train import checkpoint
from prompt_tuning.train.run_identity import RunIdentity
from prompt_tuning.train.step import init_state

# The model of the reference fixtures.
_REFERENCE = T5Config(
  vocab_size=1024,
  embed_dim=48,
  num_heads=4,
  head_dim=16,
  mlp_dim=96,
  num_encoder_layers=3,
  num_decoder_layers=2,
)


@functools.cache
def _flat_params():
  rng = np.random.default_rng(0)
  shapes = tree.flatten(t5.abstract_params(fakes.tiny_model()))
  return {
    name: rng.normal(size=leaf.shape).astype(np.float32)
    for name, leaf in shapes.items()
  }


def _params():
  return tree.unflatten(_flat_params())


def _save_run(folder, trainable):
  """Writes checkpoint_5 as a run of this project does."""
  run = RunIdentity(backbone="x", trainable=(".*",), seed=0, config={})
  optimizer = optax.sgd(0.1, momentum=0.9)
  state = init_state(jax.tree.map(jnp.asarray, trainable), optimizer)
  checkpoints = checkpoint.Checkpoints(folder, run=run)
  checkpoints.save(state, step=5, data={}, progress={})
  checkpoints.close()
  return folder / "checkpoint_5"


def _save(kind, folder, params=None):
  params = _params() if params is None else params
  path = folder / "checkpoint_5"
  if kind is Format.T5X:
    t5x.save(params, folder, step=5)
  elif kind is Format.HUGGING_FACE:
    huggingface.write(fakes.tiny_config(), params, path)
  elif kind is Format.RUN:
    _save_run(folder, params)
  else:
    state = {"target": params, "state": {"step": np.zeros(())}}
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
      checkpointer.save(path / "state", state)
  return path


def _assert_equal(loaded, expected):
  loaded, expected = tree.flatten(loaded), tree.flatten(expected)
  assert loaded.keys() == expected.keys()
  for name in expected:
    np.testing.assert_array_equal(loaded[name], expected[name], err_msg=name)


@pytest.mark.parametrize("kind", Format)
def test_loads_every_form(tmp_path, kind):
  path = _save(kind, tmp_path)
  assert detect_format(path) is kind
  loaded = load.load_backbone(path, config=fakes.tiny_config())
  _assert_equal(loaded.params, _params())


@pytest.mark.parametrize("kind", Format)
def test_casts(tmp_path, kind):
  path = _save(kind, tmp_path)
  loaded = load.load_backbone(
    path, config=fakes.tiny_config(), dtype="bfloat16"
  )
  _assert_equal(
    loaded.params,
    jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), _params()),
  )


@pytest.mark.parametrize("kind", Format)
def test_quantizes_and_stacks(tmp_path, kind):
  path = _save(kind, tmp_path)
  loaded = load.load_backbone(
    path, config=fakes.tiny_config(scan_layers=True), dtype="int8"
  )
  expected = stack_layers(quantization.quantize_params(_params()))
  _assert_equal(loaded.params, expected)
  model = fakes.tiny_model(scan_layers=True)
  abstract = quantization.abstract_params(t5.abstract_params(model), "int8")
  described = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), loaded.params)
  assert described == jax.tree.map(lambda x: (x.shape, x.dtype), abstract)


def test_a_scanned_run_loads_in_both_layouts(tmp_path):
  path = _save(Format.RUN, tmp_path, stack_layers(_params()))
  plain = load.load_backbone(path, config=fakes.tiny_config())
  _assert_equal(plain.params, _params())
  stacked = load.load_backbone(path, config=fakes.tiny_config(scan_layers=True))
  _assert_equal(stacked.params, stack_layers(_params()))


@pytest.mark.parametrize(
  ("dtype", "scan_layers"),
  [("float32", True), ("bfloat16", False), ("int8", True)],
)
def test_the_fingerprint_is_that_of_the_stored_weights(
  tmp_path, dtype, scan_layers
):
  path = _save(Format.T5X, tmp_path)
  config = fakes.tiny_config(scan_layers=scan_layers)
  loaded = load.load_backbone(path, config=config, dtype=dtype)
  assert loaded.fingerprint == artifact.fingerprint(_params())


def test_a_weight_that_is_no_number_is_not_quantized(tmp_path):
  params = _params()
  kernel = params["decoder"]["layers_1"]["mlp"]["wo"]["kernel"].copy()
  kernel[3, 5] = np.nan
  params["decoder"]["layers_1"]["mlp"]["wo"] = {"kernel": kernel}
  path = _save(Format.T5X, tmp_path, params)
  with pytest.raises(
    ValueError, match=r"decoder/layers_1/mlp/wo/kernel cannot be kept as int8"
  ):
    load.load_backbone(path, config=fakes.tiny_config(), dtype="int8")


@pytest.mark.parametrize("name", ["ckpt_t5x", "ckpt_orbax"])
def test_reference_checkpoints_are_the_reference_parameters(name):
  loaded = load.load_backbone(fixture_path(name), config=_REFERENCE)
  expected = dict(np.load(fixture_path("params.npz")))
  _assert_equal(loaded.params, tree.unflatten(expected))


def test_prompts_are_not_part_of_the_backbone():
  path = fixture_path("model_dir_prompt") / "checkpoint_1100010"
  loaded = load.load_backbone(path, config=_REFERENCE)
  expected = dict(np.load(fixture_path("params.npz")))
  _assert_equal(loaded.params, tree.unflatten(expected))


def test_released_layout_fits_the_model(tmp_path):
  archive = data_path("prompts/test_data/test_t5_1_1_tiny.tar.xz")
  with tarfile.open(archive) as file:
    file.extractall(tmp_path, filter="data")
  config = T5Config(
    vocab_size=32128,
    embed_dim=4,
    num_heads=2,
    head_dim=2,
    mlp_dim=8,
    num_encoder_layers=2,
    num_decoder_layers=2,
    relative_attention_buckets=4,
  )
  load.load_backbone(tmp_path / "test_t5_1_1_tiny", config=config)


def test_an_incomplete_checkpoint(tmp_path):
  path = t5x.save(_params(), tmp_path, step=1)
  (path / "checkpoint").unlink()
  with pytest.raises(ValueError, match="none of the known forms"):
    load.load_backbone(tmp_path, config=fakes.tiny_config())


def test_another_size_lists_what_differs(tmp_path):
  path = _save(Format.T5X, tmp_path)
  config = fakes.tiny_config(num_encoder_layers=3, mlp_dim=40)
  with pytest.raises(ValueError, match="missing") as caught:
    load.load_backbone(path, config=config)
  message = str(caught.value)
  assert "encoder/layers_2/mlp/wo/kernel [40, 16]" in message
  assert "is [32, 16], the model has [40, 16]" in message
  assert str(path) in message


def test_a_missing_weight_is_not_made_up(tmp_path):
  params = _params()
  del params["encoder"]["encoder_norm"]
  path = _save(Format.T5X, tmp_path, params)
  with pytest.raises(ValueError, match="encoder/encoder_norm/scale"):
    load.load_backbone(path, config=fakes.tiny_config())


@pytest.mark.parametrize("dtype", ["uint16", "int32", "bool", "complex64"])
@pytest.mark.parametrize("storage", [*t5x.Storage, Format.T5X_ORBAX])
def test_what_no_weight_is_of(tmp_path, storage, dtype):
  params = _params()
  table = params["token_embedder"]["embedding"]
  params["token_embedder"]["embedding"] = np.ones(table.shape, dtype)
  if dtype == "complex64" and storage is t5x.Storage.MSGPACK:
    dtype = "of the type 'complex64'"
  if isinstance(storage, t5x.Storage):
    t5x.save(params, tmp_path, step=5, storage=storage)
  else:
    _save(storage, tmp_path, params)
  with pytest.raises(ValueError, match=f"token_embedder/embedding is {dtype}"):
    load.load_backbone(tmp_path, config=fakes.tiny_config())


def test_a_prompt_tuning_run_has_no_backbone(tmp_path):
  path = _save_run(tmp_path, {"prompt": {"embedding": np.ones((4, 16))}})
  with pytest.raises(ValueError, match="no backbone, only prompt/embedding"):
    load.load_backbone(path, config=fakes.tiny_config())


def test_what_shapes_do_not_show_is_compared(tmp_path):
  path = _save(Format.HUGGING_FACE, tmp_path)
  config = fakes.tiny_config(num_heads=4, head_dim=8)  # The same product.
  with pytest.raises(
    ValueError, match="num_heads is 8 there and 4 here; head_dim is 4"
  ):
    load.load_backbone(path, config=config)


def test_dropout_and_dtype_are_the_runs_own(tmp_path):
  path = _save(Format.HUGGING_FACE, tmp_path)
  settings = json.loads((path / "config.json").read_text())
  (path / "config.json").write_text(
    json.dumps(settings | {"dropout_rate": 0.1})
  )
  config = fakes.tiny_config(dropout_rate=0.2, dtype="bfloat16")
  load.load_backbone(path, config=config)


def test_a_copy_elsewhere_loads(tmp_path):
  path = _save(Format.T5X_ORBAX, tmp_path / "a")
  shutil.move(path, tmp_path / "b" / "checkpoint_5")
  loaded = load.load_backbone(tmp_path / "b", config=fakes.tiny_config())
  _assert_equal(loaded.params, _params())
