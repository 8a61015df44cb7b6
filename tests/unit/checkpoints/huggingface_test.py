import functools
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from prompt_tuning import paths
from prompt_tuning.checkpoints import hf_names, huggingface, tree
from prompt_tuning.data.vocabularies import SentencePieceVocabulary
from prompt_tuning.model import t5
from prompt_tuning.model.config import T5Config
from prompt_tuning.testing import fakes

safetensors = pytest.importorskip(
  "safetensors.numpy", reason="the format needs the package safetensors"
)

_KINDS = {
  "1.0": {"mlp_activations": ("relu",), "tie_embeddings": True},
  "1.1": {},
  "gated, tied": {"tie_embeddings": True},
  "relu, untied": {"mlp_activations": ("relu",)},
  "deep encoder": {"num_encoder_layers": 3, "num_decoder_layers": 1},
}


def _config(kind):
  return fakes.tiny_config(**_KINDS[kind])


@functools.cache
def _params(config):
  """Returns random weights that keep logits at an ordinary size."""
  rng = np.random.default_rng(0)
  shapes = tree.flatten(t5.abstract_params(t5.T5(config)))
  return tree.unflatten(
    {
      name: rng.normal(0.0, leaf.shape[0] ** -0.5, leaf.shape).astype(
        np.float32
      )
      for name, leaf in shapes.items()
    }
  )


def _assert_equal(loaded, expected):
  loaded, expected = tree.flatten(loaded), tree.flatten(expected)
  assert loaded.keys() == expected.keys()
  for name in expected:
    np.testing.assert_array_equal(loaded[name], expected[name], err_msg=name)


def _edit(folder, **changes):
  """Changes settings of `config.json`; None removes one."""
  path = folder / "config.json"
  settings = json.loads(path.read_text()) | changes
  settings = {
    key: value for key, value in settings.items() if value is not None
  }
  path.write_text(json.dumps(settings))


def _edit_weights(folder, edit):
  path = folder / "model.safetensors"
  weights = safetensors.load_file(path)
  edit(weights)
  safetensors.save_file(weights, path)


@pytest.fixture(name="folder")
def _folder(tmp_path):
  """A T5 1.1 of two layers."""
  config = _config("1.1")
  huggingface.write(config, _params(config), tmp_path / "model")
  return tmp_path / "model"


@pytest.mark.parametrize("kind", _KINDS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_round_trip(tmp_path, kind, dtype):
  config = _config(kind)
  params = jax.tree.map(
    lambda leaf: np.asarray(leaf.astype(dtype)), _params(config)
  )
  huggingface.write(config, params, tmp_path / "model")
  read = huggingface.read(tmp_path / "model", dtype=dtype)
  assert read.config == config
  _assert_equal(read.params, params)
  assert {leaf.dtype for leaf in jax.tree.leaves(read.params)} == {
    jnp.dtype(dtype)
  }


def test_names_cover_the_model():
  for kind in _KINDS:
    config = _config(kind)
    expected = tree.flatten(t5.abstract_params(t5.T5(config)))
    names = hf_names.names(config)
    assert names.keys() == expected.keys()
    assert len(set(names.values())) == len(names)


def test_a_soft_prompt_has_no_place(tmp_path):
  config = _config("1.1")
  params = _params(config) | {"prompt": {"embedding": np.ones((4, 16))}}
  with pytest.raises(ValueError, match="Leave out a soft prompt"):
    huggingface.write(config, params, tmp_path / "x")
  assert list(tmp_path.iterdir()) == []


def test_never_overwrites(folder):
  config = _config("1.1")
  with pytest.raises(FileExistsError):
    huggingface.write(config, _params(config), folder)


def test_activations_without_a_word(tmp_path):
  config = fakes.tiny_config(mlp_activations=("silu",))  # Not gated.
  with pytest.raises(ValueError, match="no word for mlp_activations"):
    huggingface.write(config, _params(config), tmp_path / "x")


@pytest.mark.parametrize("kind", ["1.0", "1.1"])
def test_configuration_of_older_versions(tmp_path, kind):
  config = _config(kind)
  huggingface.write(config, _params(config), tmp_path / "model")
  _edit(
    tmp_path / "model",
    scale_decoder_outputs=None,
    num_decoder_layers=None,
    relative_attention_max_distance=None,
    # Old files of T5 1.0 leave the default out.
    tie_word_embeddings=None if config.tie_embeddings else False,
  )
  assert huggingface.read(tmp_path / "model").config == config


def test_mt5_is_gated_and_untied_by_default(folder):
  _edit(
    folder,
    model_type="mt5",
    feed_forward_proj=None,
    scale_decoder_outputs=None,
    tie_word_embeddings=True,
  )
  assert huggingface.read(folder).config == _config("1.1")


def test_sharded_weights(folder):
  weights = safetensors.load_file(folder / "model.safetensors")
  names = sorted(weights)
  shards = {"a.safetensors": names[:9], "b.safetensors": names[9:]}
  weight_map = {}
  for shard, members in shards.items():
    part = {name: weights[name] for name in members}
    safetensors.save_file(part, folder / shard)
    weight_map |= dict.fromkeys(members, shard)
  index = folder / "model.safetensors.index.json"
  index.write_text(json.dumps({"weight_map": weight_map}))
  (folder / "model.safetensors").unlink()
  _assert_equal(huggingface.read(folder).params, _params(_config("1.1")))
  (folder / "b.safetensors").unlink()
  with pytest.raises(ValueError, match=r"b\.safetensors cannot be read"):
    huggingface.read(folder)


def test_copies_of_the_table_are_dropped(folder):
  def copy(weights):
    weights["encoder.embed_tokens.weight"] = weights["shared.weight"]
    weights["decoder.embed_tokens.weight"] = weights.pop("shared.weight")

  _edit_weights(folder, copy)
  _assert_equal(huggingface.read(folder).params, _params(_config("1.1")))


def test_two_tables_are_an_error(folder):
  def differ(weights):
    weights["decoder.embed_tokens.weight"] = weights["shared.weight"] + 1

  _edit_weights(folder, differ)
  with pytest.raises(ValueError, match="one table of embeddings"):
    huggingface.read(folder)


def test_the_unused_bias_is_ignored(folder):
  name = (
    "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
  )
  _edit_weights(folder, lambda w: w.update({name: np.ones((32, 8))}))
  huggingface.read(folder)


def test_missing_and_extra_weights_are_named(folder):
  def rename(weights):
    weights["encoder.final_layer_norm.bias"] = weights.pop(
      "encoder.final_layer_norm.weight"
    )

  _edit_weights(folder, rename)
  with pytest.raises(
    ValueError, match=r"missing .*final_layer_norm\.weight.*extra .*\.bias"
  ):
    huggingface.read(folder)


def test_missing_projection_of_the_logits(folder):
  _edit_weights(folder, lambda weights: weights.pop("lm_head.weight"))
  with pytest.raises(ValueError, match=r"lm_head\.weight is missing"):
    huggingface.read(folder)


def test_a_projection_in_a_tied_model(folder):
  _edit(folder, scale_decoder_outputs=True)
  with pytest.raises(ValueError, match=r"lm_head\.weight differs"):
    huggingface.read(folder)


def test_no_weights(folder):
  (folder / "model.safetensors").unlink()
  with pytest.raises(ValueError, match=r"neither .*holds config\.json"):
    huggingface.read(folder)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"model_type": "bart"}, "model_type is 'bart', expected one of t5, mt5"),
    ({"feed_forward_proj": "gelu"}, "feed_forward_proj is 'gelu'"),
    ({"d_model": None}, "does not state d_model"),
  ],
)
def test_other_models(folder, changes, message):
  _edit(folder, **changes)
  with pytest.raises(ValueError, match=message):
    huggingface.read(folder)


def test_broken_configuration(folder):
  (folder / "config.json").write_text("{")
  with pytest.raises(ValueError, match=r"config\.json is not JSON"):
    huggingface.read_config(folder)


def test_a_configuration_that_is_no_object(folder):
  (folder / "config.json").write_text("[]")
  with pytest.raises(ValueError, match=r"config\.json is list, not an object"):
    huggingface.read_config(folder)


@pytest.mark.parametrize(
  "index", ["{", "{}", "[]", '{"weight_map": []}', '{"weight_map": {"a": 3}}']
)
def test_broken_index(folder, index):
  (folder / "model.safetensors").unlink()
  (folder / "model.safetensors.index.json").write_text(index)
  with pytest.raises(ValueError, match=r"index\.json cannot be read"):
    huggingface.read(folder)


def test_missing_package_is_named(folder, monkeypatch):
  """Only writing needs it."""
  read = huggingface.read(folder)
  monkeypatch.setitem(sys.modules, "safetensors", None)
  _assert_equal(huggingface.read(folder).params, read.params)
  with pytest.raises(ImportError, match=r"prompt-tuning\[huggingface\]"):
    huggingface.write(read.config, read.params, folder.parent / "again")


# From here on, against transformers.

# theirs: constructor arguments of its T5Config.
_THEIRS = {
  "1.0": {"feed_forward_proj": "relu"},
  "1.1": {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
  "gated, tied": {"feed_forward_proj": "gated-gelu"},
  "relu, untied": {"feed_forward_proj": "relu", "tie_word_embeddings": False},
  "deep encoder": {
    "feed_forward_proj": "gated-gelu",
    "tie_word_embeddings": False,
    "num_layers": 3,
    "num_decoder_layers": 1,
  },
}
_SIZES = {
  "vocab_size": 96,
  "d_model": 48,
  "num_heads": 4,
  "d_kv": 16,  # 4 x 16 differs from 48.
  "d_ff": 80,
  "num_layers": 2,
}


def _oracle(kind, seed=0):
  """Returns a random model of transformers.

  Weights have the scale of their fan-in, so that logits have a standard
  deviation near 1; norms and position biases are far from their initial values,
  so that a mistake in any of them shows.
  """
  transformers = pytest.importorskip(
    "transformers", reason="transformers is the oracle"
  )
  torch = pytest.importorskip("torch", reason="transformers needs PyTorch")
  if kind == "mt5":
    settings = transformers.MT5Config(**_SIZES, feed_forward_proj="gated-gelu")
    model = transformers.MT5ForConditionalGeneration(settings)
  else:
    settings = transformers.T5Config(**(_SIZES | _THEIRS[kind]))
    model = transformers.T5ForConditionalGeneration(settings)
  if kind == "mt5" or _THEIRS[kind].get("tie_word_embeddings") is False:
    model.lm_head.weight = torch.nn.Parameter(
      torch.empty(_SIZES["vocab_size"], _SIZES["d_model"])
    )
  rng = np.random.default_rng(seed)
  with torch.no_grad():
    for name, weight in model.named_parameters():
      value = _random_weight(rng, name, tuple(weight.shape))
      weight.copy_(torch.from_numpy(value.astype(np.float32)))
  return model.eval()


def _random_weight(rng, name, shape):
  if "layer_norm" in name:
    return rng.uniform(0.5, 1.5, shape)
  if "relative_attention_bias" in name:
    return rng.normal(0.0, 0.7, shape)
  if name == "shared.weight":
    return rng.normal(0.0, 1.0, shape)
  scale = shape[1] ** -0.5
  if name.endswith(".q.weight"):
    scale *= _SIZES["d_kv"] ** -0.5  # T5 does not divide the products.
  return rng.normal(0.0, scale, shape)


def _batch(seed=1):
  """Returns a batch whose rows have different lengths on both sides."""
  return fakes.tiny_batch(
    np.random.default_rng(seed),
    batch_size=6,
    inputs_length=21,
    targets_length=9,
    vocab_size=_SIZES["vocab_size"],
  )


def _their_logits(model, batch):
  import torch

  inputs = torch.from_numpy(batch["encoder_input_tokens"]).long()
  targets = torch.from_numpy(batch["decoder_target_tokens"]).long()
  decoder_inputs = torch.from_numpy(batch["decoder_input_tokens"]).long()
  with torch.no_grad():
    return model(
      input_ids=inputs,
      attention_mask=(inputs > 0).long(),
      decoder_input_ids=decoder_inputs,
      decoder_attention_mask=(targets > 0).long(),
    ).logits.numpy()


def _our_logits(config: T5Config, params, batch):
  return t5.T5(config).apply(
    {"params": params},
    batch["encoder_input_tokens"],
    batch["decoder_input_tokens"],
  )


@pytest.mark.oracle
@pytest.mark.parametrize("kind", [*_THEIRS, "mt5"])
def test_logits_of_transformers(tmp_path, kind):
  model = _oracle(kind)
  model.save_pretrained(tmp_path / "model")
  batch = _batch()
  read = huggingface.read(tmp_path / "model")
  real = batch["decoder_target_tokens"] > 0
  assert not real.all()
  assert (batch["encoder_input_tokens"] == 0).any()
  theirs = _their_logits(model, batch)[real]
  ours = _our_logits(read.config, read.params, batch)[real]
  assert 0.5 < theirs.std() < 2.0
  assert np.abs(ours - theirs).max() <= 1e-4


@pytest.mark.oracle
def test_every_weight_matters_to_the_comparison(tmp_path):
  _oracle("1.1").save_pretrained(tmp_path / "model")
  read = huggingface.read(tmp_path / "model")
  flat = tree.flatten(read.params)
  batch = _batch()
  real = batch["decoder_target_tokens"] > 0
  apply = jax.jit(lambda params: _our_logits(read.config, params, batch))
  before = apply(read.params)
  rng = np.random.default_rng(2)
  for name, leaf in flat.items():
    noise = 1 + 0.05 * rng.normal(size=leaf.shape).astype(np.float32)
    changed = apply(tree.unflatten({**flat, name: leaf * noise}))
    assert np.abs(changed - before)[real].max() > 1e-3, name


@pytest.mark.oracle
@pytest.mark.parametrize("kind", _KINDS)
def test_transformers_reads_what_we_write(tmp_path, kind):
  transformers = pytest.importorskip(
    "transformers", reason="transformers is the oracle"
  )
  config = _config(kind)
  params = _params(config)
  huggingface.write(config, params, tmp_path / "model")
  model = transformers.T5ForConditionalGeneration.from_pretrained(
    tmp_path / "model"
  ).eval()
  batch = fakes.tiny_batch(np.random.default_rng(3))
  real = batch["decoder_target_tokens"] > 0
  theirs = _their_logits(model, batch)[real]
  ours = _our_logits(config, params, batch)[real]
  assert np.abs(ours - theirs).max() <= 1e-4


@pytest.mark.oracle
@pytest.mark.parametrize("stored", ["float32", "bfloat16"])
def test_pytorch_files(tmp_path, stored):
  torch = pytest.importorskip("torch", reason="writes the format")
  model = _oracle("1.0").to(getattr(torch, stored))
  folder = tmp_path / "model"
  model.save_pretrained(folder)
  expected = huggingface.read(folder)
  (folder / "model.safetensors").unlink()
  torch.save(model.state_dict(), folder / "pytorch_model.bin")
  read = huggingface.read(folder)
  assert read.config == expected.config
  _assert_equal(read.params, expected.params)
  # As before PyTorch 1.6.
  torch.save(
    model.state_dict(),
    folder / "pytorch_model.bin",
    _use_new_zipfile_serialization=False,
  )
  _assert_equal(huggingface.read(folder).params, expected.params)
  (folder / "pytorch_model.bin").write_bytes(b"PK broken")
  with pytest.raises(ValueError, match=r"pytorch_model\.bin cannot be read"):
    huggingface.read(folder)


def test_pytorch_files_need_pytorch(folder, monkeypatch):
  (folder / "model.safetensors").unlink()
  (folder / "pytorch_model.bin").touch()
  monkeypatch.setitem(sys.modules, "torch", None)
  with pytest.raises(ImportError, match="pip install torch"):
    huggingface.read(folder)


class _Payload:
  """Makes a file when it is unpickled."""

  def __init__(self, path):
    self.path = path

  def __reduce__(self):
    return open, (self.path, "w")


@pytest.mark.oracle
def test_a_pickle_that_runs_code_is_refused(folder, tmp_path):
  torch = pytest.importorskip("torch", reason="reads the format")
  (folder / "model.safetensors").unlink()
  ran = tmp_path / "ran"
  torch.save(
    {"shared.weight": _Payload(str(ran))}, folder / "pytorch_model.bin"
  )
  with pytest.raises(ValueError, match=r"bin is refused: .* call \S*open, "):
    huggingface.read(folder)
  assert not ran.exists()


@pytest.mark.oracle
@pytest.mark.parametrize("content", [[1, 2], {"shared.weight": "a"}])
def test_pytorch_files_of_something_else(folder, content):
  torch = pytest.importorskip("torch", reason="reads the format")
  (folder / "model.safetensors").unlink()
  torch.save(content, folder / "pytorch_model.bin")
  with pytest.raises(ValueError, match="something else than weights by name"):
    huggingface.read(folder)


@pytest.mark.oracle
def test_transformers_reads_the_vocabulary(tmp_path):
  transformers = pytest.importorskip("transformers", reason="reads it")
  config = fakes.tiny_config(vocab_size=640)
  vocabulary = SentencePieceVocabulary(
    paths.embedded_path("sentencepiece.model"), extra_ids=7
  )
  huggingface.write(
    config,
    fakes.tiny_params(fakes.tiny_model(vocab_size=640)),
    tmp_path / "t5",
    pieces=paths.read_bytes(vocabulary.path),
    extra_ids=vocabulary.extra_ids,
  )
  tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "t5")
  assert len(tokenizer) == vocabulary.vocab_size
  for text in ("the cat sat .", "is  it ? <extra_id_0> yes", "na\u00efve, Qx!"):
    assert tokenizer(text).input_ids == [*vocabulary.encode(text), 1]
