"""GPU nodes under Slurm: `python -m launch.slurm VERB --name=...`.

From a login node, in a checkout on a disk that the compute nodes see too.
Nothing is held, or paid for, until `run` has a job in the queue.
"""

import pathlib
import shlex
import sys

from launch import here, keeper
from launch.cli import Args, Target, is_distributed, need, run_command
from launch.command import (
  Command,
  LaunchError,
  command,
  execute,
  join,
  output,
  show,
)

# Seconds between two questions to the scheduler, whom many ask.
POLL_SECONDS = 5.0


def install(args: Args) -> list[Command]:
  """Installs into the environment on the shared disk."""
  return here.install(args, "gpu,gcs")


def run(args: Args) -> list[Command]:
  """Queues a job; one of the same name waits until the one before has ended."""
  need(args, "accelerator")
  run_folder = here.run_folder(args)
  return [
    command("mkdir", "-p", run_folder),
    command("rm", "-f", run_folder / "exit_code"),
    command(
      *("sbatch", "--parsable", f"--job-name={args.name}"),
      f"--nodes={args.nodes}",
      f"--ntasks-per-node={_tasks_per_node(args)}",
      f"--gpus-per-node={args.accelerator}",
      *_cpus(args),
      *([f"--partition={args.partition}"] if args.partition else []),
      *([f"--time={args.time}"] if args.time else []),
      # Two jobs must not write to one MODEL_DIR. Queued twice, a run goes on
      # where its time limit ended it.
      "--dependency=singleton",
      # Before the time limit; to the steps, not to the script around them.
      f"--signal=TERM@{args.grace:.0f}",
      *("--requeue", "--open-mode=append"),
      f"--output={run_folder / 'log.txt'}",
      f"--wrap={_script(args, run_folder / 'exit_code')}",
    ),
  ]


def watch(args: Args) -> list[Command]:
  """Asks whether there is a job; `_watch` follows its log meanwhile."""
  log = here.run_folder(args) / "log.txt"
  return [
    command(
      *("squeue", "--me", f"--name={args.name}", "--noheader", "--format=%T"),
      note=f"repeated until it says nothing, following {log}",
    )
  ]


def stop(args: Args) -> list[Command]:
  """Lets a running job save a checkpoint; a queued one stays queued."""
  return [command(*_scancel(args), "--signal=TERM")]


def delete(args: Args) -> list[Command]:
  """Cancels every job of this name, removes environment and logs."""
  return [command(*_scancel(args)), *here.delete(args)]


def _tasks_per_node(args: Args) -> int:
  """JAX takes one process per GPU under Slurm, unless it is alone."""
  if is_distributed(args):
    gpus = args.accelerator.split(":")[-1]
    if not gpus.isdigit():
      raise LaunchError(
        f"--accelerator: expected a number of GPUs a node, such as 8 or "
        f"a100:8; got {args.accelerator!r}.",
        code=2,
      )
    return int(gpus)
  if args.nodes > 1:
    raise LaunchError(
      f"--nodes={args.nodes}: add --distributed to the run command, after the "
      "program's name. Without it each node would train alone.",
      code=2,
    )
  return 1


def _cpus(args: Args) -> list[str]:
  # srun does not take it over from sbatch.
  return [f"--cpus-per-task={args.cpus}"] if args.cpus else []


def _script(args: Args, exit_code: pathlib.Path) -> str:
  variables = here.environment(args)
  words = [
    *("srun", "--kill-on-bad-exit=1", *_cpus(args)),
    *(["env", *variables] if variables else []),
    *run_command(args, python=here.python(args)),
  ]
  path = shlex.quote(str(exit_code))
  # Slurm may start it again on another node.
  return (
    f"rm -f {path}; {join(words)}; code=$?; echo $code > {path}; exit $code"
  )


def _scancel(args: Args) -> tuple[str, ...]:
  return ("scancel", "--me", f"--name={args.name}")


def _watch(args: Args, plan: list[Command]) -> int:
  (asks,) = plan
  show(asks)
  try:
    return keeper.follow(
      here.run_folder(args),
      is_alive=lambda: bool(output(asks)),
      period=POLL_SECONDS,
    )
  except RuntimeError as error:
    raise LaunchError(str(error)) from error


def _run(args: Args, plan: list[Command]) -> int:
  here.check_installed(args)
  execute(plan, dry_run=False)
  return 0


TARGET = Target(
  module="launch.slurm",
  flags=(
    *("name", "accelerator", "nodes", "cpus", "partition", "time"),
    *("source", "venv", "grace"),
  ),
  required=("name",),
  plans={
    "create": here.create,
    "install": install,
    "run": run,
    "watch": watch,
    "stop": stop,
    "delete": delete,
  },
  perform={"run": _run, "watch": _watch},
)

if __name__ == "__main__":
  sys.exit(TARGET.main())
