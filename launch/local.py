"""Several processes on this machine: `python -m launch.local VERB --name=...`.

They find each other as the hosts of a slice do, over the loopback interface:
each is told the coordinator's address, their number and its own index by
JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID.
"""

import socket
import sys

from launch import here, keeper, processes
from launch.cli import Args, Target, run_command
from launch.command import Command, LaunchError, command


def install(args: Args) -> list[Command]:
  """Installs into the run's environment."""
  return here.install(args, "gcs")


def run(args: Args) -> list[Command]:
  """The processes, which `_run` starts together."""
  words = run_command(args, python=here.python(args))
  shared = [
    *here.environment(args),
    f"JAX_COORDINATOR_ADDRESS=127.0.0.1:{args.port or _free_port()}",
    f"JAX_NUM_PROCESSES={args.processes}",
  ]
  if args.devices_per_process:
    shared += [
      "JAX_PLATFORMS=cpu",
      "XLA_FLAGS=--xla_force_host_platform_device_count="
      f"{args.devices_per_process}",
    ]
  return [
    command("env", *shared, f"JAX_PROCESS_ID={index}", *words)
    for index in range(args.processes)
  ]


def watch(args: Args) -> list[Command]:
  """Follows the log from another terminal."""
  return [_keeper(args, "follow")]


def stop(args: Args) -> list[Command]:
  """Lets the run save a checkpoint and end, from another terminal."""
  # `run` itself waits for its processes: give it time to end those that stay.
  return [_keeper(args, "stop", f"--grace={args.grace + 10:g}")]


def _keeper(args: Args, verb: str, *flags: str) -> Command:
  return command(
    sys.executable, keeper.__file__, verb, here.run_folder(args), *flags
  )


def _free_port() -> int:
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    return free.getsockname()[1]


def _run(args: Args, plan: list[Command]) -> int:
  if args.command[0] in ("python", "python3"):
    here.check_installed(args)
  folder = here.run_folder(args)
  try:
    with keeper.held(folder) as note_exit_code:
      code = processes.run_together(plan, folder=folder, grace=args.grace)
      note_exit_code(code)
  except RuntimeError as error:
    raise LaunchError(str(error)) from error
  return code


TARGET = Target(
  module="launch.local",
  flags=(
    *("name", "processes", "devices_per_process", "port", "source", "venv"),
    "grace",
  ),
  required=("name",),
  plans={
    "create": here.create,
    "install": install,
    "run": run,
    "watch": watch,
    "stop": stop,
    "delete": here.delete,
  },
  perform={"run": _run},
)

if __name__ == "__main__":
  sys.exit(TARGET.main())
