"""An environment and a run folder on this machine, or on a shared disk."""

import pathlib
import sys

from launch import source
from launch.cli import Args
from launch.command import Command, LaunchError, command


def run_folder(args: Args) -> pathlib.Path:
  """Returns where the run writes its log and exit code."""
  return source.folder(args.name) / "run"


def python(args: Args) -> pathlib.Path:
  """Returns the interpreter that runs are started with."""
  venv = pathlib.Path(args.venv).absolute() if args.venv else _own_venv(args)
  return venv / "bin" / "python"


def environment(args: Args) -> list[str]:
  """Returns the variables that a run needs.

  In the run's own environment Python does not look into the current folder:
  that is a checkout, and would hide what was installed.
  """
  return [] if args.venv else ["PYTHONSAFEPATH=1"]


def create(args: Args) -> list[Command]:
  """Makes an empty environment."""
  _refuse_foreign_venv(args)
  return [command(sys.executable, "-m", "venv", _own_venv(args))]


def install(args: Args, extras: str) -> list[Command]:
  """Installs the source and what it requires.

  Args:
    args: The command line.
    extras: Names of extras of the package, separated by commas.
  """
  _refuse_foreign_venv(args)
  built = source.resolve(args.source, source.folder(args.name))
  lock = source.lock(f"{sys.version_info.major}.{sys.version_info.minor}")
  constraint = ["--constraint", lock] if lock.exists() else []
  pip = (python(args), "-m", "pip", "install", "--quiet")
  return [
    *built.build,
    command(*pip, *constraint, f"{built.file}[{extras}]"),
    # pip keeps what has the same version, changed or not.
    command(*pip, "--no-deps", "--force-reinstall", built.file),
  ]


def delete(args: Args) -> list[Command]:
  """Removes environment, build and logs; never a MODEL_DIR."""
  return [command("rm", "-rf", source.folder(args.name))]


def check_installed(args: Args) -> None:
  """Raises a `LaunchError` where there is no interpreter to run with."""
  if not python(args).exists():
    raise LaunchError(
      f"There is no {python(args)}: `create` and `install` make it; or name an "
      "environment with --venv."
    )


def _own_venv(args: Args) -> pathlib.Path:
  return source.folder(args.name) / "venv"


def _refuse_foreign_venv(args: Args) -> None:
  if args.venv:
    raise LaunchError(
      f"{args.verb} works on the run's own environment; --venv={args.venv} "
      "names one that you look after.",
      code=2,
    )
