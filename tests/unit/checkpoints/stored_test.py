"""Parts of what is stored equal the same parts of the whole."""

import dataclasses

import jax
import numpy as np
import pytest

from prompt_tuning.checkpoints import (
  huggingface,
  load,
  orbax_tree,
  t5x,
  tree,
  zarr,
)
from prompt_tuning.checkpoints.stored import Stored, stacked
from prompt_tuning.model import t5
from prompt_tuning.model.stack import stack_layers
from prompt_tuning.testing import fakes
from prompt_tuning.train import mesh as mesh_lib

ARRAY = np.arange(2 * 6 * 4 * 5, dtype=np.float32).reshape(2, 6, 4, 5)
STORED = Stored.of(ARRAY)
# What a view of an array is, and the same of numpy's.
VIEWS = {
  "itself": (STORED, ARRAY),
  "transposed": (STORED.transposed(), ARRAY.T),
  "at": (STORED.at(3, axis=1), ARRAY[:, 3]),
  "joined": (STORED.joined(1), ARRAY.reshape(2, 24, 5)),
  "joined last": (STORED.joined(2), ARRAY.reshape(2, 6, 20)),
  "joined first": (STORED.at(0, axis=0).joined(0), ARRAY[0].reshape(24, 5)),
  "astype": (STORED.astype(np.float16), ARRAY.astype(np.float16)),
  "stacked": (stacked([STORED] * 2), np.stack([ARRAY] * 2)),
}


@pytest.mark.parametrize("name", VIEWS)
def test_parts_of_a_view(name):
  view, wanted = VIEWS[name]
  assert (view.shape, view.dtype) == (wanted.shape, wanted.dtype)
  assert (view.ndim, view.size) == (wanted.ndim, wanted.size)
  np.testing.assert_array_equal(view, wanted)
  rng = np.random.default_rng(0)
  for _ in range(20):
    bounds = [np.sort(rng.integers(0, size + 1, 2)) for size in wanted.shape]
    index = tuple(slice(*map(int, each)) for each in bounds)
    np.testing.assert_array_equal(view[index], wanted[index])
  np.testing.assert_array_equal(view[1:], wanted[1:])


def test_points_are_read_a_block_at_a_time(monkeypatch):
  monkeypatch.setattr("prompt_tuning.checkpoints.stored._BLOCK_BYTES", 200)
  sizes = []

  def read(index):
    sizes.append(ARRAY.reshape(-1, 5)[index].nbytes)
    return ARRAY.reshape(-1, 5)[index]

  wanted = np.array([0, 1, 7, 100, 239])
  view = Stored((48, 5), ARRAY.dtype, read)
  np.testing.assert_array_equal(view.points(wanted), ARRAY.reshape(-1)[wanted])
  assert max(sizes) <= 200


CONFIG = fakes.tiny_config()
PARAMS = fakes.tiny_params(fakes.tiny_model())
FORMS = ("t5x", "one file", "huggingface", "orbax")


def write(form, folder):
  match form:
    case "t5x":
      t5x.save(PARAMS, folder, step=0)
    case "one file":
      t5x.save(PARAMS, folder, step=0, storage=t5x.Storage.MSGPACK)
    case "huggingface":
      pytest.importorskip("safetensors", reason="the format needs it")
      huggingface.write(CONFIG, PARAMS, folder)
    case "orbax":
      import orbax.checkpoint as ocp

      with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(
          (folder / "checkpoint_0" / "state").absolute(), {"target": PARAMS}
        )
  return folder


@pytest.mark.multidevice
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("scan_layers", [False, True])
def test_each_device_holds_its_part(form, dtype, scan_layers, tmp_path):
  config = dataclasses.replace(CONFIG, scan_layers=scan_layers)
  folder = write(form, tmp_path / "x")
  whole = load.load_backbone(folder, config=config, dtype=dtype)
  opened = load.load_backbone(folder, config=config, dtype=dtype, in_parts=True)
  assert opened.fingerprint == whole.fingerprint
  assert all(isinstance(x, Stored) for x in jax.tree.leaves(opened.params))
  mesh = mesh_lib.make_mesh(data=1, model=8)
  axes = t5.logical_axes(t5.T5(config))
  shardings = mesh_lib.param_shardings(opened.params, axes, mesh=mesh)
  placed = tree.flatten(mesh_lib.place(opened.params, shardings))
  num_cut = 0
  for path, wanted in tree.flatten(whole.params).items():
    np.testing.assert_array_equal(placed[path], wanted, err_msg=path)
    assert placed[path].dtype == wanted.dtype
    ways = 8 if "model" in str(tree.flatten(shardings)[path].spec) else 1
    num_cut += ways > 1
    for shard in placed[path].addressable_shards:
      assert shard.data.size * ways == wanted.size, path
  assert num_cut > len(placed) / 2


@pytest.mark.parametrize("form", ["t5x", "huggingface", "orbax"])
def test_a_host_reads_no_more_than_its_part(form, tmp_path):
  """The matrices of one device of eight, which a process may own alone."""
  folder = write(form, tmp_path / "x")
  opened = tree.flatten(
    load.load_backbone(folder, config=CONFIG, in_parts=True).params
  )
  whole = tree.flatten(PARAMS)
  for path in ("encoder/layers_1/mlp/wo/kernel", "token_embedder/embedding"):
    rows = opened[path].shape[0] // 8
    part = opened[path][rows : 2 * rows]
    assert part.nbytes * 8 == opened[path].nbytes
    np.testing.assert_array_equal(part, whole[path][rows : 2 * rows])


def test_what_is_read_is_only_opened_before(tmp_path, monkeypatch):
  """Shapes are told without a byte of the arrays."""
  t5x.save(PARAMS, tmp_path / "x", step=0)

  def never(*args, **kwargs):
    raise AssertionError("it reads")

  monkeypatch.setattr(Stored, "__getitem__", never)
  kind, shapes, types = load.open_weights(tmp_path / "x")
  assert kind is load.Format.T5X
  assert (shapes["token_embedder/embedding"], types) == ((64, 16), {"float32"})


def test_a_truncated_chunk_is_named(tmp_path):
  t5x.save(PARAMS, tmp_path / "x", step=0)
  folder = tmp_path / "x/checkpoint_0/target.token_embedder.embedding"
  [chunk] = [f for f in folder.iterdir() if f.name != ".zarray"]
  chunk.write_bytes(chunk.read_bytes()[:-20])
  with pytest.raises(ValueError, match=r"token_embedder\.embedding cannot be"):
    np.asarray(zarr.open_array(folder))
  for in_parts in (False, True):
    with pytest.raises(ValueError, match=r"token_embedder\.embedding cannot"):
      load.load_backbone(tmp_path / "x", config=CONFIG, in_parts=in_parts)


def test_a_run_of_this_project_is_read_in_parts(tmp_path):
  stored = stack_layers(PARAMS)
  import orbax.checkpoint as ocp

  with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save((tmp_path / "x").absolute(), {"trainable": stored})
  found = dict(orbax_tree.leaves(tmp_path / "x", subtree="trainable"))
  path = "encoder/layers/mlp/wo/kernel"
  wanted = PARAMS["encoder"]["layers_1"]["mlp"]["wo"]["kernel"][:3]
  np.testing.assert_array_equal(found[path].at(1, axis=0)[:3], wanted)
