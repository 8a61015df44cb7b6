"""Msgpack files against Flax, which writes and reads them whole."""

import jax
import jax.numpy as jnp
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
  "reals": {"half": 0.5, "complex": 1 + 2j, "scalar": np.float32(3.5)},
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


def test_pieces_that_are_not_the_array_are_an_error(path):
  piece = np.ones(3_000, np.float32)
  array = {
    msgpack_file._IN_PIECES: True,
    "shape": {"0": 70, "1": 100},
    "chunks": {"0": piece, "1": piece},
  }
  path.write_bytes(serialization.msgpack_serialize({"a": array}))
  with pytest.raises(ValueError, match=r"pieces of an array \[70, 100\]"):
    open_msgpack(path)


def test_whatever_is_damaged_is_a_value_error(path):
  whole = bytearray(path.read_bytes())
  start = whole.index(b"large")
  errors = 0
  for place in [*range(60), *range(start - 5, start + 40)]:
    for value in (0x00, 0x85, 0x93, 0xC1, 0xC9, 0xDB, 0xDF, 0xFF):
      damaged = bytearray(whole)
      damaged[place] = value
      path.write_bytes(damaged)
      try:
        open_msgpack(path)
      except ValueError:
        errors += 1
  assert errors > 300  # The others are other numbers and names.
