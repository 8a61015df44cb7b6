import shutil

import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from prompt_tuning.checkpoints import orbax_tree, tree
from prompt_tuning.testing.shared import fixture_path


def _assert_equal(loaded, expected):
  loaded = tree.flatten(loaded)
  assert loaded.keys() == expected.keys()
  for name, leaf in loaded.items():
    assert isinstance(leaf, np.ndarray)
    np.testing.assert_array_equal(leaf, expected[name], err_msg=name)


def test_reads_what_t5x_wrote_exactly():
  expected = dict(np.load(fixture_path("params.npz")))
  folder = fixture_path("ckpt_orbax") / "checkpoint_0"
  _assert_equal(orbax_tree.read_t5x_params(folder), expected)


@pytest.mark.parametrize("use_ocdbt", [True, False])
@pytest.mark.parametrize("use_zarr3", [True, False])
def test_reads_every_layout_of_orbax(tmp_path, use_ocdbt, use_zarr3):
  saved = {"a": {"b": np.arange(6.0).reshape(2, 3)}, "c": np.ones(2)}
  handler = ocp.PyTreeCheckpointHandler(
    use_ocdbt=use_ocdbt, use_zarr3=use_zarr3
  )
  with ocp.Checkpointer(handler) as checkpointer:
    checkpointer.save(tmp_path / "x", saved)
  assert orbax_tree.is_tree(tmp_path / "x")
  _assert_equal(orbax_tree.read_tree(tmp_path / "x"), tree.flatten(saved))
  part = orbax_tree.read_tree(tmp_path / "x", subtree="a", dtype="bfloat16")
  assert part["b"].dtype == jnp.bfloat16
  assert list(part) == ["b"]


def test_lost_data_is_an_error(tmp_path):
  shutil.copytree(fixture_path("ckpt_orbax"), tmp_path / "x")
  folder = tmp_path / "x" / "checkpoint_0"
  for path in folder.rglob("*"):
    path.chmod(0o755)
  shutil.rmtree(folder / "state" / "ocdbt.process_0" / "d")
  with pytest.raises(ValueError, match="checkpoint_0/state cannot be read"):
    orbax_tree.read_t5x_params(folder)


def test_no_such_part(tmp_path):
  with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
    checkpointer.save(tmp_path / "x", {"a": np.ones(2)})
  with pytest.raises(ValueError, match="no such part"):
    orbax_tree.read_tree(tmp_path / "x", subtree="target")


def test_not_a_tree(tmp_path):
  assert not orbax_tree.is_tree(tmp_path)
