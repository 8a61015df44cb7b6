import os
import platform

import pytest

from prompt_tuning.checkpoints import memory


@pytest.fixture(autouse=True)
def _untold(monkeypatch):
  for name in [name for name in os.environ if name.startswith("MALLOC_")]:
    monkeypatch.delenv(name)
  monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
  monkeypatch.setattr(memory, "_mallopt", memory._mallopt.__wrapped__)


def test_another_c_library_is_left_alone(monkeypatch):
  monkeypatch.setattr(platform, "libc_ver", lambda: ("musl", "1.2"))
  assert memory._mallopt() is None
  with memory.returned_when_freed():
    pass


@pytest.mark.parametrize("name", ["MALLOC_ARENA_MAX", "GLIBC_TUNABLES"])
def test_what_the_environment_says_holds(name, monkeypatch):
  monkeypatch.setenv(name, "1")
  assert memory._mallopt() is None


@pytest.mark.skipif(
  platform.libc_ver()[0] != "glibc", reason="asks glibc's own allocator"
)
def test_settings_are_made_and_put_back(monkeypatch):
  set_to = {}
  mallopt = memory._mallopt()
  assert mallopt is not None
  assert mallopt(memory._MMAP_THRESHOLD, memory._LARGEST_MMAP_THRESHOLD) == 1
  monkeypatch.setattr(memory, "_mallopt", lambda: set_to.__setitem__)
  with memory.returned_when_freed():
    assert set_to == {memory._MMAP_THRESHOLD: 2**20}
  assert set_to == {
    memory._MMAP_THRESHOLD: 32 * 2**20,
    memory._TRIM_THRESHOLD: 64 * 2**20,
  }
