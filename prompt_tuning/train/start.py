"""Where the training loop starts, or goes on after a checkpoint."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from prompt_tuning.data.features import BatchIterator
from prompt_tuning.train.checkpoint import Checkpoints
from prompt_tuning.train.run_identity import RunIdentity
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


def check_same_everywhere(run: RunIdentity, latest_step: int | None) -> None:
  """Checks that all processes are about to do the same.

  Otherwise they would wait for each other, or train on what was never meant to
  be together.

  Args:
    run: What this process runs.
    latest_step: The checkpoint that it would start from, None for none.

  Raises:
    ValueError: In every process, if one of them differs from the first.
  """
  if jax.process_count() == 1:
    return
  ours = json.dumps({"run": run.as_json(), "latest_step": latest_step})
  first = json.loads(_of_first_process(ours))
  differences = run.differences(RunIdentity.from_json(first["run"]))
  if latest_step != first["latest_step"]:
    differences.append(
      f"latest checkpoint: {first['latest_step']} -> {latest_step} (do all "
      "processes see the same MODEL_DIR?)"
    )
  all_same = multihost_utils.process_allgather(np.bool_(not differences))
  if not all_same.all():
    others = [str(index) for index in np.flatnonzero(~all_same)]
    lines = "".join(f"\n  {line}" for line in differences)
    raise ValueError(
      f"The processes {', '.join(others)} differ from process 0"
      + (f" (there -> process {jax.process_index()}):{lines}" if lines else ".")
      + "\nStart all by the same command, on the same files."
    )


def _of_first_process(text: str) -> str:
  data = np.frombuffer(text.encode(), np.uint8)
  size = int(multihost_utils.broadcast_one_to_all(np.int32(data.size)))
  data = multihost_utils.broadcast_one_to_all(np.resize(data, size))
  return bytes(np.asarray(data)).decode()


def progress_json(
  *, best: Best | None, evaluated: int | None, window: Window
) -> Mapping[str, Any]:
  """Returns what `resume` takes from a checkpoint besides state and data."""
  return {
    "best": None if best is None else dataclasses.asdict(best),
    "evaluated": evaluated,
    "window": window.as_json(),
  }
