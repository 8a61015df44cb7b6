"""Msgpack files against Flax, which writes and reads them whole."""

import tracemalloc

import jax
import jax.numpy as jnp
import msgpack
import numpy as np
import pytest
from flax import serialization

from prompt_tuning.checkpoints import msgpack_file, values
from prompt_tuning.checkpoints.msgpack_file import open_msgpack
from prompt_tuning.checkpoints.stored import Stored

RNG = np.random.default_rng(0)
CONTENT = {
  "version": 3,
  "numbers": {str(n): n for n in (-(2**40), -200, -3, 0, 127, 200, 2**20)},
  "reals": {"half": 0.5, "scalar": np.float32(3.5)},
  "nothing": {"none": None, "empty": {}, "array": np.empty((0, 4))},
  "texts": {"short": "a", "long": "b" * 300, "longer": "c" * 70_000},
  "x" * 40: {"raw": b"12" * 200, "list": [1, [2, "c"], None]},
  "many": {f"key_{number}": bool(number % 2) for number in range(20)},
  "arrays": {
    "large": RNG.standard_normal((60, 50)).astype(np.float32),
    "long": RNG.standard_normal(70_000),
    "half": RNG.standard_normal((9, 4, 70)).astype(np.float16),
    "brain": RNG.standard_normal((30, 90)).astype(jnp.bfloat16),
    "integers": np.arange(5_000, dtype=np.int32).reshape(50, 100),
    "small": np.ones(3, np.float32),
    "scalar": np.array(7),
    "sixteen bytes": np.array(2, np.float32),
    "truth": np.array([True, False]),
  },
}
LARGE = ("large", "long", "half", "brain", "integers")


@pytest.fixture(name="path")
def _path(tmp_path):
  path = tmp_path / "checkpoint"
  path.write_bytes(serialization.msgpack_serialize(CONTENT))
  return path


def assert_same(content, wanted):
  read = jax.tree.map(
    lambda leaf: np.asarray(leaf) if isinstance(leaf, Stored) else leaf, content
  )
  assert jax.tree.structure(read) == jax.tree.structure(wanted)
  jax.tree.map(np.testing.assert_array_equal, read, wanted)
  types = [
    jax.tree.map(lambda leaf: getattr(leaf, "dtype", type(leaf)), tree)
    for tree in (read, wanted)
  ]
  assert types[0] == types[1]


def test_content_is_what_flax_reads(path):
  opened = open_msgpack(path)
  assert_same(opened, serialization.msgpack_restore(path.read_bytes()))
  arrays = opened["arrays"].items()
  assert {n for n, leaf in arrays if isinstance(leaf, Stored)} == {*LARGE}


@pytest.mark.parametrize("piece_bytes", [None, 9_000])
def test_parts_are_those_of_the_arrays(tmp_path, monkeypatch, piece_bytes):
  if piece_bytes is not None:  # Flax splits arrays that are larger.
    monkeypatch.setattr(serialization, "MAX_CHUNK_SIZE", piece_bytes)
  path = tmp_path / "checkpoint"
  path.write_bytes(serialization.msgpack_serialize(CONTENT))
  assert (b"chunked" in path.read_bytes()) == (piece_bytes is not None)
  opened = open_msgpack(path)["arrays"]
  for name in LARGE:
    stored, wanted = opened[name], CONTENT["arrays"][name]
    assert (stored.shape, stored.dtype) == (wanted.shape, wanted.dtype)
    for _ in range(10):
      bounds = [np.sort(RNG.integers(0, size + 1, 2)) for size in wanted.shape]
      index = tuple(slice(*map(int, each)) for each in bounds)
      np.testing.assert_array_equal(stored[index], wanted[index])
    places = np.unravel_index(RNG.integers(0, wanted.size, 50), wanted.shape)
    np.testing.assert_array_equal(stored.pick(places), wanted[places])


def test_arrays_are_not_read_before_they_are_asked_for(path, monkeypatch):
  read = []
  fill = values._fill

  def count(file, into):
    read.append(into.nbytes)
    fill(file, into)

  monkeypatch.setattr(values, "_fill", count)
  opened = open_msgpack(path)["arrays"]
  assert not read
  opened["large"][10:20]
  assert read == [10 * 50 * 4]


@pytest.mark.parametrize("share", np.linspace(0, 0.9999, 20))
def test_a_truncated_file_is_named(path, share):
  whole = path.read_bytes()
  path.write_bytes(whole[: int(share * len(whole))])
  with pytest.raises(ValueError, match=f"{path} cannot be read.*truncated"):
    open_msgpack(path)


def test_more_than_a_tree_is_an_error(path):
  path.write_bytes(path.read_bytes() + b"\x00")
  with pytest.raises(ValueError, match="it ends at byte"):
    open_msgpack(path)


def test_a_missing_file_is_named(tmp_path):
  with pytest.raises(ValueError, match="absent cannot be read"):
    open_msgpack(tmp_path / "absent")


def test_a_lying_array_is_named(path):
  whole = path.read_bytes()
  # The first array's sides, 60 and 50, as they stand in its header.
  sides = bytes([0x93, 0x92, 60, 50])
  assert whole.count(sides) == 1
  path.write_bytes(whole.replace(sides, bytes([0x93, 0x92, 61, 50])))
  with pytest.raises(ValueError, match=r"arrays/large \[61, 50\] of float32"):
    open_msgpack(path)


def test_pieces_are_read_where_they_are_needed(tmp_path, monkeypatch):
  array = np.arange(256 * 512, dtype=np.float32).reshape(256, 512)
  monkeypatch.setattr(serialization, "MAX_CHUNK_SIZE", 10_000)
  path = tmp_path / "checkpoint"
  path.write_bytes(serialization.msgpack_serialize({"a": array}))
  stored = open_msgpack(path)["a"]
  monkeypatch.setattr(msgpack_file, "row_blocks", in_blocks(8))
  tracemalloc.start()
  columns = stored[:, 64:128]
  _, peak = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  np.testing.assert_array_equal(columns, array[:, 64:128])
  assert columns.base is None
  assert peak < columns.nbytes + array.nbytes / 4


def in_blocks(num_rows):
  return lambda shape, itemsize: [
    (slice(start, min(start + num_rows, shape[0])),)
    for start in range(0, shape[0], num_rows)
  ]


@pytest.mark.parametrize(
  ("shape", "second", "message"),
  [
    ((70, 100), np.float32, r"pieces of an array \[70, 100\] are not its"),
    ((60, 100), np.float64, r"pieces of an array \[60, 100\] differ in type"),
    ((), np.float32, "are not its values"),
  ],
)
def test_pieces_that_are_not_the_array(path, shape, second, message):
  pieces = np.ones(3_000, np.float32), np.ones(3_000, second)
  array = {
    msgpack_file._IN_PIECES: True,
    "shape": {str(axis): size for axis, size in enumerate(shape)},
    "chunks": {str(number): piece for number, piece in enumerate(pieces)},
  }
  path.write_bytes(serialization.msgpack_serialize({"a": array}))
  with pytest.raises(ValueError, match=message):
    open_msgpack(path)


def test_an_array_without_pieces_is_an_error(path):
  array = {msgpack_file._IN_PIECES: True, "shape": {"0": 3}, "chunks": {}}
  path.write_bytes(serialization.msgpack_serialize({"a": array}))
  with pytest.raises(ValueError, match="cannot be read"):
    open_msgpack(path)


@pytest.mark.parametrize(
  ("shape", "dtype", "message"),
  [
    ((-60, -50), "float32", r"arrays/large has the shape \[-60, -50\]"),
    ((60.0, 50.0), "float32", r"arrays/large has the shape \[60\.0, 50\.0\]"),
    ((60, 50), "object", "arrays/large is of the type 'object'"),
    ((60, 50), "i4,i4", "arrays/large is of the type 'i4,i4'"),
    ((60, 50), {"a": 1}, "arrays/large is of the type"),
    ((60, 50), "complex64", "arrays/large is of the type 'complex64'"),
    ((60, 51), "float32", "has not the 12,000 bytes"),
  ],
)
def test_no_array_is_named(path, shape, dtype, message):
  packed = msgpack.packb((shape, dtype, b"\0" * 12_000))
  content = {"arrays": {"large": msgpack.ExtType(1, packed)}}
  path.write_bytes(msgpack.packb(content))
  with pytest.raises(ValueError, match=message):
    open_msgpack(path)


@pytest.mark.parametrize("seed", range(10))
def test_whatever_is_damaged_is_a_value_error(path, seed):
  whole = path.read_bytes()
  rng = np.random.default_rng(seed)
  # What is no array's value: most of the file is.
  ends = [whole.index(name.encode()) for name in ("texts", *LARGE, "small")]
  places = [place for end in ends for place in range(end - 60, end + 40)]
  outcomes = set()
  for _ in range(60):
    damaged = bytearray(whole)
    damaged[rng.choice(places)] = rng.integers(256)
    path.write_bytes(damaged)
    try:
      jax.tree.map(np.asarray, open_msgpack(path))
      outcomes.add("read")
    except ValueError:
      outcomes.add("refused")
  assert outcomes == {"read", "refused"}
