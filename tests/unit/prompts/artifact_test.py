import hashlib
import json
import os
import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from prompt_tuning.prompts import artifact
from prompt_tuning.prompts.artifact import PromptCard
from prompt_tuning.testing.shared import data_path, fixture_path

_ARRAY = np.arange(12, dtype=np.float32).reshape(3, 4)
_CARD = PromptCard(
  length=3,
  width=4,
  backbone="0123456789abcdef",
  step=30_000,
  initialiser="class_labels",
  task="sst2",
  metric_name="accuracy",
  metric_value=95.07,
  library_version="0.1.0",
)


@pytest.fixture(name="path")
def _path(tmp_path):
  path = tmp_path / "best.npy"
  artifact.save_prompt(path, _ARRAY, _CARD)
  return path


# The prompt's file.


def test_round_trip(path):
  saved = artifact.load_prompt(
    path, expected_width=4, backbone_fingerprint="0123456789abcdef"
  )
  np.testing.assert_array_equal(saved.array, _ARRAY)
  assert saved.array.dtype == np.float32
  assert saved.card == _CARD


def test_files_are_plain(path):
  np.testing.assert_array_equal(np.load(path), _ARRAY)
  described = json.loads(path.with_suffix(".json").read_text())
  assert described["metric_value"] == 95.07
  assert described["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
  assert sorted(os.listdir(path.parent)) == ["best.json", "best.npy"]


@pytest.mark.parametrize("shape", [(2, 3, 4), (1, 3, 4)])
def test_banks(tmp_path, shape):
  array = np.random.default_rng(0).normal(size=shape).astype(np.float32)
  card = PromptCard(
    length=3, width=4, backbone="x", step=0, num_prompts=shape[0]
  )
  artifact.save_prompt(tmp_path / "bank.npy", array, card)
  saved = artifact.load_prompt(tmp_path / "bank.npy", expected_width=4)
  # A bank of one is a prompt.
  expected = array if shape[0] > 1 else array[0]
  np.testing.assert_array_equal(saved.array, expected)


def test_stores_float32_of_a_device_array(tmp_path):
  card = PromptCard(length=3, width=4, backbone="x", step=0)
  artifact.save_prompt(tmp_path / "p.npy", jnp.ones((3, 4), jnp.bfloat16), card)
  assert np.load(tmp_path / "p.npy").dtype == np.float32


def test_replaces_an_old_prompt(path):
  artifact.save_prompt(path, _ARRAY + 1, _CARD)
  np.testing.assert_array_equal(artifact.load_prompt(path).array, _ARRAY + 1)


def test_card_and_array_must_agree(tmp_path):
  with pytest.raises(ValueError, match=r"length 3 and width 4.*\[4, 3\]"):
    artifact.save_prompt(tmp_path / "p.npy", _ARRAY.T, _CARD)
  assert os.listdir(tmp_path) == []


def test_the_ending_is_fixed(tmp_path):
  with pytest.raises(ValueError, match=r"must end in \.npy"):
    artifact.save_prompt(tmp_path / "prompt", _ARRAY, _CARD)


def test_another_width(path):
  with pytest.raises(ValueError, match="width 4, but the backbone has width 8"):
    artifact.load_prompt(path, expected_width=8)


def test_another_backbone(path):
  with pytest.raises(
    ValueError, match="on the backbone 0123456789abcdef, but this one is fedc"
  ):
    artifact.load_prompt(path, backbone_fingerprint="fedc")


def test_missing_card(path):
  path.with_suffix(".json").unlink()
  with pytest.raises(
    ValueError, match=r"no card \(best\.json\).*allow_missing"
  ):
    artifact.load_prompt(path)
  saved = artifact.load_prompt(path, allow_missing_card=True)
  assert saved.card is None
  np.testing.assert_array_equal(saved.array, _ARRAY)


def test_a_missing_card_excuses_no_other_width(path):
  path.with_suffix(".json").unlink()
  with pytest.raises(ValueError, match="width 4, but"):
    artifact.load_prompt(path, expected_width=8, allow_missing_card=True)


def test_card_of_another_array(path):
  np.save(path, _ARRAY + 1)
  with pytest.raises(ValueError, match="describes another array"):
    artifact.load_prompt(path, allow_missing_card=True)


def test_card_of_another_array_whose_own_card_is_near(path):
  """A run saves each prompt under its step, then as the best."""
  artifact.save_prompt(path.with_name("prompt_20.npy"), _ARRAY + 1, _CARD)
  (path.parent / "notes.json").write_text("[]")
  np.save(path, _ARRAY + 1)
  with pytest.raises(ValueError, match=r"prompt_20\.npy beside it is the same"):
    artifact.load_prompt(path)


@pytest.mark.parametrize("keep", [0, 5, 100, 150])
def test_truncated_array(path, keep):
  path.write_bytes(path.read_bytes()[:keep])
  with pytest.raises(ValueError, match=r"best\.npy is not a complete \.npy"):
    artifact.load_prompt(path)


def test_pickles_are_refused(path):
  np.save(path, np.array([[{"a": 1}]], dtype=object), allow_pickle=True)
  with pytest.raises(ValueError, match="not a complete"):
    artifact.load_prompt(path, allow_missing_card=True)


@pytest.mark.parametrize(
  "array", [np.ones(3), np.ones((2, 2), np.int32), np.ones((1, 2, 3, 4))]
)
def test_arrays_that_are_no_prompts(tmp_path, array):
  np.save(tmp_path / "p.npy", array)
  with pytest.raises(ValueError, match="a prompt is floating point"):
    artifact.load_prompt(tmp_path / "p.npy", allow_missing_card=True)


@pytest.mark.parametrize(
  "text", ["{", "[]", "{}", '{"format_version": 1, "sha256": "", "x": 2}']
)
def test_broken_card(path, text):
  path.with_suffix(".json").write_text(text)
  with pytest.raises(ValueError, match=r"best\.json is not the card"):
    artifact.load_prompt(path)


def test_card_of_a_newer_version(path):
  card_path = path.with_suffix(".json")
  described = json.loads(card_path.read_text()) | {"format_version": 2}
  card_path.write_text(json.dumps(described))
  with pytest.raises(ValueError, match="newer version"):
    artifact.load_prompt(path)


def test_no_file(tmp_path):
  with pytest.raises(FileNotFoundError, match="gone"):
    artifact.load_prompt(tmp_path / "gone.npy")


@pytest.mark.parametrize(
  ("name", "total"),
  [("mrpc", 35771.955), ("rte", 24069.125), ("sst2", 27688.007)],
)
def test_prompts_that_google_released(name, total):
  path = data_path(f"prompts/t5_1_1_lm100k_base/{name}.npy")
  saved = artifact.load_prompt(
    path, expected_width=768, allow_missing_card=True
  )
  assert saved.array.shape == (100, 768)
  assert saved.array.sum(dtype=np.float64) == pytest.approx(total, rel=1e-6)


def test_numpy_checkpoints_of_t5x():
  path = (
    fixture_path("model_dir_prompt")
    / "numpy_checkpoints/checkpoint_1100010/encoder.prompt.prompt.prompt"
  )
  saved = artifact.load_prompt(path, allow_missing_card=True)
  assert saved.array.shape == (10, 48)
  with pytest.raises(ValueError, match="no card"):
    artifact.load_prompt(path)


# The backbone's fingerprint.


def _tree(scale=1.0):
  return {
    "b": {"kernel": np.arange(1000, dtype=np.float32).reshape(10, 100) * scale},
    "a": np.ones(3, np.float32),
  }


def test_fingerprint_is_what_the_docstring_says():
  # Cards out in the world hold digests: this must never change.
  digest = hashlib.sha256()
  digest.update(b"a:(3,);")
  digest.update(np.ones(3, jnp.bfloat16).tobytes())
  digest.update(b"b/kernel:(10, 100);")
  values = [index * 1000 // 256 for index in range(256)]
  digest.update(np.array(values, np.float32).astype(jnp.bfloat16).tobytes())
  assert artifact.fingerprint(_tree()) == digest.hexdigest()[:16]
  assert artifact.fingerprint(_tree()) == "185b15f2b7ba9e99"


def test_fingerprint_does_not_depend_on_the_type():
  params = jax.tree.map(jnp.asarray, _tree())
  half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params)
  on_host = jax.tree.map(np.asarray, params)
  expected = artifact.fingerprint(params)
  assert len(expected) == 16
  assert artifact.fingerprint(half) == expected
  assert artifact.fingerprint(on_host) == expected


def test_fingerprint_copies_no_weight():
  params = {"a": {"kernel": np.zeros((1024, 1024), np.float32)}}
  artifact.fingerprint(params)  # What is imported at the first call.
  tracemalloc.start()
  artifact.fingerprint(params)
  _, peak = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  assert peak < 2**17  # Of 4 MiB.


def test_fingerprint_leaves_out_the_prompt():
  with_prompt = {**_tree(), "prompt": {"embedding": np.ones((4, 16))}}
  assert artifact.fingerprint(with_prompt) == artifact.fingerprint(_tree())


def test_fingerprint_does_not_depend_on_the_order_of_keys():
  params = _tree()
  turned = dict(reversed(params.items()))
  assert list(turned) != list(params)
  assert artifact.fingerprint(turned) == artifact.fingerprint(params)


@pytest.mark.parametrize(
  "other",
  [
    _tree(scale=1.01),
    {**_tree(), "a": np.ones(4, np.float32)},
    {**_tree(), "a": np.full(3, 2.0, np.float32)},
    {"b": _tree()["b"], "c": _tree()["a"]},
    {"b": {"kernel": _tree()["b"]["kernel"].reshape(100, 10)}, "a": np.ones(3)},
    {"b": _tree()["b"]},
  ],
)
def test_fingerprint_of_other_weights(other):
  assert artifact.fingerprint(other) != artifact.fingerprint(_tree())
