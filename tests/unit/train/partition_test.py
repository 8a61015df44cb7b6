"""Tests of splitting parameters into trainable and frozen."""

import jax
import numpy as np
import pytest

from prompt_tuning.model import quantization, t5
from prompt_tuning.model.config import T5Config
from prompt_tuning.testing import fakes
from prompt_tuning.train import partition

PARAMS = {
  "token_embedder": {"embedding": np.ones((6, 2))},
  "encoder": {
    "layers_0": {"mlp": {"wo": {"kernel": np.ones((3, 2))}}},
    "layers_10": {"mlp": {"wo": {"kernel": np.ones((3, 2))}}},
  },
  "prompt": {"embedding": np.ones((4, 2))},
}


def _paths(tree):
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {partition.path_name(path) for path, _ in leaves}


@pytest.mark.parametrize(
  ("patterns", "expected"),
  [
    (["prompt/.*"], {"prompt/embedding"}),
    ([r"encoder/layers_1\d*/.*"], {"encoder/layers_10/mlp/wo/kernel"}),
    (
      ["prompt/.*", ".*embedding"],
      {"prompt/embedding", "token_embedder/embedding"},
    ),
  ],
)
def test_patterns_match_whole_paths(patterns, expected):
  parts = partition.split(PARAMS, patterns)
  assert _paths(parts.trainable) == expected
  assert _paths(parts.frozen) == _paths(PARAMS) - expected


def test_everything_may_be_trained():
  parts = partition.split(PARAMS, [".*"])
  assert _paths(parts.trainable) == _paths(PARAMS)
  assert parts.frozen == {}


@pytest.mark.parametrize("patterns", [["prompt/.*"], ["encoder/.*"], [".*"]])
def test_merge_undoes_split_without_copying(patterns):
  parts = partition.split(PARAMS, patterns)
  merged = partition.merge(parts.trainable, parts.frozen)
  assert jax.tree.structure(merged) == jax.tree.structure(PARAMS)
  same = jax.tree.map(lambda a, b: a is b, merged, PARAMS)
  assert all(jax.tree.leaves(same))


@pytest.mark.parametrize("pattern", [".*", "encoder/.*", ".*/kernel"])
def test_int8_weights_are_not_trained(pattern):
  params = quantization.quantize_params(PARAMS)
  with pytest.raises(ValueError, match=r"kept as int8.*BACKBONE_DTYPE to"):
    partition.split(params, [pattern])
  with pytest.raises(ValueError, match="encoder/layers_0/mlp/wo/kernel"):
    partition.describe(params, [pattern])


def test_the_prompt_of_an_int8_backbone_is_trained():
  params = quantization.quantize_params(PARAMS)
  parts = partition.split(params, ["prompt/.*"])
  assert _paths(parts.trainable) == {"prompt/embedding"}
  total = partition.describe(params, ["prompt/.*"]).splitlines()[-2].split()
  # 12 and 2 x 6 integers, as many scales as rows and columns, 8 floats.
  assert total[-1] == f"{12 + 12 + 4 * (6 + 2 + 2) + 4 * 8}"


def test_merge_refuses_a_parameter_in_both_parts():
  with pytest.raises(ValueError, match=r"both.*prompt/embedding"):
    partition.merge(PARAMS, {"prompt": PARAMS["prompt"]})


@pytest.mark.parametrize(
  ("patterns", "message"),
  [
    ([], "nothing would be trained"),
    (["promt/.*"], r"'promt/\.\*' matches none.*nearest.*prompt/embedding"),
    (["prompt"], r"must match a whole path, so add '\.\*'"),
    (["prompt/.*", "adapter/.*"], "'adapter/"),
    (["prompt/("], "no regular expression"),
    ("prompt/.*", "must be a list"),
  ],
)
def test_bad_patterns_are_explained(patterns, message):
  with pytest.raises(ValueError, match=message):
    partition.split(PARAMS, patterns)


def test_split_works_on_shapes():
  shapes = t5.abstract_params(fakes.tiny_model(fakes.tiny_prompt()))
  parts = partition.split(shapes, ["prompt/.*"])
  assert parts.trainable["prompt"]["embedding"].shape == (4, fakes.EMBED_DIM)


def test_describe_counts_t5_1_1_small_as_published():
  # 76,961,152 is the size of google/t5-v1_1-small; Lester et al. (2021), table
  # 4, give 51,200 parameters for 100 soft tokens of this width.
  config = T5Config(
    vocab_size=32128,
    embed_dim=512,
    num_heads=6,
    head_dim=64,
    mlp_dim=1024,
    num_encoder_layers=8,
    num_decoder_layers=8,
  )
  model = t5.T5(config, fakes.tiny_prompt(100, features=512))
  text = partition.describe(t5.abstract_params(model), ["prompt/.*"])
  rows = {line.split()[0]: line.split()[1:] for line in text.splitlines()[:-1]}
  assert rows["prompt"] == ["51,200", "0", "51,200", "100.0000", "204,800"]
  total = 76_961_152 + 51_200
  assert rows["total"][:3] == ["51,200", "76,961,152", f"{total:,}"]
  assert rows["total"][3] == f"{100 * 51_200 / total:.4f}"
  assert rows["total"][4] == f"{4 * total:,}"
  assert text.endswith("trainable patterns: prompt/.*\n")
