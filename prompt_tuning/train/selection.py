"""Which step of a run is the best one, and when to stop looking further."""

import dataclasses
import enum
import math
from collections.abc import Mapping

from prompt_tuning.train.partition import nearest
from prompt_tuning.types import enum_member


class Mode(enum.Enum):
  """Whether a metric is better high or low."""

  MAX = "max"
  MIN = "min"


@dataclasses.dataclass(frozen=True)
class Best:
  """The best evaluation so far.

  Attributes:
    step: Step of the best evaluation; the first of several equals.
    value: Its metric.
    misses: Evaluations since then, none of which was better.
  """

  step: int
  value: float
  misses: int = 0


@dataclasses.dataclass(frozen=True)
class Selection:
  """Selects checkpoints by a metric on held-out data.

  Attributes:
    metric: Name as the evaluation returns it, such as `sst2/accuracy`.
    mode: Whether it is better high or low.
    patience: Training stops after this many evaluations in a row that were not
      better than the best; None never stops early.
  """

  metric: str
  mode: Mode = Mode.MAX
  patience: int | None = None

  def __post_init__(self):
    # A configuration file says "max".
    mode = enum_member(Mode, self.mode, name="Selection.mode")
    object.__setattr__(self, "mode", mode)
    if self.patience is not None and self.patience < 1:
      raise ValueError(
        f"Selection.patience must be at least 1 evaluation or None, got "
        f"{self.patience!r}."
      )

  def update(
    self, best: Best | None, metrics: Mapping[str, float], *, step: int
  ) -> Best:
    """Returns the best evaluation, this one included.

    A metric that is not a number is never better.

    Raises:
      ValueError: If the metric is not among those that were evaluated.
    """
    if self.metric not in metrics:
      raise ValueError(
        f"Checkpoints are selected by the metric {self.metric!r}, which the "
        "evaluation did not return; the nearest that it returned: "
        f"{', '.join(nearest(self.metric, metrics)) or 'none at all'}."
      )
    value = float(metrics[self.metric])
    if best is None or self._is_better(value, best.value):
      return Best(step=step, value=value)
    return dataclasses.replace(best, misses=best.misses + 1)

  def should_stop(self, best: Best | None) -> bool:
    """Returns whether patience has run out."""
    if best is None or self.patience is None:
      return False
    return best.misses >= self.patience

  def _is_better(self, value: float, than: float) -> bool:
    if math.isnan(value) or math.isnan(than):
      return math.isnan(than) and not math.isnan(value)
    return value > than if self.mode is Mode.MAX else value < than
