"""GPUs of Vertex AI by XManager: `python -m launch.xm VERB --name=...`.

XManager builds an image, pushes it and submits the job; it lives in an
environment of its own, which `create` makes. Nothing is held, or paid for,
between jobs.
"""

import pathlib
import shlex
import sys

from launch import here, source
from launch.cli import Args, Target, is_distributed, need, run_command
from launch.command import Command, LaunchError, command, shell

_HERE = pathlib.Path(__file__).parent
# XManager submits to this region and offers no other.
_REGION = "us-central1"
_XMANAGER = "xmanager>=0.8,<0.9"


def create(args: Args) -> list[Command]:
  """Makes the environment that XManager runs in."""
  python = here.python(args)
  return [
    *here.create(args),
    command(python, "-m", "pip", "install", "--quiet", "uv"),
    # Of XManager's requirements pip tries versions for longer than we waited.
    command(
      *(python, "-m", "uv", "pip", "install", "--quiet"),
      *(f"--python={python}", _XMANAGER),
    ),
  ]


def install(args: Args) -> list[Command]:
  """Collects what the image is built from."""
  image = _image_folder(args)
  built = source.resolve(args.source, image)
  return [
    # The Dockerfile takes the one file that lies there.
    command("rm", "-rf", image),
    *built.build,
    command("cp", _HERE / "Dockerfile", source.lock("3.12"), image),
  ]


def run(args: Args) -> list[Command]:
  """Builds and pushes the image, and submits the job.

  Raises:
    LaunchError: The run wants several processes; the job has one.
  """
  need(args, "accelerator", "image")
  if is_distributed(args):
    raise LaunchError(
      "The job is one process that drives all GPUs of one machine: leave "
      "--distributed out.",
      code=2,
    )
  _check_accelerator(args.accelerator)
  return [
    command(
      *(here.python(args).with_name("xmanager"), "launch"),
      *(_HERE / "xm_experiment.py", "--"),
      f"--title={args.name}",
      f"--image={args.image}",
      f"--image_folder={_image_folder(args)}",
      f"--accelerator={args.accelerator}",
      "--",
      *run_command(args, python="python"),
    )
  ]


def watch(args: Args) -> list[Command]:
  """Follows the log of the latest job of this name."""
  return [_on_latest_job(args, "stream-logs")]


def stop(args: Args) -> list[Command]:
  """Cancels the latest job of this name."""
  return [_on_latest_job(args, "cancel")]


def delete(args: Args) -> list[Command]:
  """Deletes the image and what was made here; finished jobs cost nothing."""
  need(args, "image")
  return [
    command(
      *("gcloud", "artifacts", "docker", "images", "delete", args.image),
      *("--delete-tags", "--quiet"),
    ),
    *here.delete(args),
  ]


def _image_folder(args: Args) -> pathlib.Path:
  return source.folder(args.name) / "image"


def _check_accelerator(accelerator: str) -> None:
  kind, _, count = accelerator.partition(":")
  if not kind or not count.isdigit():
    raise LaunchError(
      "--accelerator: expected a kind of GPU and a number, such as a100:8; got "
      f"{accelerator!r}.",
      code=2,
    )


def _on_latest_job(args: Args, verb: str) -> Command:
  where = f"--region={_REGION}"
  if args.project:
    where += f" --project={shlex.quote(args.project)}"
  # XManager calls a job TITLE_EXPERIMENT_UNIT.
  latest = (
    f"gcloud ai custom-jobs list {where} --filter='displayName~^{args.name}_' "
    "--sort-by='~createTime' --limit=1 --format='value(name)'"
  )
  return shell(f'gcloud ai custom-jobs {verb} "$({latest})" {where}')


TARGET = Target(
  module="launch.xm",
  flags=("name", "project", "accelerator", "image", "source", "venv"),
  required=("name",),
  plans={
    "create": create,
    "install": install,
    "run": run,
    "watch": watch,
    "stop": stop,
    "delete": delete,
  },
)

if __name__ == "__main__":
  sys.exit(TARGET.main())
