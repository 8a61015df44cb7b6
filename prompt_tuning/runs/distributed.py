"""Several processes that are one run: all are started by the same command.

On a pod slice every host runs a process, under Slurm every task. JAX connects
them; from then on `jax.devices()` are those of all, and whatever is compiled
runs on all of them together. Files are written by process 0, and checkpoints by
all, into a MODEL_DIR that all of them see.

A process that fails or is lost ends the others too: those that wait for its
numbers at once, where the network tells them, and every other one when its
heartbeats have been missing for `LOST_AFTER_SECONDS`. Started again, the run
goes on from its latest checkpoint.
"""

import atexit
import dataclasses
import os
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any

from absl import flags, logging

COORDINATOR = "JAX_COORDINATOR_ADDRESS"
NUM_PROCESSES = "JAX_NUM_PROCESSES"
PROCESS_ID = "JAX_PROCESS_ID"
# A host that only hesitates, as one does that reads a large checkpoint, goes on
# sending heartbeats.
LOST_AFTER_SECONDS = 60

_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:\[\]]+):\d+")
# How XLA, Gloo and NCCL tell that the other side is gone.
_LOST = re.compile(
  r"gloo|nccl|coordination service|heartbeat|connection (closed|reset)",
  re.IGNORECASE,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Member:
  """Which process this is, of how many.

  Attributes:
    coordinator: host:port of process 0, the same for all.
    num_processes: How many there are.
    process_id: This one's number, from 0.
  """

  coordinator: str
  num_processes: int
  process_id: int

  def __post_init__(self):
    if not _ADDRESS.fullmatch(self.coordinator):
      raise ValueError(
        f"{COORDINATOR} must be the host and port of process 0, such as "
        f"10.0.0.1:8476, got {self.coordinator!r}."
      )
    if self.num_processes < 1:
      raise ValueError(
        f"{NUM_PROCESSES} must be at least 1, got {self.num_processes}."
      )
    if not 0 <= self.process_id < self.num_processes:
      raise ValueError(
        f"{PROCESS_ID} must be from 0 to {NUM_PROCESSES} - 1 = "
        f"{self.num_processes - 1}, got {self.process_id}."
      )


def from_environment(environment: Mapping[str, str]) -> Member | None:
  """Returns which process the environment says this is, None if it does not.

  Raises:
    ValueError: Only some of the three variables are set, or they make no sense.
  """
  names = (COORDINATOR, NUM_PROCESSES, PROCESS_ID)
  missing = [name for name in names if not environment.get(name)]
  if len(missing) == len(names):
    return None
  if missing:
    there = ", ".join(name for name in names if name not in missing)
    raise ValueError(
      f"{there} set, {', '.join(missing)} missing: set all three for a run of "
      "several processes, or none."
    )
  return Member(
    coordinator=environment[COORDINATOR],
    num_processes=_integer(environment, NUM_PROCESSES),
    process_id=_integer(environment, PROCESS_ID),
  )


def define_flags() -> None:
  """Defines --distributed."""
  flags.DEFINE_bool(
    "distributed",
    False,
    "This is one of several processes, as Cloud TPU, Slurm or MPI tell. The "
    f"variables {COORDINATOR}, {NUM_PROCESSES} and {PROCESS_ID} say so without "
    "it.",
  )


def member_of_job(
  main: Callable[[list[str]], Any], *, saves_on_sigterm: bool = False
) -> Callable[[list[str]], Any]:
  """Returns `main` as one process of several, where flags or variables say so.

  A dry run needs no other process, so it is always one.

  Args:
    main: Takes the command line without flags; touches no device before.
    saves_on_sigterm: Whether it ends by itself, and all processes at the same
      step, after SIGTERM reached any of them. Otherwise SIGTERM ends it.
  """

  def run(argv: list[str]) -> Any:
    member = from_environment(os.environ)
    is_one = member is None and not flags.FLAGS.distributed
    if is_one or flags.FLAGS.dry_run:
      return main(argv)
    _join(member, saves_on_sigterm=saves_on_sigterm)
    try:
      _meet()
      return main(argv)
    except BaseException as error:
      atexit.register(_leave)
      if _tells_of_a_loss(error):
        raise ConnectionError(_loss(error)) from error
      raise

  return run


def _join(member: Member | None, *, saves_on_sigterm: bool) -> None:
  """Connects to the other processes, before anything touches a device."""
  import jax

  # JAX's service catches SIGTERM, which only the training loop asks it about.
  jax.config.update("jax_enable_preemption_service", saves_on_sigterm)
  if member is None:
    _detect()
  else:
    logging.info(
      "Process %d of %d connects to process 0 at %s.",
      member.process_id,
      member.num_processes,
      member.coordinator,
    )
    jax.distributed.initialize(
      member.coordinator,
      member.num_processes,
      member.process_id,
      # What is said is all: the job of a cluster that this may be started in is
      # not asked.
      cluster_detection_method="deactivate",
      heartbeat_timeout_seconds=LOST_AFTER_SECONDS,
    )


def _detect() -> None:
  import jax

  try:
    jax.distributed.initialize(heartbeat_timeout_seconds=LOST_AFTER_SECONDS)
  except ValueError as error:
    raise ValueError(
      "--distributed is given, but neither Cloud TPU nor Slurm nor MPI tells "
      f"which process this is ({str(error).rstrip('.')}). Set {COORDINATOR}, "
      f"{NUM_PROCESSES} and {PROCESS_ID}, or leave --distributed out to run as "
      "a single process."
    ) from error


def _meet() -> None:
  import jax
  from jax.experimental import multihost_utils

  # Where they meet for the first time, Gloo grants them only half a minute:
  # better now than when each has read its checkpoint.
  multihost_utils.sync_global_devices("joined")
  logging.info(
    "Process %d of %d, with %d of %d devices. If one is lost, all end within "
    "about %d seconds; the same command resumes.",
    jax.process_index(),
    jax.process_count(),
    jax.local_device_count(),
    jax.device_count(),
    LOST_AFTER_SECONDS,
  )
  if jax.process_index() > 0 and not logging.level_debug():
    # The others would only repeat the first.
    logging.set_verbosity(logging.WARNING)


def _leave() -> None:
  """Ends this process without waiting for others, which may wait for it.

  JAX would meet them once more at the exit, to part in order: a process that
  fails alone would wait there for those that wait for its numbers. It runs when
  the error has been shown.
  """
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(1)


def _tells_of_a_loss(error: BaseException | None) -> bool:
  import jax

  while error is not None:
    # JAX raises the one or the other, depending on when it notices.
    kinds = (jax.errors.JaxRuntimeError, ValueError)
    if isinstance(error, kinds) and _LOST.search(str(error)):
      return True
    error = error.__cause__ or error.__context__
  return False


def _loss(error: BaseException) -> str:
  import jax

  reason = str(error).strip().splitlines()[0]
  return (
    f"process {jax.process_index()} of {jax.process_count()} lost another one "
    f"({reason}). What that one wrote last says why. Start all of them again "
    "by the same command: a training run goes on from its latest checkpoint."
  )


def _integer(environment: Mapping[str, str], name: str) -> int:
  try:
    return int(environment[name])
  except ValueError as error:
    raise ValueError(
      f"{name} must be an integer, got {environment[name]!r}."
    ) from error
