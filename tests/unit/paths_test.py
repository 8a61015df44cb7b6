import errno
import importlib.util
import os
import pathlib
import subprocess
import sys

import pytest

from prompt_tuning import paths


def _names(folder):
  return sorted(child.name for child in folder.iterdir())


def _refuse(code):
  def refuse(*args, **kwargs):
    raise OSError(code, os.strerror(code))

  return refuse


def test_writes_and_reads_back(tmp_path):
  paths.write_text(tmp_path / "a.txt", "grün\n")
  assert paths.read_text(tmp_path / "a.txt") == "grün\n"
  assert paths.read_bytes(str(tmp_path / "a.txt")) == "grün\n".encode()
  assert paths.exists(tmp_path / "a.txt")
  assert not paths.is_dir(tmp_path / "a.txt")
  assert paths.list_dir(tmp_path) == ["a.txt"]


def test_expands_the_home_folder(tmp_path, monkeypatch):
  monkeypatch.setenv("HOME", str(tmp_path))
  paths.write_text("~/a.txt", "x")
  assert _names(tmp_path) == ["a.txt"]


def test_appends_line_by_line(tmp_path):
  for word in ("one", "two"):
    with paths.open_file(tmp_path / "log", "a") as file:
      file.write(word + "\n")
  with paths.open_file(tmp_path / "log") as file:
    assert file.read().split() == ["one", "two"]


def test_refuses_to_open_for_overwriting(tmp_path):
  with pytest.raises(ValueError, match="use write_bytes"):
    paths.open_file(tmp_path / "log", "w")


def test_a_folder_that_does_not_exist_is_empty(tmp_path):
  assert paths.list_dir(tmp_path / "nothing") == []


def test_full_disk_keeps_the_old_file(tmp_path, monkeypatch):
  if not os.path.exists("/dev/full"):
    pytest.skip("this system has no /dev/full")
  target = tmp_path / "prompt.npy"
  target.write_bytes(b"old")
  full = tmp_path / "full"
  full.symlink_to("/dev/full")
  monkeypatch.setattr(paths, "_temporary", lambda path: full)
  with pytest.raises(OSError, match=r"disk full.*4,096 bytes") as caught:
    paths.write_bytes(target, bytes(4096))
  assert caught.value.errno == errno.ENOSPC
  assert caught.value.filename == str(target)
  assert target.read_bytes() == b"old"
  assert _names(tmp_path) == ["prompt.npy"]


def test_failure_before_the_rename_keeps_the_old_file(tmp_path, monkeypatch):
  target = tmp_path / "card.json"
  target.write_bytes(b"old")
  monkeypatch.setattr(os, "replace", _refuse(errno.EIO))
  with pytest.raises(OSError, match="Input/output"):
    paths.write_bytes(target, b"new")
  assert target.read_bytes() == b"old"
  assert _names(tmp_path) == ["card.json"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_unwritable_folder_is_named(tmp_path):
  tmp_path.chmod(0o500)
  with pytest.raises(PermissionError, match="choose another folder"):
    paths.make_writable_dir(tmp_path)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS])
def test_denied_write_says_what_to_do(tmp_path, monkeypatch, code):
  monkeypatch.setattr(pathlib.Path, "touch", _refuse(code))
  with pytest.raises(OSError, match="choose another folder") as caught:
    paths.make_writable_dir(tmp_path / "run")
  assert caught.value.errno == code
  assert caught.value.filename == str(tmp_path / "run")


@pytest.mark.parametrize(
  "check", [paths.make_writable_dir, paths.check_writable_dir]
)
@pytest.mark.parametrize("below", ["", "prompts"])
def test_a_file_in_the_way_of_a_folder(tmp_path, check, below):
  (tmp_path / "run").write_text("a file")
  with pytest.raises(OSError, match="choose another folder"):
    check(tmp_path / "run" / below)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS])
def test_a_folder_is_refused_where_it_would_be_made(
  tmp_path, monkeypatch, code
):
  monkeypatch.setattr(pathlib.Path, "touch", _refuse(code))
  with pytest.raises(OSError, match="choose another folder") as caught:
    paths.check_writable_dir(tmp_path / "deep" / "run")
  assert caught.value.filename == str(tmp_path / "deep" / "run")


def test_checking_leaves_nothing_behind(tmp_path):
  paths.check_writable_dir(tmp_path / "a" / "b")
  paths.check_writable_file(tmp_path / "a" / "b" / "c.jsonl")
  assert _names(tmp_path) == []


def test_a_folder_is_no_file(tmp_path):
  with pytest.raises(IsADirectoryError, match="give the name of a file"):
    paths.check_writable_file(tmp_path)


@pytest.mark.parametrize("code", [errno.ENOENT, errno.ENAMETOOLONG])
def test_a_folder_that_cannot_be_made_says_what_to_do(
  tmp_path, monkeypatch, code
):
  # As below /proc, where even root can make nothing.
  monkeypatch.setattr(pathlib.Path, "mkdir", _refuse(code))
  reason = os.strerror(code)
  message = rf"cannot be made \({reason}\); choose another folder"
  with pytest.raises(OSError, match=message) as caught:
    paths.make_writable_dir(tmp_path / "run")
  assert caught.value.errno == code
  assert caught.value.filename == str(tmp_path / "run")


def test_make_writable_dir_leaves_nothing_behind(tmp_path):
  made = paths.make_writable_dir(tmp_path / "a" / "b")
  assert made == tmp_path / "a" / "b"
  assert _names(made) == []


def test_atomic_directory_appears_whole(tmp_path):
  target = tmp_path / "deep" / "checkpoint_1"
  with paths.atomic_directory(target) as temporary:
    (temporary / "a").write_text("x")
    assert not target.exists()
  assert _names(target) == ["a"]
  assert _names(target.parent) == ["checkpoint_1"]


def _fill_then_raise(folder, failure, **arguments):
  with paths.atomic_directory(folder, **arguments) as temporary:
    (temporary / "a").write_text("x")
    raise failure


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_atomic_directory_vanishes_on_failure(tmp_path, failure):
  with pytest.raises(failure):
    _fill_then_raise(tmp_path / "checkpoint_1", failure)
  assert _names(tmp_path) == []


def test_atomic_directory_on_a_full_disk(tmp_path):
  failure = OSError(errno.ENOSPC, "No space left on device")
  with pytest.raises(OSError, match=r"disk full.*1,000 bytes") as caught:
    _fill_then_raise(tmp_path / "run", failure, num_bytes=1000)
  assert caught.value.filename == str(tmp_path / "run")
  assert _names(tmp_path) == []


def test_atomic_directory_never_overwrites(tmp_path):
  (tmp_path / "run").mkdir()
  with (
    pytest.raises(FileExistsError, match="will not overwrite"),
    paths.atomic_directory(tmp_path / "run"),
  ):
    pass


def _pretend_package(monkeypatch, *, is_installed):
  monkeypatch.setattr(
    importlib.util, "find_spec", lambda name: object() if is_installed else None
  )


def test_remote_paths_need_their_package(monkeypatch):
  _pretend_package(monkeypatch, is_installed=False)
  with pytest.raises(ImportError, match="pip install gcsfs"):
    paths.exists("gs://bucket/run")


def test_remote_paths_go_through_epath(monkeypatch):
  epath = pytest.importorskip("etils.epath")
  _pretend_package(monkeypatch, is_installed=True)
  path = paths.as_path("gs://bucket/run") / "prompts"
  assert isinstance(path, epath.Path)
  assert os.fspath(path) == "gs://bucket/run/prompts"
  assert paths.is_remote(path)


def test_recipes_of_the_checkout_come_first():
  roots = paths.recipe_roots()
  checkout = pathlib.Path(paths.__file__).parents[1]
  assert roots[0] == checkout / "gin"


@pytest.mark.parametrize("is_library", [False, True])
def test_recipes_of_an_installation(tmp_path, monkeypatch, is_library):
  package = tmp_path / "prompt_tuning"
  (package / "gin").mkdir(parents=True)
  (tmp_path / "gin").mkdir()
  if is_library:
    (tmp_path / "gin" / "__init__.py").touch()
  monkeypatch.setattr(paths, "_PACKAGE", package)
  expected = [] if is_library else [tmp_path / "gin"]
  assert paths.recipe_roots() == (*expected, package / "gin")


def test_embedded_model_is_in_the_package():
  package = pathlib.Path(paths.__file__).parent
  assert paths.embedded_dir() == package / "embedded"


def test_import_is_light():
  code = (
    "import sys, prompt_tuning.paths; "
    "print([m for m in ('tensorflow', 'jax', 'etils') if m in sys.modules])"
  )
  result = subprocess.run(
    [sys.executable, "-c", code], capture_output=True, text=True, check=True
  )
  assert result.stdout.strip() == "[]"
