import subprocess
import tarfile

import pytest

import prompt_tuning
from launch import source


def test_the_wheel_has_the_version_of_the_checkout(tmp_path):
  built = source.resolve(str(source.ROOT), tmp_path)
  version = prompt_tuning.__version__
  assert built.file == tmp_path / f"prompt_tuning-{version}-py3-none-any.whl"
  assert str(source.ROOT) in built.build[-1].argv


def test_a_git_ref_becomes_an_archive_that_pip_can_install(tmp_path):
  if not (source.ROOT / ".git").exists():
    pytest.skip("this is no git checkout")
  built = source.resolve("HEAD", tmp_path)
  for step in built.build:
    subprocess.run(step.argv, check=True)
  with tarfile.open(built.file) as archive:
    assert "prompt_tuning/pyproject.toml" in archive.getnames()


@pytest.mark.parametrize("version", ["3.11", "3.12"])
def test_there_are_tested_versions_for_each_python(version):
  assert source.lock(version).exists()
