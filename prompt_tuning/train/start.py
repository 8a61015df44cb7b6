"""Where the training loop starts, or goes on after a checkpoint."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from prompt_tuning.data.features import BatchIterator
from prompt_tuning.train.checkpoint import Checkpoints
from prompt_tuning.train.selection import Best
from prompt_tuning.train.step import TrainState
from prompt_tuning.train.window import Window


@dataclasses.dataclass(frozen=True)
class Start:
  """Where a run starts or goes on.

  Attributes:
    state: On the devices; it is donated to the first step.
    step: Its step.
    best: The best evaluation before.
    evaluated: The last step that was evaluated.
    window: Metrics since the last line.
    resumed: Whether it comes from a checkpoint.
  """

  state: TrainState
  step: int = 0
  best: Best | None = None
  evaluated: int | None = None
  window: Window = dataclasses.field(default_factory=Window)
  resumed: bool = False


def resume(
  checkpoints: Checkpoints,
  target: TrainState,
  batches: BatchIterator,
  *,
  step: int | None = None,
) -> Start:
  """Returns the start that a checkpoint gives, and moves the data to it.

  Args:
    checkpoints: Of this run.
    target: A state, or its shapes and shardings.
    batches: Continued from where the checkpoint left it.
    step: Which checkpoint; the latest by default.

  Raises:
    CheckpointError: See `Checkpoints.restore`.
  """
  restored = checkpoints.restore(target, step=step)
  batches.restore(restored.data)
  best = restored.progress["best"]
  return Start(
    state=restored.state,
    step=int(restored.state.step),
    best=None if best is None else Best(**best),
    evaluated=restored.progress["evaluated"],
    window=Window.from_json(restored.progress["window"]),
    resumed=True,
  )


def progress_json(
  *, best: Best | None, evaluated: int | None, window: Window
) -> Mapping[str, Any]:
  """Returns what `resume` takes from a checkpoint besides state and data."""
  return {
    "best": None if best is None else dataclasses.asdict(best),
    "evaluated": evaluated,
    "window": window.as_json(),
  }
