"""What can be compared: systems at a job, and starts of a command.

Both say what they ask for, measure it, and show what was measured, which they
take and give as JSON.
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from benchmarks import startup, variants
from benchmarks.goals import Goal, Outcome
from benchmarks.jobs import Job
from benchmarks.measure import Plan, measure
from benchmarks.report import FLOORS, Report
from benchmarks.startup import Cache

Json = Mapping[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
  """Systems at one job.

  Attributes:
    name: What it is called on the command line and in a file's name.
    about: What it compares, in a sentence.
    job: What is done.
    systems: Who does it, see `benchmarks.variants`.
    baseline: The system, or floor, that the others are compared with.
    plan: How long.
    minutes: What it takes on two quiet cores, about.
    goals: What it is to show.
    matrix: How the matrix rate is measured.

  Raises:
    ValueError: If a system is unknown, named twice or does no such job, none
      measures the matrix rate, or the baseline is none of them.
  """

  name: str
  about: str = ""
  job: Job
  systems: tuple[str, ...]
  baseline: str
  plan: Plan
  minutes: float = 0
  goals: tuple[Goal, ...] = ()
  matrix: tuple[str, ...] = ("matrix_xla", "matrix_torch")

  def __post_init__(self):
    everything = self._everything
    for name in everything:
      variants.find(name).job(self.job)
    is_doubled = len(set(everything)) != len(everything)
    if is_doubled or not self.systems or not self.matrix:
      raise ValueError(
        "--systems and --matrix need at least one name each, and none twice; "
        f"got {', '.join(everything)}."
      )
    modes = {variants.find(system).mode for system in self.systems}
    floors = [floor for floor, mode in FLOORS.items() if mode in modes]
    known = [*self.systems, *floors]
    if self.baseline not in known:
      raise ValueError(
        f"--baseline={self.baseline} is none of {', '.join(known)}."
      )

  @property
  def _everything(self) -> list[str]:
    return [*self.systems, *self.matrix]

  @property
  def interpreters(self) -> list[str]:
    """Variables that are to name a Python, see `systems.Entry`."""
    named = {variants.find(each).entry.interpreter for each in self.systems}
    return sorted(named - {""})

  def asked(self) -> Json:
    """Returns what decides the numbers."""
    return {
      "job": json.loads(self.job.to_json()),
      "plan": dataclasses.asdict(self.plan),
      "systems": self._everything,
    }

  def measure(self, platform: str) -> Json:
    """Measures systems in turns, and the matrix rate between them.

    Args:
      platform: Where JAX computes, as JAX_PLATFORMS says it.
    """
    measured = measure(self._everything, self.job, self.plan, platform=platform)
    return Report(
      job=self.job,
      plan=self.plan,
      systems={name: measured[name] for name in self.systems},
      matrix={name: measured[name] for name in self.matrix},
    ).as_json()

  def markdown(self, measured: Json) -> str:
    """Returns the tables."""
    return Report.from_json(measured).markdown(baseline=self.baseline)

  def outcomes(self, measured: Json) -> list[Outcome]:
    """Returns what came of the goals."""
    report = Report.from_json(measured)
    return [goal.outcome(report) for goal in self.goals]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Startup:
  """Starts of README's training command.

  Attributes:
    name: What it is called on the command line and in a file's name.
    about: What it measures, in a sentence.
    rounds: Starts with each kind of cache.
    minutes: What it takes on two quiet cores, about.
    reach: Seconds that a start may take, the first or a later one.
    interpreters: As of a `Comparison`: none.
  """

  name: str
  about: str
  rounds: int
  minutes: float
  reach: float
  interpreters: tuple[str, ...] = ()

  def asked(self) -> Json:
    """Returns what decides the numbers."""
    return {"command": startup.readme_command(), "rounds": self.rounds}

  def measure(self, platform: str) -> Json:
    """Starts the command as a first and as a later run, in turns."""
    starts = startup.measure(
      startup.readme_command(),
      [Cache.COLD, Cache.WARM],
      rounds=self.rounds,
      platform=platform,
    )
    return startup.as_json(starts)

  def markdown(self, measured: Json) -> str:
    """Returns the table."""
    return startup.markdown(startup.from_json(measured))

  def outcomes(self, measured: Json) -> list[Outcome]:
    """Returns what came of the first run and of later ones."""
    totals = {
      cache: startup.total(starts)
      for cache, starts in startup.from_json(measured).items()
    }
    return [
      Outcome(
        about=f"command to first step, embedded model, {cache.value} cache",
        figure=f"{total.text(1)} s",
        reach=f"at most {self.reach:g} s",
        is_reached=total.median <= self.reach,
      )
      for cache, total in totals.items()
    ]
