"""Figures of a measurement: medians and quartiles over rounds, as a table."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

Seconds = Mapping[str, Sequence[float]]
"""Seconds per step of each system, one number a round."""


@dataclasses.dataclass(frozen=True)
class Spread:
  """A median and the quartiles around it.

  Attributes:
    low: A quarter of the rounds are below.
    median: Half are.
    high: Three quarters are.
  """

  low: float
  median: float
  high: float

  @classmethod
  def over(cls, values: Sequence[float]) -> "Spread":
    """Returns the spread of one number a round."""
    low, median, high = np.quantile(
      np.asarray(values, float), (0.25, 0.5, 0.75)
    )
    return cls(float(low), float(median), float(high))

  def text(self, digits: int) -> str:
    """Returns "median (low-high)" with so many digits behind the point."""
    low, median, high = (
      f"{value:,.{digits}f}" for value in (self.low, self.median, self.high)
    )
    return f"{median} ({low}-{high})"


def ratios(seconds: Seconds, *, of: str, to: str) -> Spread:
  """Returns how many times as fast `of` is as `to`, round by round.

  Two systems of one round ran within moments of each other, so that what slows
  the machine down for a while slows both.
  """
  pairs = zip(seconds[to], seconds[of], strict=True)
  return Spread.over([other / own for other, own in pairs])


def rates(per_step: Sequence[float], seconds: Sequence[float]) -> Spread:
  """Returns the spread of an amount per second.

  Args:
    per_step: How much of it a step of each round had.
    seconds: Seconds per step of each round.
  """
  pairs = zip(per_step, seconds, strict=True)
  return Spread.over([amount / time for amount, time in pairs])


def table(
  rows: Sequence[str], columns: Mapping[str, Callable[[str], str]]
) -> str:
  """Returns a Markdown table.

  Args:
    rows: What the rows are called, in the first column.
    columns: Title of each other column, and what it says of a row.
  """
  cells = [["", *columns]]
  cells += [[row, *(say(row) for say in columns.values())] for row in rows]
  widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
  cells.insert(1, ["-" * width for width in widths])
  lines = (
    " | ".join(
      cell.ljust(width) for cell, width in zip(line, widths, strict=True)
    )
    for line in cells
  )
  return "".join(f"| {line} |\n" for line in lines)
