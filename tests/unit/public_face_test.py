"""What `import prompt_tuning` offers."""

import importlib
import pathlib
import subprocess
import sys
import textwrap

import pytest

import prompt_tuning


@pytest.mark.parametrize("name", prompt_tuning.__all__)
def test_public_names_resolve(name):
  value = getattr(prompt_tuning, name)
  assert name in dir(prompt_tuning)
  if name != "__version__":
    assert value.__name__ == name


def test_unknown_name_is_an_attribute_error():
  with pytest.raises(AttributeError, match="no attribute 'Promtp'"):
    _ = prompt_tuning.Promtp


def test_tasks_of_a_checkout_are_a_subpackage():
  tasks = importlib.import_module("prompt_tuning.tasks")
  assert tasks.__name__ == "prompt_tuning.tasks"


@pytest.mark.parametrize("installed", [True, False])
def test_tasks_beside_an_installation_are_left_alone(tmp_path, installed):
  """A stranger's `tasks` beside the installed package is not ours."""
  source = pathlib.Path(prompt_tuning.__file__)
  package = tmp_path / "prompt_tuning"
  package.mkdir()
  (package / "__init__.py").write_text(source.read_text())
  for folder, owner in ((tmp_path, "beside"), (package, "inside")):
    if owner == "beside" or installed:
      (folder / "tasks").mkdir()
      (folder / "tasks" / "__init__.py").write_text(f"OWNER = {owner!r}\n")
  script = textwrap.dedent("""
    import prompt_tuning.tasks
    print(prompt_tuning.tasks.OWNER, len(prompt_tuning.__path__))
  """)
  result = subprocess.run(
    [sys.executable, "-c", script],
    cwd=tmp_path,
    capture_output=True,
    text=True,
    check=True,
  )
  expected = "inside 1" if installed else "beside 2"
  assert result.stdout.strip() == expected
