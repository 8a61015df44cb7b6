"""What the packaging says agrees with what is in the repository."""

import fnmatch
import pathlib
import re
import subprocess
import tomllib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SETUPTOOLS = PROJECT["tool"]["setuptools"]
LOCKS = sorted((ROOT / "requirements").glob("lock-*.txt"))


def canonical(name):
  return re.sub(r"[-_.]+", "-", name).lower()


def name_of(requirement):
  return canonical(re.split(r"[\[<>=~! ]", requirement)[0])


def folder_of(package):
  for name, folder in SETUPTOOLS["package-dir"].items():
    if package == name or package.startswith(f"{name}."):
      return ROOT / folder / package[len(name) + 1 :].replace(".", "/")
  return ROOT / package.replace(".", "/")


def packages_below(folder, name):
  for init in sorted((ROOT / folder).rglob("__init__.py")):
    parts = init.parent.relative_to(ROOT / folder).parts
    yield ".".join([name, *parts])


def test_every_package_is_listed():
  expected = {
    *packages_below("prompt_tuning", "prompt_tuning"),
    *packages_below("tasks", "prompt_tuning.tasks"),
    "prompt_tuning.gin",
  }
  assert set(SETUPTOOLS["packages"]) == expected


@pytest.mark.parametrize("folder", ["prompt_tuning", "tasks"])
def test_every_folder_of_code_is_a_package(folder):
  # Without __init__.py it would work here and be missing in the wheel.
  for path in (ROOT / folder).rglob("*.py"):
    assert (path.parent / "__init__.py").exists(), path


def test_everything_else_travels_as_data():
  missing = []
  for package in SETUPTOOLS["packages"]:
    patterns = SETUPTOOLS["package-data"].get(package, [])
    root = folder_of(package)
    subfolders = {folder_of(p) for p in SETUPTOOLS["packages"]} - {root}
    for path in root.rglob("*"):
      if path.is_dir() or path.suffix in (".py", ".pyc"):
        continue
      if any(folder in path.parents for folder in subfolders):
        continue
      name = path.relative_to(root).as_posix()
      if not any(
        fnmatch.fnmatch(name, pattern.replace("**/", ""))
        for pattern in patterns
      ):
        missing.append(f"{package}: {name}")
  assert not missing, "add these to package-data"


def test_what_the_mission_of_the_project_needs_is_required():
  required = set(map(name_of, PROJECT["project"]["dependencies"]))
  assert required >= {
    "jax",
    "flax",
    "optax",
    "orbax-checkpoint",
    "seqio",
    "gin-config",
    "tensorflow-datasets",
    "sentencepiece",
  }


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.name)
def test_lock_files_pin_names_and_nothing_else(path):
  lines = path.read_text().splitlines()
  pins = [line for line in lines if line and not line.startswith("#")]
  assert pins
  # No address, path or local build of one machine.
  wrong = [p for p in pins if not re.fullmatch(r"[\w.-]+==[\w.]+", p)]
  assert not wrong


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.name)
def test_lock_files_hold_every_requirement(path):
  pinned = {
    canonical(line.split("==")[0]) for line in path.read_text().splitlines()
  }
  extras = PROJECT["project"]["optional-dependencies"]
  needed = [
    *PROJECT["project"]["dependencies"],
    *extras["test"],
    *extras["dev"],
  ]
  missing = {name_of(requirement) for requirement in needed} - pinned
  assert not missing, "run `make lock`"


def test_git_ignores_nothing_of_what_is_packaged():
  """A pattern such as `runs/` would keep prompt_tuning/runs out of a clone."""
  if not (ROOT / ".git").exists():
    pytest.skip("this is no git checkout")
  files = [
    str(path.relative_to(ROOT))
    for folder in ("prompt_tuning", "tasks", "gin", "tests", "requirements")
    for path in (ROOT / folder).rglob("*")
    if path.is_file() and "__pycache__" not in path.parts
  ]
  result = subprocess.run(
    ["git", "check-ignore", "--no-index", "--stdin"],
    cwd=ROOT,
    input="\n".join(files),
    capture_output=True,
    text=True,
  )
  assert result.stdout.split() == []
