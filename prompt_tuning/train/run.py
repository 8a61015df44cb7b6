"""One run as the training loop sees it: all but the steps themselves.

Between two updates, in this order: evaluate; save, before more data is read;
stop if it is time. Metrics of a step are read while the next one runs.
"""

import collections
import contextlib
import dataclasses
import enum
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from prompt_tuning import paths
from prompt_tuning.data.features import BatchIterator, Features
from prompt_tuning.train import health
from prompt_tuning.train import mesh as mesh_lib
from prompt_tuning.train import progress as progress_lib
from prompt_tuning.train.checkpoint import Checkpoints
from prompt_tuning.train.dispatch import StepMetrics
from prompt_tuning.train.export import Export
from prompt_tuning.train.plan import Plan
from prompt_tuning.train.selection import Best, Selection
from prompt_tuning.train.start import Start, progress_json
from prompt_tuning.train.step import TrainState
from prompt_tuning.train.throughput import Meter, count_examples, count_tokens
from prompt_tuning.train.writers import Writer
from prompt_tuning.types import Params

Evaluate = Callable[[Params, int], Mapping[str, float]]
"""`(trainable, step) -> metrics`, named `<task>/<metric>`."""


WHILE_TRAINING, FINAL = "training_eval", "final_eval"
"""The scopes of evaluations: of steps on the way, of what was selected."""
ENDED = "ended.json"
"""In MODEL_DIR: the reason for which a run ended, or "running"; its step."""


class StopReason(enum.Enum):
  """Why training ended."""

  FINISHED = "finished"
  EARLY_STOPPED = "early stopped"
  INTERRUPTED = "interrupted"


@dataclasses.dataclass(frozen=True)
class FitResult:
  """How a run ended.

  Attributes:
    state: The last state.
    step: Its step.
    reason: Why it ended.
    best: The best evaluation, if any was selected by.
    metrics: The last evaluation's metrics, if there was one.
    final: Those of the final evaluation, if the run ended by itself and there
      is one.
  """

  state: TrainState
  step: int
  reason: StopReason
  best: Best | None
  metrics: Mapping[str, float]
  final: Mapping[str, float]


class _Pending(NamedTuple):
  """A step that was started and whose metrics were not read yet."""

  step: int
  batch: Features
  read: Callable[[], dict[str, float]]


@dataclasses.dataclass(kw_only=True)
class Run:
  """A run between its updates.

  Attributes:
    start: A fresh state or what `resume` returned.
    batches: Batches of this process; read one at a time.
    rng: The run's key, the same at every step.
    mesh: Where batches are laid out.
    plan: How long, and what when.
    model_dir: Where a batch that breaks training is saved.
    checkpoints: Where to save.
    writer: Takes metrics. What it has after `start` is rewound first.
    evaluate: Evaluates the trainable parameters; None never evaluates.
    evaluate_finally: Evaluates once what was selected, when the run has ended
      by itself; without a selection, the last step.
    selection: Which evaluation is the best, and when to stop.
    export: Called at every save, before the checkpoint.
    meter: Measures rates; by default without utilisation.
    progress: Shows where the run is.
    pause: Enters a block whose time is no training; by default that of `meter`.
    state: The state after the steps that were started.
    step: Its step.

  Raises:
    ValueError: If there is a selection and nothing to evaluate.
  """

  start: Start
  batches: BatchIterator
  rng: jax.Array
  mesh: Mesh
  plan: Plan
  model_dir: paths.PathLike
  checkpoints: Checkpoints
  writer: Writer
  evaluate: Evaluate | None = None
  evaluate_finally: Evaluate | None = None
  selection: Selection | None = None
  export: Export | None = None
  meter: Meter = dataclasses.field(default_factory=Meter)
  progress: progress_lib.Progress | None = None
  pause: Callable[[], contextlib.AbstractContextManager[Any]] | None = None

  def __post_init__(self):
    if self.selection is not None and self.evaluate is None:
      raise ValueError(
        f"Checkpoints are to be selected by {self.selection.metric!r}, but "
        "nothing is evaluated; pass `evaluate`, or no selection."
      )
    self.rng = mesh_lib.replicate_key(self.rng, self.mesh)
    self.state = self.start.state
    self.step = self.start.step
    self._best = self.start.best
    self._evaluated = self.start.evaluated
    self._window = self.start.window
    self._is_saved = self.start.resumed
    self._is_compiled = False
    self._metrics: Mapping[str, float] = {}
    self._pending: list[_Pending] = []
    self._waiting: collections.deque[tuple[Features, Any]] = collections.deque()
    self._position = self.batches.state()
    self._movement = None if self.start.resumed else health.MovementCheck()

  def begin(self) -> None:
    """Makes ready; nothing was written before."""
    if self.progress is None:
      self.progress = progress_lib.default_progress(
        start=self.step, total=self.plan.total_steps
      )
    if self.pause is None:
      self.pause = self.meter.paused
    self.writer.rewind(self.step if self.start.resumed else -1)
    self._write_end("running")

  def close(self) -> None:
    """Ends the display; all metrics that were read are on disk then."""
    self.writer.flush()
    if self.progress is not None:
      self.progress.close()

  def note(self, text: str) -> None:
    """Tells what takes a while now."""
    self._shown.note(text)

  def result(self, reason: StopReason) -> FitResult:
    """Evaluates for the last time, then writes and returns how the run ended.

    Raises:
      CheckpointError: If the best checkpoint cannot be read.
    """
    by_itself = reason is not StopReason.INTERRUPTED
    final = self._evaluate_finally() if by_itself else {}
    self._write_end(reason.value)
    return FitResult(
      final=final,
      state=self.state,
      step=self.step,
      reason=reason,
      best=self._best,
      metrics=self._metrics,
    )

  def between_updates(self, *, interrupted: bool) -> StopReason | None:
    """Evaluates, saves and decides; most of the time, does nothing.

    Args:
      interrupted: Whether the run is to end here.

    Returns:
      Why to end, None to go on.

    Raises:
      NonFiniteError: If a step was not finite; the batch is named and saved.
      CheckpointError: If a checkpoint cannot be written.
      ValueError: If nothing moves.
    """
    # Who interrupts may not wait for an evaluation: it is done on resuming.
    is_best = not interrupted and self._evaluate_if_due()
    reason = self._stop_reason(interrupted=interrupted)
    is_periodic = self.step > 0 and self.step % self.plan.save_every == 0
    if reason is not None or is_best or is_periodic:
      self._save(is_best=is_best)
    return reason

  def steps_to_go(self) -> int:
    """Returns how many steps follow before there is something to do."""
    return min(
      self.plan.total_steps - self.step,
      self.plan.eval_every - self.step % self.plan.eval_every,
      self.plan.save_every - self.step % self.plan.save_every,
    )

  def read(self, count: int) -> int:
    """Reads batches until so many wait; returns how many do, at least one.

    Raises:
      ValueError: If the data has ended, after a save.
    """
    while len(self._waiting) < count:
      try:
        batch = next(self.batches)
      except StopIteration:
        break
      # Only what may be read too far ahead needs to know where it stood.
      state = self.batches.state() if count > 1 else None
      self._waiting.append((batch, state))
    if not self._waiting:
      self._save(is_best=False)
      raise ValueError(
        f"The training data ended after step {self.step} of "
        f"{self.plan.total_steps}, where a checkpoint was saved. Let the data "
        "repeat, or train fewer steps."
      )
    return min(count, len(self._waiting))

  def take(self, count: int) -> list[Features]:
    """Returns the next batches of those that `read` has read."""
    taken = [self._waiting.popleft() for _ in range(count)]
    self._position = taken[-1][1]
    return [batch for batch, _ in taken]

  def started(
    self,
    state: TrainState,
    batches: Sequence[Features],
    metrics: StepMetrics,
    *,
    lane: int | None = None,
  ) -> None:
    """Takes what steps that run now will give; reads the steps before.

    Args:
      state: After the last of the steps.
      batches: Of each step.
      metrics: Of all of them.
      lane: Which of the runs in `metrics` this is; None if there is one.

    Raises:
      NonFiniteError: If a step before was not finite.
      ValueError: If nothing moves.
    """
    self.state = state
    before, self._pending = self._pending, []
    for number, batch in enumerate(batches):
      self.step += 1
      index = () if len(batches) == 1 else (number,)
      index += () if lane is None else (lane,)
      read = functools.partial(metrics.at, index)
      self._pending.append(_Pending(self.step, batch, read))
    self._is_saved = False
    for pending in before:
      self._read(pending)

  def _write_end(self, reason: str) -> None:
    """Writes why the run ended, and where; a killed one is left "running"."""
    if jax.process_index() == 0:
      content = {"reason": reason, "step": self.step}
      folder = paths.make_writable_dir(self.model_dir)
      paths.write_text(folder / ENDED, json.dumps(content) + "\n")

  def _stop_reason(self, *, interrupted: bool) -> StopReason | None:
    if self.step >= self.plan.total_steps:
      return StopReason.FINISHED
    if self.selection is not None and self.selection.should_stop(self._best):
      return StopReason.EARLY_STOPPED
    return StopReason.INTERRUPTED if interrupted else None

  def _read(self, pending: _Pending) -> None:
    """Waits for a step's metrics, checks them and writes them when due."""
    metrics = pending.read()
    step = pending.step
    health.check_finite(
      metrics, pending.batch, step=step, model_dir=self.model_dir
    )
    if self._movement is not None:
      self._movement.check(metrics, step=step)
    self._window.add(metrics)
    self._count(pending.batch)
    self._shown.update(step, metrics)
    if step % self.plan.log_every == 0:
      rates = {f"timing/{k}": v for k, v in self.meter.read().items()}
      self.writer.write("train", step, self._window.take() | rates)

  def _count(self, batch: Mapping[str, np.ndarray]) -> None:
    """Measures the rate; the first step is left out, for it was compiled."""
    if not self._is_compiled:
      self._is_compiled = True
      self.meter.restart()
      return
    # What the other processes read is taken to be as long on average.
    read = count_examples(batch)
    examples = mesh_lib.whole_size(read, self.mesh)
    self.meter.count(
      examples=examples, tokens=count_tokens(batch) * examples // read
    )

  def _drain(self) -> None:
    """Reads the metrics of the steps that run, if any do."""
    pending, self._pending = self._pending, []
    for each in pending:
      self._read(each)

  def _evaluate_if_due(self) -> bool:
    """Returns whether this step was evaluated and is the best so far."""
    is_last = self.step >= self.plan.total_steps
    is_due = is_last or self.step % self.plan.eval_every == 0
    if self.evaluate is None or not is_due or self._evaluated == self.step:
      return False
    self._drain()
    self._shown.note(f"evaluating step {self.step}")
    with self._paused():
      metrics = self.evaluate(self.state.trainable, self.step)
    self._metrics = {name: float(value) for name, value in metrics.items()}
    self._evaluated = self.step
    self._is_saved = False
    for scope, scalars in _by_task(self._metrics).items():
      self.writer.write(scope, self.step, scalars)
    if self.selection is None:
      return False
    self._best = self.selection.update(
      self._best, self._metrics, step=self.step
    )
    return self._best.step == self.step

  def _evaluate_finally(self) -> Mapping[str, float]:
    """Returns what the final evaluation says of the selected step."""
    if self.evaluate_finally is None:
      return {}
    step = self.step if self._best is None else self._best.step
    self._shown.note(f"the final evaluation, of step {step}")
    state = self.state
    if step != self.step:
      state = self.checkpoints.restore(self.state, step=step).state
    with self._paused():
      found = self.evaluate_finally(state.trainable, step)
    metrics = {name: float(value) for name, value in found.items()}
    for scope, scalars in _by_task(metrics, folder=FINAL).items():
      self.writer.write(scope, step, scalars)
    self.writer.flush()
    return metrics

  def _save(self, *, is_best: bool) -> None:
    """Writes everything that a resumed run needs, the checkpoint last."""
    if self._is_saved:
      return
    self._drain()
    self._shown.note(f"saving step {self.step}")
    # Lines until this step must be there if the checkpoint is.
    self.writer.flush()
    with self._paused():
      if self.export is not None:
        evaluated = self._evaluated == self.step
        self.export(
          self.state.trainable,
          step=self.step,
          metrics=self._metrics if evaluated else {},
          is_best=is_best,
        )
      self._write_checkpoint()
    self._is_saved = True

  def _write_checkpoint(self) -> None:
    best = self._best
    self.checkpoints.save(
      self.state,
      step=self.step,
      data=self._position if self._waiting else self.batches.state(),
      progress=progress_json(
        best=best, evaluated=self._evaluated, window=self._window
      ),
      best_step=None if best is None else best.step,
    )

  @property
  def _shown(self) -> progress_lib.Progress:
    assert self.progress is not None  # `begin` was called.
    return self.progress

  def _paused(self) -> contextlib.AbstractContextManager[Any]:
    assert self.pause is not None  # `begin` was called.
    return self.pause()


def _by_task(
  metrics: Mapping[str, float], *, folder: str = WHILE_TRAINING
) -> dict[str, dict[str, float]]:
  """Returns metrics by the folder they are written to."""
  scopes: dict[str, dict[str, float]] = {}
  for name, value in metrics.items():
    task, _, metric = name.rpartition("/")
    scope = f"{folder}/{task}" if task else folder
    scopes.setdefault(scope, {})[metric] = value
  return scopes
