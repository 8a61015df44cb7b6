"""The command line that all launchers share: verbs, flags, the run command."""

import argparse
import dataclasses
import re
import sys
from collections.abc import Callable, Sequence

from launch.command import Command, LaunchError, execute

Args = argparse.Namespace
Plan = Callable[[Args], list[Command]]

# A flag means the same wherever it is taken, because it is defined once.
FLAGS = {
  "name": "Names the machine, the job and the folders of this run.",
  "zone": "Zone of Google Cloud, such as us-central2-b.",
  "project": "Project of Google Cloud; without it, gcloud's own default.",
  "accelerator": "What to run on: v5litepod-8 (TPU), a100:8 or 8 (GPUs).",
  "runtime_version": "Software of the TPU VM; without it, by accelerator.",
  "spot": "Takes spare capacity: cheaper, and may be taken away.",
  "valid_for": "How long a request may wait for capacity, such as 6h.",
  "worker": "Which host's log to watch: a number, or all.",
  "source": "What to install: a checkout (its files as they are) or a git ref.",
  "python": "Version of Python on the TPU VM.",
  "grace": "Seconds a run has for its checkpoint when it is to end.",
  "venv": "Environment to run in; without it, the one `create` makes.",
  "nodes": "Number of nodes.",
  "cpus": "CPUs of each process; without it, the cluster's default.",
  "partition": "Partition of the cluster; without it, the cluster's default.",
  "time": "Time limit, such as 24:00:00; without it, the partition's.",
  "processes": "Number of processes.",
  "devices_per_process": "Makes each process see so many CPU devices.",
  "port": "Port of the coordinator; without it, a free one.",
  "image": "Where the container's image is pushed: HOST/PROJECT/REPO/NAME.",
}
_OPTIONS = {
  "spot": {"action": "store_true"},
  "worker": {"default": "0"},
  "source": {"default": "."},
  "python": {"default": "3.12", "choices": ("3.11", "3.12")},
  "grace": {"type": float, "default": 120.0},
  "nodes": {"type": int, "default": 1},
  "cpus": {"type": int},
  "processes": {"type": int, "default": 2},
  "devices_per_process": {"type": int},
  "port": {"type": int},
}
VERBS = ("create", "install", "run", "watch", "stop", "delete")
# What Google Cloud allows as the name of a resource.
_NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")


@dataclasses.dataclass(frozen=True)
class Target:
  """A kind of machine, or of queue, that runs can be put on.

  Attributes:
    module: How the program is called.
    flags: Names in `FLAGS`; every verb takes all of them, so that one line
      serves from `create` to `delete`.
    required: Those of them that no verb goes without.
    plans: The commands of each verb.
    perform: Verbs that are more than commands run one after another; returns
      the exit code.
  """

  module: str
  flags: tuple[str, ...]
  required: tuple[str, ...]
  plans: dict[str, Plan]
  perform: dict[str, Callable[[Args, list[Command]], int]] = dataclasses.field(
    default_factory=dict
  )

  def main(self, argv: Sequence[str] | None = None) -> int:
    """Plans a verb and prints or performs it; returns the exit code."""
    try:
      args = self._parse(sys.argv[1:] if argv is None else argv)
      need(args, *self.required)
      _check(args)
      plan = self.plans[args.verb](args)
      if args.verb in self.perform and not args.dry_run:
        return self.perform[args.verb](args, plan)
      execute(plan, dry_run=args.dry_run)
    except LaunchError as error:
      print(f"{self.module}: {error}", file=sys.stderr)
      return error.code
    except KeyboardInterrupt:
      return 130
    return 0

  def _parse(self, argv: Sequence[str]) -> Args:
    flags, command = _split(argv)
    parser = argparse.ArgumentParser(
      prog=f"python -m {self.module}",
      usage="%(prog)s VERB --name=NAME [FLAGS] [-- RUN COMMAND]",
      allow_abbrev=False,
    )
    parser.add_argument("verb", choices=VERBS)
    parser.add_argument(
      "--dry_run", action="store_true", help="Print the commands, run nothing."
    )
    for name in self.flags:
      parser.add_argument(
        f"--{name}", help=FLAGS[name], **_OPTIONS.get(name, {})
      )
    args = parser.parse_args(flags)
    args.command = command
    return args


def need(args: Args, *names: str) -> None:
  """Raises a `LaunchError` unless each of these flags was given."""
  for name in names:
    if getattr(args, name) is None:
      raise LaunchError(f"{args.verb} needs --{name}. {FLAGS[name]}", code=2)


def run_command(args: Args, *, python: object) -> tuple[str, ...]:
  """Returns what stands behind `--`.

  Args:
    args: The command line.
    python: What `python` in front of the command becomes: the interpreter of
      the environment that `install` filled.
  """
  if args.command[0] in ("python", "python3"):
    return (str(python), *args.command[1:])
  return tuple(args.command)


def is_distributed(args: Args) -> bool:
  """Whether the processes of the run will look for each other."""
  return "--distributed" in args.command


def _split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
  if "--" not in argv:
    return list(argv), []
  at = list(argv).index("--")
  return list(argv[:at]), list(argv[at + 1 :])


def _check(args: Args) -> None:
  if not _NAME.fullmatch(args.name):
    raise LaunchError(
      "--name: expected lower-case letters, digits and hyphens, a letter "
      f"first, at most 63; got {args.name!r}.",
      code=2,
    )
  for name in ("nodes", "cpus", "processes", "devices_per_process"):
    value = getattr(args, name, None)
    if value is not None and value < 1:
      raise LaunchError(f"--{name}: expected 1 or more.", code=2)
  if args.verb == "run" and not args.command:
    raise LaunchError(
      "run needs the command to run, behind --; such as\n"
      "  ... -- python -m prompt_tuning.train --gin_file=...",
      code=2,
    )
  if args.verb != "run" and args.command:
    raise LaunchError(
      f"{args.verb} takes no run command; got -- {' '.join(args.command)}",
      code=2,
    )
