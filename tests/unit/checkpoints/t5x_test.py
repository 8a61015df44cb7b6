import os
import shutil
import tarfile

import jax.numpy as jnp
import numpy as np
import pytest
import tensorstore
from flax import serialization

from prompt_tuning.checkpoints import t5x, tree
from prompt_tuning.checkpoints.t5x import Storage
from prompt_tuning.testing.shared import data_path, fixture_path


def _params(seed=0):
  rng = np.random.default_rng(seed)
  shapes = {
    "token_embedder/embedding": (7, 4),
    "encoder/layers_0/attention/query/kernel": (4, 6),
    "encoder/encoder_norm/scale": (4,),
    "decoder/decoder_norm/scale": (4,),
  }
  return tree.unflatten(
    {
      name: rng.normal(size=shape).astype(np.float32)
      for name, shape in shapes.items()
    }
  )


def _assert_equal(loaded, expected):
  loaded, expected = tree.flatten(loaded), tree.flatten(expected)
  assert loaded.keys() == expected.keys()
  for name in expected:
    assert loaded[name].dtype == expected[name].dtype, name
    np.testing.assert_array_equal(loaded[name], expected[name], err_msg=name)


def _rewrite(checkpoint, edit):
  """Edits the msgpack file of a checkpoint in place."""
  file = checkpoint / "checkpoint"
  content = serialization.msgpack_restore(file.read_bytes())
  file.write_bytes(serialization.msgpack_serialize(edit(content) or content))


def _descriptions(content):
  leaves = tree.flatten(
    content["optimizer"]["target"], is_leaf=lambda node: "driver" in node
  )
  return leaves.values()


@pytest.fixture(name="saved")
def _saved(tmp_path):
  return t5x.save(_params(), tmp_path, step=3)


def test_reads_what_t5x_wrote_exactly():
  expected = dict(np.load(fixture_path("params.npz")))
  read = t5x.read(fixture_path("ckpt_t5x") / "checkpoint_0")
  _assert_equal(read.params, tree.unflatten(expected))
  assert read.step == 0
  assert read.optimizer_state is None


def test_reads_the_optimizer_state_on_request():
  read = t5x.read(
    fixture_path("ckpt_t5x") / "checkpoint_0", with_optimizer_state=True
  )
  state = tree.flatten(read.optimizer_state)
  # Adafactor has four slots a parameter.
  assert len(state) == 4 * len(tree.flatten(read.params))
  assert state["token_embedder/embedding/v"].shape == (1024, 48)


def test_reads_a_run_of_googles_prompt_tuning():
  model_dir = fixture_path("model_dir_prompt")
  read = t5x.read(model_dir / "checkpoint_1100010", with_optimizer_state=True)
  assert read.step == 1_100_010
  with open(
    model_dir
    / "numpy_checkpoints/checkpoint_1100010/encoder.prompt.prompt.prompt",
    "rb",
  ) as file:
    prompt = np.load(file)
  flat = tree.flatten(read.params)
  np.testing.assert_array_equal(flat["encoder/prompt/prompt/prompt"], prompt)
  state = tree.flatten(read.optimizer_state)
  assert state["token_embedder/embedding"] is None
  assert state["encoder/prompt/prompt/prompt/v"].shape == prompt.shape


def test_reads_the_layout_of_released_checkpoints(tmp_path):
  # Written by an old T5X: gfile driver, norms inside the msgpack, many chunks.
  with tarfile.open(
    data_path("prompts/test_data/test_t5_1_1_tiny.tar.xz")
  ) as f:
    f.extractall(tmp_path, filter="data")
  read = t5x.read(tmp_path / "test_t5_1_1_tiny" / "checkpoint_3")
  table = np.load(data_path("prompts/test_data/tiny_embeddings_32128x4.npy"))
  flat = tree.flatten(read.params)
  np.testing.assert_array_equal(flat["token_embedder/embedding"], table)
  assert flat["encoder/encoder_norm/scale"].shape == (4,)
  assert flat["decoder/logits_dense/kernel"].shape == (4, 32128)
  # 9 weights an encoder layer, 14 a decoder layer, 2 + 4 outside.
  assert len(flat) == 2 * 9 + 2 * 14 + 6


@pytest.mark.parametrize("storage", Storage)
@pytest.mark.parametrize("dtype", [None, "float32", "bfloat16"])
def test_round_trip(tmp_path, storage, dtype):
  path = t5x.save(_params(), tmp_path, step=7, storage=storage, dtype=dtype)
  assert path == tmp_path / "checkpoint_7"
  read = t5x.read(path)
  expected = {
    name: leaf.astype(jnp.dtype(dtype or "float32"))
    for name, leaf in tree.flatten(_params()).items()
  }
  _assert_equal(read.params, tree.unflatten(expected))
  assert read.step == 7
  assert os.listdir(tmp_path) == ["checkpoint_7"]


def test_one_file_if_asked(tmp_path):
  path = t5x.save(_params(), tmp_path, step=0, storage=Storage.MSGPACK)
  assert os.listdir(path) == ["checkpoint"]


def test_written_layout_is_that_of_t5x(saved):
  # Read with the two libraries that T5X itself reads with.
  content = serialization.msgpack_restore((saved / "checkpoint").read_bytes())
  assert content["version"] == 3
  assert content["optimizer"]["state"]["step"] == 3
  target = content["optimizer"]["target"]
  description = target["encoder"]["layers_0"]["attention"]["query"]["kernel"]
  assert description == {
    "driver": "zarr",
    "dtype": "float32",
    "kvstore": {
      "driver": "file",
      "path": "target.encoder.layers_0.attention.query.kernel/",
    },
    "metadata": {
      "chunks": [4, 6],
      "compressor": {"id": "gzip", "level": 1},
      "shape": [4, 6],
    },
  }
  description["kvstore"]["path"] = (
    str(saved / description["kvstore"]["path"]) + "/"
  )
  array = tensorstore.open(description, open=True).result().read().result()
  np.testing.assert_array_equal(
    array, _params()["encoder"]["layers_0"]["attention"]["query"]["kernel"]
  )


def test_written_layout_has_the_keys_that_t5x_writes(tmp_path):
  theirs = fixture_path("ckpt_t5x") / "checkpoint_0"
  params = t5x.read(theirs).params
  ours = t5x.save(params, tmp_path, step=0)
  files = [
    sorted(
      str(file.relative_to(root))
      for file in root.rglob("*")
      if not str(file.relative_to(root)).startswith("state.")
    )
    for root in (ours, theirs)
  ]
  assert files[0] == files[1]


def test_casts_on_reading(saved):
  read = tree.flatten(t5x.read(saved, dtype="bfloat16").params)
  assert {leaf.dtype for leaf in read.values()} == {jnp.dtype("bfloat16")}


@pytest.mark.parametrize("driver", ["gfile", "gcs"])
def test_driver_and_bucket_of_the_writer_do_not_matter(saved, driver):
  def edit(content):
    for leaf in _descriptions(content):
      leaf["kvstore"]["driver"] = driver
      leaf["kvstore"]["bucket"] = "t5x-dummy-bucket"
      leaf["kvstore"]["path"] = leaf["kvstore"]["path"].rstrip("/")
      leaf["metadata"]["dtype"] = "<f4"
      del leaf["dtype"]

  _rewrite(saved, edit)
  _assert_equal(t5x.read(saved).params, _params())


def test_very_old_descriptions(saved):
  def edit(content):
    for leaf in _descriptions(content):
      leaf["path"] = leaf.pop("kvstore")["path"]

  _rewrite(saved, edit)
  _assert_equal(t5x.read(saved).params, _params())


def test_chunks_of_the_description_do_not_matter(saved):
  def edit(content):
    for leaf in _descriptions(content):
      leaf["metadata"]["chunks"] = [1] * len(leaf["metadata"]["shape"])
      leaf["metadata"]["compressor"] = None

  _rewrite(saved, edit)
  _assert_equal(t5x.read(saved).params, _params())


def test_a_moved_checkpoint_reads(saved, tmp_path):
  moved = tmp_path / "elsewhere" / "checkpoint_3"
  moved.parent.mkdir()
  shutil.move(saved, moved)
  _assert_equal(t5x.read(moved).params, _params())


@pytest.mark.parametrize("keep", [0, 1, 0.5, 0.99])
def test_truncated_file(saved, keep):
  file = saved / "checkpoint"
  data = file.read_bytes()
  file.write_bytes(data[: keep if keep == 1 else int(len(data) * keep)])
  with pytest.raises(ValueError, match="checkpoint_3/checkpoint") as caught:
    t5x.read(saved)
  assert "truncated or corrupt" in str(caught.value)


def test_a_missing_array_is_named(saved):
  shutil.rmtree(saved / "target.encoder.encoder_norm.scale")
  with pytest.raises(ValueError, match=r"target\.encoder\.encoder_norm\.scale"):
    t5x.read(saved)


def test_a_weight_that_is_none_is_an_error(saved):
  def edit(content):
    content["optimizer"]["target"]["token_embedder"]["embedding"] = None

  _rewrite(saved, edit)
  with pytest.raises(ValueError, match="token_embedder/embedding is NoneType"):
    t5x.read(saved)


@pytest.mark.parametrize("version", [0, 1, 4, "3", True, None])
def test_other_versions(saved, version):
  _rewrite(saved, lambda content: {**content, "version": version})
  with pytest.raises(ValueError, match=f"of version {version!r}"):
    t5x.read(saved)


@pytest.mark.parametrize(
  "content",
  [
    {"version": 3, "optimizer": 3},
    {"version": 3, "optimizer": None},
    {"version": 3, "optimizer": {"target": {}}},
    {"version": 3, "optimizer": {"target": np.ones(2_000)}},
    {"version": 3},
  ],
)
def test_no_parameters(saved, content):
  _rewrite(saved, lambda _: content)
  with pytest.raises(ValueError, match=r"checkpoint_3/checkpoint holds no par"):
    t5x.read(saved)


def test_some_other_msgpack(saved):
  _rewrite(saved, lambda content: {"params": {"a": np.ones(2)}})
  with pytest.raises(ValueError, match="not a T5X checkpoint"):
    t5x.read(saved)


def test_never_overwrites(saved, tmp_path):
  with pytest.raises(FileExistsError):
    t5x.save(_params(1), tmp_path, step=3)
  _assert_equal(t5x.read(saved).params, _params())


def test_failed_save_leaves_nothing(tmp_path, monkeypatch):
  def fail(*args, **kwargs):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(t5x.paths, "write_bytes", fail)
  num_bytes = sum(leaf.nbytes for leaf in tree.flatten(_params()).values())
  with pytest.raises(OSError, match=f"disk full.*{num_bytes} bytes needed"):
    t5x.save(_params(), tmp_path, step=0)
  assert os.listdir(tmp_path) == []
