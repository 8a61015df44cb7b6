"""What a TPU VM and a slice of several share: everything by ssh.

On each host lie, below the home of whoever logs in, `prompt-tuning/venv`,
`prompt-tuning/keeper.py` and `prompt-tuning/run` (see `launch.keeper`).
"""

import pathlib
import shlex

from launch import source
from launch.cli import Args, run_command
from launch.command import Command, LaunchError, command, join

# With a hyphen: Python would take a folder `prompt_tuning` for the package.
HOME = "prompt-tuning"
PYTHON = f"{HOME}/venv/bin/python"
RUN = f"{HOME}/run"
FLAGS = (
  *("name", "zone", "project", "accelerator", "runtime_version", "spot"),
  *("source", "python", "worker", "grace"),
)
_KEEPER = pathlib.Path(__file__).with_name("keeper.py")
# https://cloud.google.com/tpu/docs/runtimes, "PyTorch and JAX".
_RUNTIMES = {
  "v2": "tpu-ubuntu2204-base",
  "v3": "tpu-ubuntu2204-base",
  "v4": "tpu-ubuntu2204-base",
  "v5litepod": "v2-alpha-tpuv5-lite",
  "v5p": "v2-alpha-tpuv5",
  "v6e": "v2-alpha-tpuv6e",
}


def gcloud(args: Args, group: str, verb: str, *flags: str, **fields) -> Command:
  """Returns `gcloud compute tpus GROUP VERB NAME` with zone and project."""
  project = [f"--project={args.project}"] if args.project else []
  return command(
    *("gcloud", "compute", "tpus", group, verb, args.name),
    f"--zone={args.zone}",
    *project,
    *flags,
    **fields,
  )


def ssh(args: Args, script: str, *, worker: str = "all") -> Command:
  """Returns the command that runs a shell's script on the hosts."""
  return gcloud(
    args, "tpu-vm", "ssh", f"--worker={worker}", f"--command={script}"
  )


def runtime_version(args: Args) -> str:
  """Returns the image of the VM.

  Raises:
    LaunchError: It is neither given nor known for this accelerator.
  """
  generation = args.accelerator.split("-")[0]
  version = args.runtime_version or _RUNTIMES.get(generation)
  if not version:
    raise LaunchError(
      f"--accelerator={args.accelerator}: expected one of "
      f"{', '.join(f'{name}-N' for name in _RUNTIMES)}. For another, give its "
      "--runtime_version too."
    )
  return version


def install(args: Args) -> list[Command]:
  """Builds what is to be installed, copies it to every host, installs it."""
  lock = source.lock(args.python)
  built = source.resolve(args.source, source.folder(args.name))
  copied = [str(file) for file in (built.file, lock, _KEEPER)]
  scp = command(
    *("gcloud", "compute", "tpus", "tpu-vm", "scp", *copied),
    f"{args.name}:{HOME}/",
    f"--zone={args.zone}",
    *([f"--project={args.project}"] if args.project else []),
    "--worker=all",
  )
  return [
    *built.build,
    ssh(args, f"mkdir -p {HOME}"),
    scp,
    ssh(args, _install_script(args.python, built.file.name, lock.name)),
  ]


def run(args: Args) -> list[Command]:
  """Starts the run on every host; it does not need the connection."""
  _refuse_local_model_dir(args)
  words = run_command(args, python=PYTHON)
  return [ssh(args, f"{_keeper('start')} -- {join(words)}")]


def watch(args: Args) -> list[Command]:
  """Follows the log; the run's exit code comes back through ssh."""
  return [ssh(args, _keeper("follow"), worker=args.worker)]


def stop(args: Args) -> list[Command]:
  """Lets the run save a checkpoint and end."""
  return [ssh(args, f"{_keeper('stop')} --grace={args.grace:g}")]


def _keeper(verb: str) -> str:
  return f"{PYTHON} {HOME}/keeper.py {verb} {RUN}"


def _install_script(python: str, file: str, lock: str) -> str:
  # The images' own Python is 3.10; uv brings the one that is asked for. Ubuntu
  # forbids pip to install for a user unless told so.
  return " && ".join(
    [
      "export PIP_BREAK_SYSTEM_PACKAGES=1",
      "python3 -m pip install --quiet --user --upgrade uv",
      f"python3 -m uv venv --quiet --clear --python={python} {HOME}/venv",
      f"python3 -m uv pip install --quiet --python={PYTHON}"
      f" --constraint={HOME}/{lock} "
      + shlex.quote(f"./{HOME}/{file}[tpu,gcs]"),
      f"{PYTHON} -c 'import prompt_tuning, jax; print(prompt_tuning.__version__"
      ", jax.__version__)'",
    ]
  )


def _refuse_local_model_dir(args: Args) -> None:
  for word in args.command:
    if word.startswith("--gin.MODEL_DIR=") and "gs://" not in word:
      raise LaunchError(
        f"{word}: expected a folder on gs://. The disks of a TPU VM go with "
        "it, and each host has its own.",
        code=2,
      )
