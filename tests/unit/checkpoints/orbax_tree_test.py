import shutil

import numpy as np
import orbax.checkpoint as ocp
import pytest

from prompt_tuning.checkpoints import orbax_tree, tree
from prompt_tuning.testing.shared import fixture_path


def _save(path, nested, **layout):
  handler = ocp.PyTreeCheckpointHandler(**layout)
  with ocp.Checkpointer(handler) as checkpointer:
    checkpointer.save(path, nested)


def _assert_equal(loaded, expected):
  loaded = dict(loaded)
  assert loaded.keys() == expected.keys()
  for name, leaf in loaded.items():
    np.testing.assert_array_equal(leaf, expected[name], err_msg=name)


def _read(folder):
  return {name: np.asarray(x) for name, x in orbax_tree.t5x_leaves(folder)}


def test_reads_what_t5x_wrote_exactly():
  expected = dict(np.load(fixture_path("params.npz")))
  folder = fixture_path("ckpt_orbax") / "checkpoint_0"
  _assert_equal(orbax_tree.t5x_leaves(folder), expected)


@pytest.mark.parametrize("use_ocdbt", [True, False])
@pytest.mark.parametrize("use_zarr3", [True, False])
def test_reads_every_layout_of_orbax(tmp_path, use_ocdbt, use_zarr3):
  saved = {"a": {"b": np.arange(6.0).reshape(2, 3)}, "c": np.ones(2)}
  _save(tmp_path / "x", saved, use_ocdbt=use_ocdbt, use_zarr3=use_zarr3)
  assert orbax_tree.is_tree(tmp_path / "x")
  _assert_equal(orbax_tree.leaves(tmp_path / "x"), tree.flatten(saved))
  part = orbax_tree.leaves(tmp_path / "x", subtree="a")
  _assert_equal(part, {"b": saved["a"]["b"]})


@pytest.fixture(name="copied")
def _copied(tmp_path):
  folder = tmp_path / "checkpoint_0"
  shutil.copytree(fixture_path("ckpt_orbax") / "checkpoint_0", folder)
  for path in folder.rglob("*"):
    path.chmod(0o755)
  return folder


@pytest.mark.parametrize(
  "lost", ["ocdbt.process_0/d", "d", "manifest.ocdbt", "ocdbt.process_0"]
)
def test_lost_data_is_an_error(copied, lost):
  path = copied / "state" / lost
  shutil.rmtree(path) if path.is_dir() else path.unlink()
  with pytest.raises(ValueError, match=r"checkpoint_0/state .*cannot be read"):
    _read(copied)


def test_truncated_data_is_an_error(copied):
  files = (copied / "state" / "ocdbt.process_0" / "d").iterdir()
  largest = max(files, key=lambda path: path.stat().st_size)
  largest.write_bytes(largest.read_bytes()[:1000])
  with pytest.raises(ValueError, match=r"checkpoint_0/state .*cannot be read"):
    _read(copied)


def test_truncated_metadata_is_an_error(copied):
  path = copied / "state" / "_METADATA"
  path.write_text(path.read_text()[:1000])
  with pytest.raises(ValueError, match="_METADATA is truncated or corrupt"):
    _read(copied)


@pytest.mark.parametrize("use_zarr3", [True, False])
def test_zeros_are_data(tmp_path, use_zarr3):
  _save(tmp_path / "x", {"a": np.zeros((2, 3))}, use_zarr3=use_zarr3)
  _assert_equal(orbax_tree.leaves(tmp_path / "x"), {"a": np.zeros((2, 3))})


def test_empty_nodes_leave_no_trace(tmp_path):
  _save(tmp_path / "x", {"a": np.ones(2), "b": None, "c": {}})
  assert [path for path, _ in orbax_tree.leaves(tmp_path / "x")] == ["a"]


def test_no_such_part(tmp_path):
  _save(tmp_path / "x", {"a": np.ones(2)})
  with pytest.raises(ValueError, match="no arrays under 'target'"):
    dict(orbax_tree.leaves(tmp_path / "x", subtree="target"))


def test_not_a_tree(tmp_path):
  assert not orbax_tree.is_tree(tmp_path)
