"""One TPU VM: `python -m launch.tpu_vm VERB --name=... --zone=...`."""

import sys

from launch import cloud_tpu
from launch.cli import Args, Target, need
from launch.command import Command, command
from launch.source import folder


def create(args: Args) -> list[Command]:
  """Makes the VM at once, or fails for want of capacity."""
  need(args, "accelerator")
  return [
    cloud_tpu.gcloud(
      args,
      "tpu-vm",
      "create",
      f"--accelerator-type={args.accelerator}",
      f"--version={cloud_tpu.runtime_version(args)}",
      *(["--spot"] if args.spot else []),
    )
  ]


def delete(args: Args) -> list[Command]:
  """Deletes the VM with its disk, and what was built for it here."""
  return [
    cloud_tpu.gcloud(args, "tpu-vm", "delete", "--quiet"),
    command("rm", "-rf", folder(args.name)),
  ]


TARGET = Target(
  module="launch.tpu_vm",
  flags=cloud_tpu.FLAGS,
  required=("name", "zone"),
  plans={
    "create": create,
    "install": cloud_tpu.install,
    "run": cloud_tpu.run,
    "watch": cloud_tpu.watch,
    "stop": cloud_tpu.stop,
    "delete": delete,
  },
)

if __name__ == "__main__":
  sys.exit(TARGET.main())
