import numpy as np
import pytest

from prompt_tuning.checkpoints import scanned, t5x, tree
from prompt_tuning.checkpoints.stored import Stored
from prompt_tuning.model import t5
from prompt_tuning.model.config import T5Config
from prompt_tuning.testing.shared import fixture_path

# fixtures/ckpt_t5x_scan; K 6, H 4, D 8, three and two layers.
_CONFIG = T5Config(
  vocab_size=256,
  embed_dim=8,
  num_heads=4,
  head_dim=6,
  mlp_dim=16,
  num_encoder_layers=3,
  num_decoder_layers=2,
)


def _raw(monkeypatch):
  """Reads the stacked arrays of the fixture as they are."""
  with monkeypatch.context() as patch:
    patch.setattr(t5x.scanned, "unroll", lambda leaves, source: leaves)
    path = fixture_path("ckpt_t5x_scan") / "checkpoint_0"
    return t5x.read(path).params


def _share_bias(params):
  for stack in ("encoder", "decoder"):
    bias = params[stack][stack]["relpos_bias"]["rel_embedding"]
    params[stack][stack]["relpos_bias"]["rel_embedding"] = np.broadcast_to(
      bias[:, :1], bias.shape
    )
  return params


def _unroll(params):
  leaves = (
    (name, Stored.of(np.asarray(x))) for name, x in tree.flatten(params).items()
  )
  unrolled = dict(scanned.unroll(leaves, source="x"))
  return tree.unflatten({name: np.asarray(x) for name, x in unrolled.items()})


def test_different_biases_are_an_error():
  with pytest.raises(ValueError, match="different relative position biases"):
    t5x.read(fixture_path("ckpt_t5x_scan") / "checkpoint_0")


def test_unrolled_layers_fit_the_model(monkeypatch):
  params = _unroll(_share_bias(_raw(monkeypatch)))
  expected = t5.abstract_params(t5.T5(_CONFIG))
  tree.check_tree(params, expected, source="x")


def test_values_of_a_layer(monkeypatch):
  raw = _share_bias(_raw(monkeypatch))
  params = _unroll(raw)
  layer = params["encoder"]["layers_2"]
  stacked = raw["encoder"]["encoder"]
  query = stacked["attention"]["query"]["kernel"][:, 2]  # [D, H, K]
  x = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
  heads = np.einsum("ld,dhk->lhk", x, query)
  np.testing.assert_allclose(
    (x @ layer["attention"]["query"]["kernel"]).reshape(5, 4, 6),
    heads,
    rtol=1e-5,
    atol=1e-6,
  )
  out = stacked["attention"]["out"]["kernel"][:, 2]  # [H, K, D]
  np.testing.assert_allclose(
    heads.reshape(5, 24) @ layer["attention"]["out"]["kernel"],
    np.einsum("lhk,hkd->ld", heads, out),
    rtol=1e-4,
    atol=1e-5,
  )
  np.testing.assert_array_equal(
    layer["mlp"]["wo"]["kernel"], stacked["mlp"]["wo"]["kernel"][:, 2]
  )
  np.testing.assert_array_equal(
    params["decoder"]["relpos_bias"]["rel_embedding"],
    raw["decoder"]["decoder"]["relpos_bias"]["rel_embedding"][:, 0],
  )


def test_unscanned_parameters_come_back_as_they_are():
  leaves = {"encoder/layers_0/scale": 1, "token_embedder/x": 2}
  assert dict(scanned.unroll(leaves.items(), source="x")) == leaves
