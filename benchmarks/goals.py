"""What a comparison is to show, and whether it does."""

import dataclasses
import enum

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

  @property
  def is_floor(self) -> bool:
    """Whether more is better."""
    return self.quantity in (Quantity.SPEED, Quantity.MATRIX_RATE)

  @property
  def reach_text(self) -> str:
    """The number with what it bounds."""
    return f"{'at least' if self.is_floor else 'at most'} {self.reach:g}"

  def figure(self, report: Report) -> Spread:
    """Returns what was measured."""
    match self.quantity:
      case Quantity.SPEED:
        return summary.ratios(report.seconds(), of=self.of, to=self.to)
      case Quantity.TIME:
        return summary.ratios(report.seconds(), of=self.to, to=self.of)
      case Quantity.PEAK_MEMORY:
        return Spread.over([report.memory_ratio(of=self.of, to=self.to)])
      case Quantity.MATRIX_RATE:
        return report.utilization(self.of)

  def is_reached(self, figure: Spread) -> bool:
    """Whether the median does."""
    if self.is_floor:
      return figure.median >= self.reach
    return figure.median <= self.reach
