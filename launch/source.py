"""What is installed: the files of a checkout as they are, or a git ref."""

import dataclasses
import pathlib
import re
import sys

from launch.command import Command, LaunchError, command

ROOT = pathlib.Path(__file__).resolve().parents[1]
# Git ignores it.
WORK = ROOT / "build" / "launch"
_VERSION = re.compile(r'^__version__ = "(.+)"$', re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Source:
  """One file that pip can install, and how it is made.

  Attributes:
    build: The commands that make it.
    file: Where it then lies.
  """

  build: tuple[Command, ...]
  file: pathlib.Path


def folder(name: str) -> pathlib.Path:
  """Returns the folder on this machine that `delete` removes."""
  return WORK / name


def resolve(source: str, into: pathlib.Path) -> Source:
  """Finds out what to build.

  Args:
    source: A checkout's folder, whose wheel is built, uncommitted changes
      included; otherwise a git ref of this checkout.
    into: Folder for the file.

  Raises:
    LaunchError: The folder is no checkout of this project.
  """
  checkout = pathlib.Path(source)
  if checkout.is_dir():
    return _wheel(checkout.resolve(), into)
  file = into / f"prompt_tuning-{re.sub(r'[^A-Za-z0-9.]+', '-', source)}.tar.gz"
  archive = command(
    *("git", "-C", ROOT, "archive", "--format=tar.gz"),
    *("--prefix=prompt_tuning/", f"--output={file}", source),
  )
  return Source(build=(command("mkdir", "-p", into), archive), file=file)


def lock(python: str) -> pathlib.Path:
  """Returns the file with the tested versions for a version of Python."""
  return ROOT / "requirements" / f"lock-py{python.replace('.', '')}.txt"


def _wheel(checkout: pathlib.Path, into: pathlib.Path) -> Source:
  init = checkout / "prompt_tuning" / "__init__.py"
  version = _VERSION.search(init.read_text()) if init.exists() else None
  if not version:
    raise LaunchError(
      "--source: expected a checkout of prompt_tuning or a git ref; "
      f"{checkout} is a folder without prompt_tuning/__init__.py."
    )
  return Source(
    build=(
      # Setuptools would pack what an earlier build left there.
      command("rm", "-rf", checkout / "build" / "lib"),
      command(
        *(sys.executable, "-m", "pip", "wheel", "--no-deps"),
        *("--wheel-dir", into, checkout),
      ),
    ),
    file=into / f"prompt_tuning-{version[1]}-py3-none-any.whl",
  )
