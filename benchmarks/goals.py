"""What a comparison is to show, and whether it does."""

import dataclasses
import enum
from collections.abc import Sequence

from benchmarks import summary
from benchmarks.report import Report
from benchmarks.summary import Spread


class Quantity(enum.Enum):
  """What is measured of a system; the value says it in a table.

  SPEED is the other's time over its own, TIME is its own over the other's.
  """

  SPEED = "times as fast as {}"
  TIME = "of the time of {}"
  PEAK_MEMORY = "of the peak memory of {}"
  MATRIX_RATE = "% of the matrix rate"


@dataclasses.dataclass(frozen=True)
class Outcome:
  """What came of a goal, in words but for whether it was reached.

  Attributes:
    about: What it is a goal of.
    figure: What was measured.
    reach: What was to be.
    is_reached: Whether it is.
  """

  about: str
  figure: str
  reach: str
  is_reached: bool


def table(outcomes: Sequence[Outcome]) -> str:
  """Returns a Markdown table, a row a goal."""
  by_row = {outcome.about: outcome for outcome in outcomes}
  return summary.table(
    list(by_row),
    {
      "measured": lambda row: by_row[row].figure,
      "reach": lambda row: by_row[row].reach,
      "reached": lambda row: "yes" if by_row[row].is_reached else "no",
    },
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Goal:
  """A number to reach; SPEED and MATRIX_RATE at least, the others at most.

  Attributes:
    about: What it is a goal of.
    of: The system, as the comparison names it.
    to: The one it is held against; none for MATRIX_RATE.
    quantity: What is measured.
    reach: The number.
  """

  about: str
  of: str
  to: str = ""
  quantity: Quantity
  reach: float

  def outcome(self, report: Report) -> Outcome:
    """Returns what was measured; the median is held against the reach."""
    figure = self._figure(report)
    is_floor = self.quantity in (Quantity.SPEED, Quantity.MATRIX_RATE)
    best, other = (
      (figure.median, self.reach) if is_floor else (self.reach, figure.median)
    )
    return Outcome(
      about=self.about,
      figure=f"{figure.text(2)} {self.quantity.value.format(self.to)}",
      reach=f"{'at least' if is_floor else 'at most'} {self.reach:g}",
      is_reached=best >= other,
    )

  def _figure(self, report: Report) -> Spread:
    seconds = report.seconds()
    match self.quantity:
      case Quantity.SPEED:
        return summary.ratios(seconds, of=self.of, to=self.to)
      case Quantity.TIME:
        return summary.ratios(seconds, of=self.to, to=self.of)
      case Quantity.PEAK_MEMORY:
        return Spread.over([report.memory_ratio(of=self.of, to=self.to)])
      case Quantity.MATRIX_RATE:
        return report.utilization(self.of)
