"""Heads that start with a role play it on random tokens."""

import jax
import numpy as np
import pytest

from prompt_tuning.model import attention, t5
from prompt_tuning.model.config import T5Config
from prompt_tuning.model.initialization import give_heads_roles

TOKENS = np.array([[7, 11, 5, 7, 23, 31, 40, 2]])


def _config(num_heads: int, head_dim: int) -> T5Config:
  return T5Config(
    vocab_size=64,
    embed_dim=64,
    num_heads=num_heads,
    head_dim=head_dim,
    mlp_dim=16,
    num_encoder_layers=2,
    num_decoder_layers=1,
  )


def _weights(params, config, layer: int) -> np.ndarray:
  """Attention weights [H, L, L] of one encoder layer on bare embeddings."""
  kernels = params["encoder"][f"layers_{layer}"]["attention"]
  x = np.asarray(params["token_embedder"]["embedding"])[TOKENS[0]]
  x /= np.sqrt(np.mean(x**2, axis=-1, keepdims=True))
  heads = (len(x), config.num_heads, config.head_dim)
  queries = (x @ kernels["query"]["kernel"]).reshape(heads)
  keys = (x @ kernels["key"]["kernel"]).reshape(heads)
  positions = np.arange(len(x))[None]
  bias = attention.RelativePositionBias(config, bidirectional=True).apply(
    {"params": params["encoder"]["relpos_bias"]}, positions, positions
  )
  scores = np.einsum("qhk,mhk->hqm", queries, keys) + np.asarray(bias)[0]
  return np.asarray(jax.nn.softmax(scores, axis=-1))


@pytest.fixture(scope="module", params=[(4, 32), (5, 32), (4, 64)])
def started(request):
  config = _config(*request.param)
  params = t5.init_params(t5.T5(config), jax.random.key(0))
  return config, params, give_heads_roles(params, config)


@pytest.mark.parametrize("layer", [0, 1])
def test_matching_heads_find_the_other_occurrence(started, layer):
  config, params, roles = started
  heads = slice(0, config.num_heads // 2)
  weights = _weights(roles, config, layer)[heads]
  # Token 7 stands at positions 0 and 3.
  assert weights[:, 0, 3].min() > 0.6
  assert weights[:, 3, 0].min() > 0.6
  assert weights[:, 0, 0].max() < 0.1
  assert _weights(params, config, layer)[heads][:, 0, 3].max() < 0.6


def test_last_heads_look_at_the_neighbours(started):
  config, _, roles = started
  weights = _weights(roles, config, 0)
  inner = np.arange(1, TOKENS.size - 1)
  assert weights[-1, inner, inner - 1].min() > 0.6
  assert weights[-2, inner, inner + 1].min() > 0.6


def test_everything_else_stays(started):
  config, params, roles = started
  width = config.num_heads // 2 * config.head_dim
  changed = {
    jax.tree_util.keystr(path)
    for (path, old), new in zip(
      jax.tree_util.tree_flatten_with_path(params)[0],
      jax.tree.leaves(roles),
      strict=True,
    )
    if not np.array_equal(old, new)
  }
  assert changed == {
    "['encoder']['relpos_bias']['rel_embedding']",
    "['encoder']['layers_0']['attention']['key']['kernel']",
    "['encoder']['layers_1']['attention']['key']['kernel']",
  }
  for name in ("layers_0", "layers_1"):
    old = params["encoder"][name]["attention"]["key"]["kernel"]
    new = roles["encoder"][name]["attention"]["key"]["kernel"]
    assert np.array_equal(old[:, width:], new[:, width:])


@pytest.mark.parametrize("num_heads", [1, 2])
def test_few_heads_take_the_first_roles(num_heads):
  config = _config(num_heads, 32)
  params = t5.init_params(t5.T5(config), jax.random.key(0))
  bias = give_heads_roles(params, config)["encoder"]["relpos_bias"]
  before = np.asarray(bias["rel_embedding"])[-1, 1]
  assert before == pytest.approx(6.0)
