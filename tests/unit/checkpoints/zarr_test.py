import errno
import gzip
import json

import jax.numpy as jnp
import numpy as np
import pytest

from prompt_tuning.checkpoints import zarr


def _write_by_hand(folder, array, *, chunk_rows, fill_value=None, skip=()):
  """Writes zarr version 2 from its specification, without a library."""
  folder.mkdir()
  chunks = [chunk_rows, *array.shape[1:]]
  metadata = {
    "zarr_format": 2,
    "shape": list(array.shape),
    "chunks": chunks,
    "dtype": array.dtype.str,
    "compressor": {"id": "gzip", "level": 1},
    "fill_value": fill_value,
    "order": "C",
    "filters": None,
  }
  (folder / ".zarray").write_text(json.dumps(metadata))
  for index in range(-(-len(array) // chunk_rows)):
    rows = array[index * chunk_rows : (index + 1) * chunk_rows]
    chunk = np.zeros(chunks, array.dtype)
    chunk[: len(rows)] = rows
    name = ".".join([str(index)] + ["0"] * (array.ndim - 1))
    if index not in skip:
      (folder / name).write_bytes(gzip.compress(chunk.tobytes()))


@pytest.mark.parametrize("chunk_rows", [1, 3, 10])
def test_reads_any_chunking(tmp_path, chunk_rows):
  array = np.arange(40, dtype=np.float32).reshape(10, 4)
  _write_by_hand(tmp_path / "a", array, chunk_rows=chunk_rows)
  np.testing.assert_array_equal(zarr.read_array(tmp_path / "a"), array)


def test_written_chunks_follow_the_specification(tmp_path):
  array = np.arange(12, dtype=np.float32).reshape(3, 4)
  metadata = zarr.write_array(tmp_path / "a", array)
  assert metadata["chunks"] == [3, 4]
  stored = json.loads((tmp_path / "a" / ".zarray").read_text())
  assert stored["zarr_format"] == 2
  assert stored["compressor"] == {"id": "gzip", "level": 1}
  data = gzip.decompress((tmp_path / "a" / "0.0").read_bytes())
  read = np.frombuffer(data, stored["dtype"]).reshape(stored["chunks"])
  np.testing.assert_array_equal(read, array)


def test_large_arrays_are_split(tmp_path, monkeypatch):
  monkeypatch.setattr(zarr, "_CHUNK_BYTES", 100)
  array = np.arange(70, dtype=np.float32).reshape(10, 7)
  assert zarr.write_array(tmp_path / "a", array)["chunks"] == [3, 7]
  assert (tmp_path / "a" / "3.0").exists()
  np.testing.assert_array_equal(zarr.read_array(tmp_path / "a"), array)


@pytest.mark.parametrize("shape", [(), (5,), (2, 3, 4)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_round_trip(tmp_path, shape, dtype):
  array = np.random.default_rng(0).normal(size=shape).astype(jnp.dtype(dtype))
  zarr.write_array(tmp_path / "a", np.asarray(array))
  read = zarr.read_array(tmp_path / "a", shape=shape)
  assert read.dtype == jnp.dtype(dtype)
  np.testing.assert_array_equal(read, array)


def test_a_lost_chunk_is_not_zeros(tmp_path):
  array = np.ones((10, 4), np.float32)
  _write_by_hand(tmp_path / "a", array, chunk_rows=5, skip=[1])
  with pytest.raises(ValueError, match="incomplete or corrupt") as caught:
    zarr.read_array(tmp_path / "a")
  assert str(tmp_path / "a") in str(caught.value)


def test_chunks_of_the_fill_value_may_be_left_out(tmp_path):
  array = np.ones((10, 4), np.float32)
  _write_by_hand(tmp_path / "a", array, chunk_rows=5, fill_value=2, skip=[1])
  array[5:] = 2
  np.testing.assert_array_equal(zarr.read_array(tmp_path / "a"), array)


@pytest.mark.parametrize(
  "data", [b"", b"\x1f\x8b\x08", gzip.compress(b"abcd", mtime=0)]
)
def test_truncated_chunks(tmp_path, data):
  zarr.write_array(tmp_path / "a", np.ones((4, 4), np.float32))
  (tmp_path / "a" / "0.0").write_bytes(data)
  with pytest.raises(ValueError, match=r"/a cannot be read; .* corrupt"):
    zarr.read_array(tmp_path / "a")


def test_missing_array(tmp_path):
  with pytest.raises(ValueError, match="gone cannot be read"):
    zarr.read_array(tmp_path / "gone")


def test_another_shape_than_described(tmp_path):
  zarr.write_array(tmp_path / "a", np.ones((4, 4), np.float32))
  with pytest.raises(ValueError, match=r"has shape \(4, 4\).*says \(4, 5\)"):
    zarr.read_array(tmp_path / "a", shape=(4, 5))


def test_full_disk_is_an_os_error(tmp_path, monkeypatch):
  tensorstore = pytest.importorskip("tensorstore")

  def full(*args, **kwargs):
    raise ValueError('Error writing "x": No space left on device [tensorst')

  monkeypatch.setattr(tensorstore, "open", full)
  with pytest.raises(OSError, match="No space left") as caught:
    zarr.write_array(tmp_path / "a", np.ones((2,), np.float32))
  assert caught.value.errno == errno.ENOSPC
