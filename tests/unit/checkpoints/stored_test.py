"""Parts of what is stored equal the same parts of the whole."""

import dataclasses

import jax
import numpy as np
import pytest

from prompt_tuning.checkpoints import (
  load,
  t5x,
  tree,
  zarr,
)
from prompt_tuning.checkpoints.locate import Format
from prompt_tuning.checkpoints.stored import Stored, stacked
from prompt_tuning.model import t5
from prompt_tuning.testing import checkpoints, fakes
from prompt_tuning.testing.checkpoints import FORMS
from prompt_tuning.train import mesh as mesh_lib

ARRAY = np.arange(2 * 6 * 4 * 5, dtype=np.float32).reshape(2, 6, 4, 5)
STORED = Stored.of(ARRAY)
# What a view of an array is, and the same of numpy's.
VIEWS = {
  "itself": (STORED, ARRAY),
  "transposed": (STORED.transposed(), ARRAY.T),
  "layer": (STORED.layers(axis=1)[3], ARRAY[:, 3]),
  "joined": (STORED.joined(1), ARRAY.reshape(2, 24, 5)),
  "joined last": (STORED.joined(2), ARRAY.reshape(2, 6, 20)),
  "joined first": (next(iter(STORED)).joined(0), ARRAY[0].reshape(24, 5)),
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


@pytest.mark.parametrize("name", VIEWS)
def test_single_values_of_a_view(name):
  view, wanted = VIEWS[name]
  flat = np.sort(
    np.random.default_rng(0).choice(wanted.size, 30, replace=False)
  )
  places = np.unravel_index(flat, wanted.shape)
  np.testing.assert_array_equal(view.pick(places), wanted[places])


def counting(array):
  """Returns an array to be read, and what was read of it."""
  read = []

  def part(index):
    read.append(array[index].nbytes)
    return array[index]

  return Stored(array.shape, array.dtype, part, part), read


def test_layers_are_read_together_and_let_go():
  stored, read = counting(ARRAY)
  layers = stored.layers(axis=1)
  rows = slice(0, 1)
  for number in (2, 0, 1, 5, 4, 3):
    np.testing.assert_array_equal(layers[number][rows], ARRAY[rows, number])
  assert read == [ARRAY[rows].nbytes]
  layers[0][rows]
  assert len(read) == 2  # Nothing was kept.


def test_equality_is_found_a_block_at_a_time(monkeypatch):
  monkeypatch.setattr("prompt_tuning.checkpoints.stored.BLOCK_BYTES", 500)
  (one, read), (same, _) = counting(ARRAY), counting(ARRAY.copy())
  assert one.equals(same)
  assert max(read) <= 500
  assert sum(read) == ARRAY.nbytes
  other = ARRAY.copy()
  other[-1, -1, -1, -1] = 0
  assert not one.equals(Stored.of(other))
  assert not one.equals(Stored.of(ARRAY[:1]))


CONFIG = fakes.tiny_config()
PARAMS = fakes.tiny_params(fakes.tiny_model())
NUM_BYTES = sum(x.nbytes for x in jax.tree.leaves(PARAMS))
LARGEST = max(x.nbytes for x in jax.tree.leaves(PARAMS))


def write(form, folder):
  if form == "Hugging Face":
    pytest.importorskip("safetensors", reason="the format needs it")
  return checkpoints.write(form, folder, CONFIG, PARAMS)


@pytest.fixture(name="read")
def _read(monkeypatch):
  """Bytes of what is read of checkpoints, for each time."""
  read, leaves = [], load._leaves

  def counted(checkpoint, kind):
    for path, stored in leaves(checkpoint, kind):
      yield path, dataclasses.replace(stored, read=counter(stored.read))

  def counter(get):
    def count(index):
      part = get(index)
      read.append(part.nbytes)
      return part

    return count

  monkeypatch.setattr(load, "_leaves", counted)
  return read


@pytest.mark.multidevice
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("scan_layers", [False, True])
def test_each_device_holds_its_part(form, dtype, scan_layers, tmp_path, read):
  config = dataclasses.replace(CONFIG, scan_layers=scan_layers)
  folder = write(form, tmp_path / "x")
  whole = load.load_backbone(folder, config=config, dtype=dtype)
  del read[:]
  opened = load.load_backbone(folder, config=config, dtype=dtype, in_parts=True)
  assert opened.fingerprint == whole.fingerprint
  assert not read  # Samples alone.
  assert all(isinstance(x, Stored) for x in jax.tree.leaves(opened.params))
  mesh = mesh_lib.make_mesh(data=1, model=8)
  axes = t5.logical_axes(t5.T5(config))
  shardings = mesh_lib.param_shardings(opened.params, axes, mesh=mesh)
  placed = tree.flatten(mesh_lib.place(opened.params, shardings))
  # Every value once, and never more than one array of the checkpoint.
  assert sum(read) == NUM_BYTES
  assert max(read) <= LARGEST < NUM_BYTES / 5
  num_cut = 0
  for path, wanted in tree.flatten(whole.params).items():
    np.testing.assert_array_equal(placed[path], wanted, err_msg=path)
    assert placed[path].dtype == wanted.dtype
    ways = 8 if "model" in str(tree.flatten(shardings)[path].spec) else 1
    num_cut += ways > 1
    for shard in placed[path].addressable_shards:
      assert shard.data.size * ways == wanted.size, path
  assert num_cut > len(placed) / 2


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", ["float32", "int8"])
@pytest.mark.parametrize("scan_layers", [False, True])
def test_a_host_reads_no_more_than_its_part(
  form, dtype, scan_layers, tmp_path, read
):
  """Of the columns of two devices of eight, which a process may own alone."""
  config = dataclasses.replace(CONFIG, scan_layers=scan_layers)
  folder = write(form, tmp_path / "x")
  whole = load.load_backbone(folder, config=config, dtype=dtype)
  opened = load.load_backbone(folder, config=config, dtype=dtype, in_parts=True)
  whole, opened = tree.flatten(whole.params), tree.flatten(opened.params)
  layer = "layers" if scan_layers else "layers_1"
  path = f"encoder/{layer}/mlp/wi_0/kernel"
  shape = opened[path].shape
  before = tuple((0, size) for size in shape[:-1])
  own = [(*before, (start, start + shape[-1] // 8)) for start in (8, 12)]
  del read[:]
  part = mesh_lib.read_parts(opened[path], own)
  assert sum(read) == 4 * opened[path].size / 4
  for each in own:
    cut = tuple(slice(*bounds) for bounds in each)
    np.testing.assert_array_equal(part(each), whole[path][cut])


@pytest.mark.parametrize(
  ("own", "read"),
  [
    ([((0, 2), (0, 4))], [32]),
    ([((0, 2), (0, 4)), ((2, 4), (0, 4))], [64]),
    ([((0, 2), (0, 4)), ((0, 2), (4, 8)), ((2, 4), (0, 4))], [32, 32, 32]),
    ([((0, 2), (0, 4)), ((6, 8), (4, 8))], [32, 32]),
  ],
)
def test_parts_side_by_side_are_read_at_once(own, read):
  array = np.arange(64, dtype=np.float32).reshape(8, 8)
  stored, found = counting(array)
  part = mesh_lib.read_parts(stored, own)
  for each in own:
    cut = tuple(slice(*bounds) for bounds in each)
    np.testing.assert_array_equal(part(each), array[cut])
  assert found == read


def test_what_is_read_is_only_opened_before(tmp_path, monkeypatch):
  """Shapes are told without a byte of the arrays."""
  t5x.save(PARAMS, tmp_path / "x", step=0)

  def never(*args, **kwargs):
    raise AssertionError("it reads")

  monkeypatch.setattr(Stored, "__getitem__", never)
  kind, shapes, types = load.open_weights(tmp_path / "x")
  assert kind is Format.T5X
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
