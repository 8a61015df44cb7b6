"""A TPU slice of several hosts: `python -m launch.tpu_slice VERB --name=...`.

The slice is a queued resource with one node, both of the same name. `create`
queues the request; `install` waits until it is granted. A spot slice that was
taken away is not coming back: `delete`, `create`, `install` and `run` again,
and training resumes from its MODEL_DIR.
"""

import sys

from launch import cloud_tpu
from launch.cli import Args, Target, is_distributed, need
from launch.command import Command, LaunchError, State, command
from launch.source import folder

_WAITING = ("CREATING", "ACCEPTED", "WAITING_FOR_RESOURCES", "PROVISIONING")


def create(args: Args) -> list[Command]:
  """Queues the request for a slice."""
  need(args, "accelerator")
  return [
    cloud_tpu.gcloud(
      args,
      "queued-resources",
      "create",
      f"--node-id={args.name}",
      f"--accelerator-type={args.accelerator}",
      f"--runtime-version={cloud_tpu.runtime_version(args)}",
      *(["--spot"] if args.spot else []),
      *([f"--valid-until-duration={args.valid_for}"] if args.valid_for else []),
    )
  ]


def install(args: Args) -> list[Command]:
  """Waits for the slice, then installs on all of its hosts."""
  return [_granted(args, passing=_WAITING), *cloud_tpu.install(args)]


def run(args: Args) -> list[Command]:
  """Starts the same command on every host.

  Raises:
    LaunchError: The hosts would not look for each other: each would train
      alone, and all would write to the same MODEL_DIR.
  """
  if not is_distributed(args):
    raise LaunchError(
      "A slice has several hosts: add --distributed to the run command, after "
      "the program's name.",
      code=2,
    )
  return [_granted(args), *cloud_tpu.run(args)]


def watch(args: Args) -> list[Command]:
  """Follows the log of one host, or of all."""
  return [_granted(args), *cloud_tpu.watch(args)]


def stop(args: Args) -> list[Command]:
  """Lets the run save a checkpoint and end, on all hosts."""
  return [_granted(args), *cloud_tpu.stop(args)]


def delete(args: Args) -> list[Command]:
  """Deletes the slice, or the request, and what was built for it here."""
  return [
    cloud_tpu.gcloud(args, "queued-resources", "delete", "--force", "--quiet"),
    command("rm", "-rf", folder(args.name)),
  ]


def _granted(args: Args, *, passing: tuple[str, ...] = ()) -> Command:
  hint = (
    "WAITING_FOR_RESOURCES, PROVISIONING: `install` waits for it. SUSPENDED, "
    "FAILED: the slice was taken away, or could not be had; `delete`, `create`,"
    " `install` and `run` again. Training resumes from its MODEL_DIR."
  )
  return cloud_tpu.gcloud(
    args,
    "queued-resources",
    "describe",
    "--format=value(state.state)",
    state=State(wanted="ACTIVE", passing=passing, hint=hint),
  )


TARGET = Target(
  module="launch.tpu_slice",
  flags=(*cloud_tpu.FLAGS, "valid_for"),
  required=("name", "zone"),
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
