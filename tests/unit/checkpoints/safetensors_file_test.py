"""Safetensors files against the package of that name, and files that lie."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from prompt_tuning import paths
from prompt_tuning.checkpoints import values
from prompt_tuning.checkpoints.safetensors_file import open_safetensors

ARRAYS = {
  "vector": np.arange(7, dtype=np.float32),
  "matrix": np.arange(60 * 50, dtype=np.float32).reshape(60, 50),
  "wide": np.arange(3 * 40, dtype=np.float16).reshape(3, 40),
  "cube": np.arange(4 * 5 * 6, dtype=np.float64).reshape(4, 5, 6),
  "scalar": np.array(3.5, np.float32),
  "empty": np.empty((0, 4), np.float32),
}
ARRAYS["brain"] = ARRAYS["matrix"].astype(jnp.bfloat16)


@pytest.fixture(name="path")
def _path(tmp_path):
  """A file that the package wrote."""
  library = pytest.importorskip(
    "safetensors.numpy", reason="the package writes what is read here"
  )
  path = tmp_path / "x.safetensors"
  library.save_file(ARRAYS, path, metadata={"format": "pt"})
  return path


@pytest.mark.parametrize("block_bytes", [None, 64])
@pytest.mark.parametrize("gap_bytes", [0, 120, 10**6])
def test_parts_are_those_of_the_arrays(
  path, block_bytes, gap_bytes, monkeypatch
):
  monkeypatch.setattr(values, "_GAP_BYTES", gap_bytes)
  if block_bytes is not None:
    monkeypatch.setattr(values, "BLOCK_BYTES", block_bytes)
  opened = open_safetensors(path)
  assert opened.keys() == ARRAYS.keys()
  rng = np.random.default_rng(0)
  for name, wanted in ARRAYS.items():
    stored = opened[name]
    assert (stored.shape, stored.dtype) == (wanted.shape, wanted.dtype)
    np.testing.assert_array_equal(stored, wanted)
    for _ in range(10):
      bounds = [np.sort(rng.integers(0, size + 1, 2)) for size in wanted.shape]
      index = tuple(slice(*map(int, each)) for each in bounds)
      np.testing.assert_array_equal(stored[index], wanted[index])
    if wanted.ndim and wanted.size:
      places = np.unravel_index(rng.integers(0, wanted.size, 20), wanted.shape)
      np.testing.assert_array_equal(stored.pick(places), wanted[places])


def test_no_other_bytes_are_read(path, monkeypatch):
  monkeypatch.setattr(values, "_GAP_BYTES", 0)
  read = []
  fill = values._fill

  def count(file, into):
    read.append(into.nbytes)
    fill(file, into)

  monkeypatch.setattr(values, "_fill", count)
  opened = open_safetensors(path)
  assert not read
  opened["matrix"][10:20]
  assert read == [10 * 50 * 4]
  opened["matrix"][:, 10:20]
  assert read[1:] == [10 * 4] * 60
  del read[:]
  opened["matrix"].pick((np.array([50, 3]), np.array([0, 7])))
  assert read == [4, 4]


def lie(path, edit):
  """Edits the header of a file; its values stay."""
  data = path.read_bytes()
  size = int.from_bytes(data[:8], "little")
  header = json.loads(data[8 : 8 + size])
  changed = edit(header)
  packed = (
    changed if isinstance(changed, bytes) else json.dumps(header).encode()
  )
  path.write_bytes(
    len(packed).to_bytes(8, "little") + packed + data[8 + size :]
  )


def of_matrix(**changes):
  return lambda header: header["matrix"].update(changes)


@pytest.mark.parametrize(
  ("edit", "reason"),
  [
    (lambda header: b"{", "Expecting"),
    (lambda header: b"\xff{}", "codec can't decode"),
    (lambda header: b"[" * 10**5, "recursion"),
    (lambda header: b"[]", "its header is list, not an object"),
    (lambda header: b'{"a": 1, "a": 2}', "names something twice"),
    (lambda header: b'{"a": 1}', "a has no dtype, shape and data_offsets"),
    (lambda header: header.update(matrix=[]), "matrix has no dtype"),
    (lambda header: header["matrix"].pop("shape"), "matrix has no dtype, shap"),
    (of_matrix(shape=[61, 50]), r"matrix \[61, 50\] of F32 has 12,200 bytes"),
    (of_matrix(shape=[-60, -50]), r"matrix are \[-60, -50\].*from 0"),
    (of_matrix(shape=[60.0, 50]), r"matrix are \[60.0, 50\].*from 0"),
    (of_matrix(shape=[True, 3000]), r"matrix are \[True, 3000\].*from 0"),
    (of_matrix(shape=[2**62, 2**62]), "matrix .* and is said to be at"),
    (of_matrix(dtype="F64"), r"matrix \[60, 50\] of F64 has 24,000 bytes"),
    (of_matrix(dtype="F12"), "matrix is of the type F12; weights are of F64"),
    (of_matrix(dtype="I32"), "matrix is of the type I32; weights are of F64"),
    (of_matrix(data_offsets=[2048, 0]), "is said to be at 2,048 to 0"),
    (of_matrix(data_offsets=[-12000, 0]), r"\[-12000, 0\]; they must be"),
    (of_matrix(data_offsets=[2**40, 2**40 + 12000]), "of which the file has"),
    (of_matrix(data_offsets=[0, 12000]), "is said to begin at byte"),
    (lambda header: header.pop("matrix") and None, "is said to begin at byte"),
  ],
)
def test_a_header_that_lies(path, edit, reason):
  lie(path, edit)
  with pytest.raises(
    ValueError, match=rf"x\.safetensors cannot be read; .*{reason}"
  ):
    open_safetensors(path)


def test_a_header_longer_than_the_file(path):
  path.write_bytes((2**40).to_bytes(8, "little") + path.read_bytes()[8:])
  with pytest.raises(ValueError, match="header is said to have 1,099,511,627"):
    open_safetensors(path)


def test_files_that_end_too_early(path, tmp_path):
  whole = path.read_bytes()
  opened = open_safetensors(path)
  for size in (0, 5, 20, len(whole) - 100):
    path.write_bytes(whole[:size])
    with pytest.raises(ValueError, match=r"x\.safetensors cannot be read"):
      open_safetensors(path)
  path.write_bytes(whole[:20])
  with pytest.raises(ValueError, match=r"cannot be read; .*\(matrix was to be"):
    np.asarray(opened["matrix"])
  with pytest.raises(ValueError, match=r"gone cannot be read; it is missing"):
    open_safetensors(tmp_path / "gone")


def test_more_than_the_header_says_is_refused(path):
  path.write_bytes(path.read_bytes() + bytes(8))
  with pytest.raises(ValueError, match=r"header describes .* bytes of values"):
    open_safetensors(path)


def test_a_bucket_is_read_like_a_disk(path, monkeypatch):
  """Through `paths`, with larger gaps read over."""
  monkeypatch.setattr(paths, "is_remote", lambda path: True)
  monkeypatch.setattr(paths, "as_path", lambda path: path)
  opened = open_safetensors(path)
  np.testing.assert_array_equal(
    opened["matrix"][:, 3:5], ARRAYS["matrix"][:, 3:5]
  )
