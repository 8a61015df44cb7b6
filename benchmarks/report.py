"""Says what was measured, as Markdown and as JSON."""

import dataclasses
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks import flops, jobs, summary, systems, variants
from benchmarks.flops import Mode
from benchmarks.jobs import Batch, Job, Kind
from benchmarks.measure import Measurement, Plan, batches_of_rounds
from benchmarks.summary import Spread
from benchmarks.systems import matrix

FLOORS = {f"floor_{mode.value}": mode for mode in Mode}
"""What the arithmetic alone would take, by what is tuned."""

_GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Report:
  """A measurement and the job it was taken at.

  Attributes:
    job: What was done.
    plan: How long.
    systems: What was measured of each system.
    matrix: What was measured of each way to multiply two large matrices.
  """

  job: Job
  plan: Plan
  systems: Mapping[str, Measurement]
  matrix: Mapping[str, Measurement]

  @property
  def matrix_rates(self) -> list[float]:
    """FLOP/s of the fastest matrix product of each round."""
    each = [measured.seconds for measured in self.matrix.values()]
    needed = matrix.step_flops(self.job)
    return [needed / min(times) for times in zip(*each, strict=True)]

  def needed_flops(self, mode: Mode) -> list[float]:
    """FLOPs that a step of each round needs, on average."""
    return self._by_round(lambda batch: flops.step_flops(self.job, batch, mode))

  def seconds(self) -> dict[str, Sequence[float]]:
    """Seconds per step by system and round, those of floors included."""
    modes = {variants.find(name).mode for name in self.systems}
    rates = self.matrix_rates
    floors = {
      name: [
        needed / rate
        for needed, rate in zip(self.needed_flops(mode), rates, strict=True)
      ]
      for name, mode in FLOORS.items()
      if mode in modes
    }
    return {name: m.seconds for name, m in self.systems.items()} | floors

  def utilization(self, name: str) -> Spread:
    """Returns the percentage of the matrix rate that a system achieves.

    The FLOPs that the job needs count, not those that the system spends.
    """
    pairs = zip(self._achieved(name), self.matrix_rates, strict=True)
    return Spread.over([100 * own / peak for own, peak in pairs])

  def memory_ratio(self, *, of: str, to: str) -> float:
    """Returns the peak memory of `of` over that of `to`."""
    own, other = (self.systems[name].peak_memory for name in (of, to))
    return own / other

  def _achieved(self, name: str) -> list[float]:
    """Returns FLOP/s of each round."""
    needed = self.needed_flops(_mode(name))
    seconds = self.seconds()[name]
    return [n / s for n, s in zip(needed, seconds, strict=True)]

  def markdown(self, *, baseline: str) -> str:
    """Returns the tables.

    Args:
      baseline: The system that the others are compared with.
    """
    rates = Spread.over([rate / 1e9 for rate in self.matrix_rates])
    return "\n".join(
      [
        self._speed(baseline),
        self._costs(baseline),
        f"Matrix rate: {rates.text(0)} GFLOP/s in {self.job.dtype} "
        f"({', '.join(self.matrix)}; the fastest of each round).",
        *self._compiled(),
        "",
      ]
    )

  def as_json(self) -> dict[str, Any]:
    """Returns all that was measured, number by number."""
    everything = {**self.systems, **self.matrix}
    return {
      "job": dataclasses.asdict(self.job) | {"kind": Kind(self.job.kind).value},
      "plan": dataclasses.asdict(self.plan),
      "machine": {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "system": platform.platform(),
      },
      "flops_per_step": {mode.value: self.needed_flops(mode) for mode in Mode},
      "measurements": {
        name: dataclasses.asdict(measured)
        for name, measured in everything.items()
      },
    }

  @classmethod
  def from_json(cls, kept: Mapping[str, Any]) -> "Report":
    """Returns the report that `as_json` has written."""
    measured = {
      name: Measurement(**each) for name, each in kept["measurements"].items()
    }
    ways = {name: m for name, m in measured.items() if name in systems.MATRIX}
    return cls(
      job=Job(**kept["job"]),
      plan=Plan(**kept["plan"]),
      systems={name: m for name, m in measured.items() if name not in ways},
      matrix=ways,
    )

  def _by_round(self, amount: Callable[[Batch], float]) -> list[float]:
    """Returns the mean of an amount over the batches of each round."""
    each = [amount(batch) for batch in jobs.make_batches(self.job)]
    return [
      float(np.mean([each[index] for index in batches]))
      for batches in batches_of_rounds(self.job, self.plan)
    ]

  def _speed(self, baseline: str) -> str:
    seconds = self.seconds()
    examples = [float(self.job.examples_per_step)] * self.plan.rounds
    tokens = self._by_round(lambda batch: batch.num_tokens)

    return summary.table(
      list(seconds),
      {
        "s/step": lambda name: Spread.over(seconds[name]).text(3),
        f"times {baseline}": lambda name: summary.ratios(
          seconds, of=name, to=baseline
        ).text(2),
        "examples/s": lambda name: summary.rates(examples, seconds[name]).text(
          1
        ),
        "tokens/s": lambda name: summary.rates(tokens, seconds[name]).text(0),
        "GFLOP/s": lambda name: Spread.over(
          [rate / 1e9 for rate in self._achieved(name)]
        ).text(0),
        "% of matrix rate": lambda name: self.utilization(name).text(0),
      },
    )

  def _costs(self, baseline: str) -> str:
    def memory(key):
      return lambda name: f"{self.systems[name].report[key] / _GIB:.2f}"

    def own_memory(name):
      return f"{self.systems[name].memory_in_steps / _GIB:.2f}"

    def compiled(name):
      facts = self.systems[name].report["facts"]
      seconds = facts.get("compile_seconds")
      return "" if seconds is None else f"{seconds:.1f}"

    def device_memory(name):
      facts = self.systems[name].report["facts"]
      held = facts.get("device_peak_memory")
      return "" if held is None else f"{held / _GIB:.2f}"

    columns = {
      "busy cores": lambda name: Spread.over(
        self.systems[name].busy_cores
      ).text(2),
      "peak GiB": memory("peak_memory"),
      "in steps GiB": memory("peak_memory_in_steps"),
      "libraries GiB": memory("base_memory"),
      "weights and activations GiB": own_memory,
      "build s": lambda name: f"{self.systems[name].build_seconds:.1f}",
      "compile s": compiled,
      "compile and first step s": lambda name: (
        f"{self.systems[name].start_seconds:.1f}"
      ),
    }
    if any(device_memory(name) for name in self.systems):
      columns["device peak GiB"] = device_memory
    if baseline in self.systems:
      columns[f"peak / {baseline}'s"] = lambda name: (
        f"{self.memory_ratio(of=name, to=baseline):.2f}"
      )
    return summary.table(list(self.systems), columns)

  def _compiled(self) -> list[str]:
    """Says how the compiled step's FLOPs compare with the formula's."""
    lines = []
    for name, measured in self.systems.items():
      compiled = measured.report["facts"].get("compiled_flops")
      if compiled is None:
        continue
      mode, job = _mode(name), variants.find(name).job(self.job)
      batches = jobs.make_batches(job)
      padded = max(batch.inputs.shape[1] for batch in batches)
      forward = flops.forward(job, [padded] * job.examples_per_step, mode)
      needed = forward.train_flops(mode) / forward.forward_flops
      lines.append(
        f"{name}: the compiled step has {compiled / 1e9:,.1f} GFLOP, "
        f"{compiled / forward.forward_flops:.3f} x the forward pass "
        f"({forward.forward_flops / 1e9:,.1f} GFLOP); by formula it needs "
        f"{needed:.3f} x. {_allocated(measured.report['facts'])}"
      )
    return lines


def _allocated(facts: Mapping[str, float]) -> str:
  """Says what a step holds besides its arguments and results."""
  mebibytes = facts.get("compiled_temporaries", 0) / 2**20
  return f"It allocates {mebibytes:,.0f} MiB." if mebibytes else ""


def _mode(name: str) -> Mode:
  return FLOORS[name] if name in FLOORS else variants.find(name).mode


def _processor() -> str:
  """Returns the processor's name; Linux alone tells it."""
  with open("/proc/cpuinfo") as lines:
    for line in lines:
      if line.startswith("model name"):
        return line.partition(":")[2].strip()
  return platform.machine()
