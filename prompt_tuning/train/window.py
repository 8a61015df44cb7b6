"""Averages of step metrics between two lines of the log."""

import dataclasses
from collections.abc import Mapping
from typing import Any

# Averaging a schedule over a window would show a rate that no step had.
_LAST_VALUE = ("learning_rate",)


@dataclasses.dataclass
class Window:
  """Sums of metrics over steps.

  Part of a checkpoint, so that a resumed run writes the same averages as one
  that was never interrupted.

  Attributes:
    count: Steps added.
    sums: Sum of each metric over those steps; of the learning rate, the last.
  """

  count: int = 0
  sums: dict[str, float] = dataclasses.field(default_factory=dict)

  def add(self, metrics: Mapping[str, float]) -> None:
    """Adds the metrics of one step."""
    self.count += 1
    for name, value in metrics.items():
      before = 0.0 if name in _LAST_VALUE else self.sums.get(name, 0.0)
      self.sums[name] = before + value

  def take(self) -> dict[str, float]:
    """Returns the averages and starts a new window."""
    averages = {
      name: value if name in _LAST_VALUE else value / self.count
      for name, value in self.sums.items()
    }
    self.count, self.sums = 0, {}
    return averages

  def as_json(self) -> dict[str, Any]:
    """Returns the window for a checkpoint; JSON keeps every bit of a float."""
    return {"count": self.count, "sums": dict(self.sums)}

  @classmethod
  def from_json(cls, entry: Mapping[str, Any]) -> "Window":
    """Returns the window that `as_json` gave."""
    return cls(count=entry["count"], sums=dict(entry["sums"]))
