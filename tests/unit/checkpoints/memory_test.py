import ctypes
import platform
import types

import pytest

from prompt_tuning.checkpoints import memory


@pytest.fixture(autouse=True)
def _untold(monkeypatch):
  for name in (*memory._TOLD, "GLIBC_TUNABLES"):
    monkeypatch.delenv(name, raising=False)
  monkeypatch.setattr(memory, "_mallopt", memory._mallopt.__wrapped__)


def test_another_c_library_is_left_alone(monkeypatch):
  monkeypatch.setattr(platform, "libc_ver", lambda: ("musl", "1.2"))
  assert memory._mallopt() is None
  with memory.returned_when_freed():
    pass


@pytest.mark.parametrize(
  ("name", "value", "is_told"),
  [
    ("MALLOC_MMAP_THRESHOLD_", "4194304", True),
    ("MALLOC_TRIM_THRESHOLD_", "4194304", True),
    ("GLIBC_TUNABLES", "glibc.malloc.mmap_threshold=4194304", True),
    ("GLIBC_TUNABLES", "glibc.malloc.tcache_count=0", False),
    ("MALLOC_ARENA_MAX", "1", False),
  ],
)
def test_what_the_environment_says_holds(name, value, is_told, monkeypatch):
  monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.36"))
  monkeypatch.setattr(
    ctypes, "CDLL", lambda name: types.SimpleNamespace(mallopt=len)
  )
  monkeypatch.setenv(name, value)
  assert (memory._mallopt() is None) == is_told


def test_the_last_to_leave_puts_things_right(monkeypatch):
  threshold = {}
  monkeypatch.setattr(memory, "_mallopt", lambda: threshold.__setitem__)
  with memory.returned_when_freed():
    with memory.returned_when_freed():
      assert threshold == {memory._MMAP_THRESHOLD: 2**20}
    assert threshold == {memory._MMAP_THRESHOLD: 2**20}
  assert threshold == {
    memory._MMAP_THRESHOLD: 32 * 2**20,
    memory._TRIM_THRESHOLD: 64 * 2**20,
  }
