"""Runs systems in turns on one machine, so that its drift hits all alike."""

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.jobs import Job
from benchmarks.remote import Remote, Turn


@dataclasses.dataclass(frozen=True)
class Plan:
  """How long to measure.

  Attributes:
    rounds: Turns of every system.
    steps: Steps of a turn, which are timed together.
    waking_steps: Steps in front of them, which are not timed: they bring back
      to the caches what the systems before have driven out.

  Raises:
    ValueError: If there is nothing to time.
  """

  rounds: int
  steps: int
  waking_steps: int = 1

  def __post_init__(self):
    if self.rounds < 1 or self.steps < 1 or self.waking_steps < 0:
      raise ValueError(
        "rounds and steps must be at least 1 and waking_steps at least 0, got "
        f"{self.rounds}, {self.steps} and {self.waking_steps}."
      )


@dataclasses.dataclass(frozen=True)
class Measurement:
  """What was measured of one system.

  Attributes:
    name: The system's.
    build_seconds: Importing it and building its model.
    start_seconds: Compiling, and a first step of every shape.
    seconds: Seconds per step, one number a round.
    busy_cores: How many cores were at work on average, one number a round.
    report: See `Remote.report`.
  """

  name: str
  build_seconds: float
  start_seconds: float
  seconds: Sequence[float]
  busy_cores: Sequence[float]
  report: Mapping[str, Any]

  @property
  def peak_memory(self) -> int:
    """The most bytes that the process ever held."""
    return self.report["peak_memory"]

  @property
  def memory_in_steps(self) -> int:
    """The most bytes in steps, libraries left out: weights and activations."""
    return self.report["peak_memory_in_steps"] - self.report["base_memory"]


def measure(
  names: Sequence[str],
  job: Job,
  plan: Plan,
  *,
  platform: str = "cpu",
  note: Callable[[str], None] = print,
) -> dict[str, Measurement]:
  """Measures systems at a job; one is awake at a time.

  Every second round goes through them backwards, so that none always runs
  after the same other one.

  Args:
    names: Systems, see `benchmarks.variants`.
    job: What they do.
    plan: How long.
    platform: Where JAX computes, see `Remote`.
    note: Told where the measurement is.

  Raises:
    RuntimeError: If a system fails.
  """
  with contextlib.ExitStack() as stack:
    remotes = []
    for name in names:
      note(f"starting {name}")
      remotes.append(stack.enter_context(Remote(name, job, platform=platform)))
    turns: dict[str, list[Turn]] = {name: [] for name in names}
    for index in range(plan.rounds):
      note(f"round {index + 1} of {plan.rounds}")
      for remote in remotes if index % 2 == 0 else reversed(remotes):
        if plan.waking_steps:
          remote.run(plan.waking_steps)
        turns[remote.name].append(remote.run(plan.steps))
    return {
      remote.name: _measurement(remote, turns[remote.name], plan)
      for remote in remotes
    }


def _measurement(
  remote: Remote, turns: Sequence[Turn], plan: Plan
) -> Measurement:
  return Measurement(
    name=remote.name,
    build_seconds=remote.build_seconds,
    start_seconds=remote.start_seconds,
    seconds=[turn.seconds / plan.steps for turn in turns],
    busy_cores=[turn.busy_seconds / turn.seconds for turn in turns],
    report=remote.report(),
  )


def batches_of_rounds(job: Job, plan: Plan) -> list[list[int]]:
  """Returns which batches each round times, by their number in the job.

  All systems go through the batches at the same pace.
  """
  per_round = plan.waking_steps + plan.steps
  return [
    [
      (index * per_round + plan.waking_steps + step) % job.num_batches
      for step in range(plan.steps)
    ]
    for index in range(plan.rounds)
  ]
