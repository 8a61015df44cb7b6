"""Where compiled programs are kept, and where they are not."""

import jax
import pytest

from prompt_tuning.runs import compilation_cache

FOLDER = "jax_compilation_cache_dir"
SHORTEST = "jax_persistent_cache_min_compile_time_secs"


@pytest.fixture(autouse=True)
def _nothing_is_said(monkeypatch, tmp_path):
  """Starts as where no variable names a folder; puts options back."""
  before = {name: getattr(jax.config, name) for name in (FOLDER, SHORTEST)}
  jax.config.update(FOLDER, None)
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
  monkeypatch.delenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS")
  yield
  for name, value in before.items():
    jax.config.update(name, value)


def test_programs_are_kept_in_the_cache_folder_of_the_user(tmp_path):
  compilation_cache.keep()
  folder = tmp_path / "cache" / "prompt_tuning" / "compiled"
  assert getattr(jax.config, FOLDER) == str(folder)
  assert folder.is_dir()
  assert getattr(jax.config, SHORTEST) == 0


def test_without_that_variable_it_is_in_the_home_folder(monkeypatch, tmp_path):
  monkeypatch.delenv("XDG_CACHE_HOME")
  monkeypatch.setenv("HOME", str(tmp_path))
  expected = tmp_path / ".cache" / "prompt_tuning" / "compiled"
  assert compilation_cache.default_folder() == expected


def test_a_folder_that_was_named_stays(tmp_path):
  # As JAX does on JAX_COMPILATION_CACHE_DIR, when it is imported.
  jax.config.update(FOLDER, "elsewhere")
  compilation_cache.keep()
  assert getattr(jax.config, FOLDER) == "elsewhere"
  assert not list(tmp_path.iterdir())


def test_one_of_several_processes_keeps_nothing(monkeypatch, tmp_path):
  monkeypatch.setattr(jax.distributed, "is_initialized", lambda: True)
  compilation_cache.keep()
  assert getattr(jax.config, FOLDER) is None
  assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_a_warning(tmp_path, caplog):
  (tmp_path / "cache").write_text("a file")
  compilation_cache.keep()
  assert getattr(jax.config, FOLDER) is None
  assert "JAX_COMPILATION_CACHE_DIR" in caplog.text
