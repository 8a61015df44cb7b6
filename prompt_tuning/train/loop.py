"""The training loop: updates, metrics, evaluation, checkpoints, stopping.

Between two updates, in this order: evaluate; save, before more data is read;
stop if it is time. The device never waits for the host: the metrics of a step
are read while the next one runs.
"""

import dataclasses
import enum
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import logging
from jax.sharding import Mesh

from prompt_tuning import paths
from prompt_tuning.data.features import BatchIterator
from prompt_tuning.train import health
from prompt_tuning.train import mesh as mesh_lib
from prompt_tuning.train import progress as progress_lib
from prompt_tuning.train.checkpoint import Checkpoints
from prompt_tuning.train.export import Export
from prompt_tuning.train.interrupt import Interrupt, watch_signals
from prompt_tuning.train.plan import Plan
from prompt_tuning.train.selection import Best, Selection
from prompt_tuning.train.start import Start, progress_json
from prompt_tuning.train.step import TrainState, TrainStep
from prompt_tuning.train.throughput import Meter, count_examples, count_tokens
from prompt_tuning.train.writers import Writer
from prompt_tuning.types import Params

Evaluate = Callable[[Params, int], Mapping[str, float]]
"""`(trainable, step) -> metrics`, named `<task>/<metric>`."""


class StopReason(enum.Enum):
  """Why `fit` returned."""

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
  """

  state: TrainState
  step: int
  reason: StopReason
  best: Best | None
  metrics: Mapping[str, float]


def fit(
  start: Start,
  frozen: Params,
  batches: BatchIterator,
  *,
  train_step: TrainStep,
  rng: jax.Array,
  mesh: Mesh,
  plan: Plan,
  model_dir: paths.PathLike,
  checkpoints: Checkpoints,
  writer: Writer,
  evaluate: Evaluate | None = None,
  selection: Selection | None = None,
  export: Export | None = None,
  meter: Meter | None = None,
  progress: progress_lib.Progress | None = None,
) -> FitResult:
  """Trains until the plan is done, patience runs out, or a signal comes.

  Args:
    start: A fresh state or what `resume` returned.
    frozen: The parameters that are not trained, on the devices.
    batches: Batches of this process; read one at a time.
    train_step: As `make_train_step` returns it, not compiled.
    rng: The run's key, the same at every step.
    mesh: Where batches are laid out.
    plan: How long, and what when.
    model_dir: Where a batch that breaks training is saved.
    checkpoints: Where to save.
    writer: Takes metrics. What it has after `start` is rewound first.
    evaluate: Evaluates the trainable parameters; None never evaluates.
    selection: Which evaluation is the best, and when to stop.
    export: Called at every save, before the checkpoint.
    meter: Measures rates; by default without utilisation.
    progress: Shows where the run is.

  Raises:
    NonFiniteError: If a step is not finite; the batch is named and saved.
    CheckpointError: If a checkpoint cannot be written.
    ValueError: If the data ends (after a save), a batch does not divide over
      the mesh, nothing moves, or there is a selection and nothing to evaluate.
  """
  if selection is not None and evaluate is None:
    raise ValueError(
      f"Checkpoints are to be selected by {selection.metric!r}, but nothing is "
      "evaluated; pass `evaluate`, or no selection."
    )
  shardings = jax.tree.map(lambda leaf: leaf.sharding, start.state)
  compiled = jax.jit(
    train_step,
    donate_argnums=0,
    out_shardings=(shardings, mesh_lib.replicated(mesh)),
  )
  if progress is None:
    progress = progress_lib.default_progress(
      start=start.step, total=plan.total_steps
    )
  writer.rewind(start.step if start.resumed else -1)
  with watch_signals() as interrupt:
    loop = _Loop(
      start=start,
      train_step=compiled,
      frozen=frozen,
      batches=batches,
      rng=mesh_lib.replicate_key(rng, mesh),
      mesh=mesh,
      plan=plan,
      model_dir=model_dir,
      checkpoints=checkpoints,
      writer=writer,
      evaluate=evaluate,
      selection=selection,
      export=export,
      meter=Meter() if meter is None else meter,
      progress=progress,
      interrupt=interrupt,
    )
    try:
      return loop.run()
    finally:
      writer.flush()
      progress.close()


class _Pending(NamedTuple):
  """A step that was started and whose metrics were not read yet."""

  step: int
  batch: Mapping[str, np.ndarray]
  metrics: Mapping[str, jax.Array]


@dataclasses.dataclass
class _Loop:
  """One call of `fit`; see its arguments."""

  start: Start
  train_step: Callable[..., Any]
  frozen: Params
  batches: BatchIterator
  rng: jax.Array
  mesh: Mesh
  plan: Plan
  model_dir: paths.PathLike
  checkpoints: Checkpoints
  writer: Writer
  evaluate: Evaluate | None
  selection: Selection | None
  export: Export | None
  meter: Meter
  progress: progress_lib.Progress
  interrupt: Interrupt

  def __post_init__(self):
    self._state = self.start.state
    self._step = self.start.step
    self._best = self.start.best
    self._evaluated = self.start.evaluated
    self._window = self.start.window
    self._is_saved = self.start.resumed
    self._is_compiled = False
    self._metrics: Mapping[str, float] = {}
    self._pending: _Pending | None = None
    self._movement = None if self.start.resumed else health.MovementCheck()

  def run(self) -> FitResult:
    """Trains to the end."""
    reason = self._between_updates()
    if reason is None:
      self.progress.note("compiling the training step")
    while reason is None:
      self._update()
      reason = self._between_updates()
    logging.info("Training %s at step %d.", reason.value, self._step)
    return FitResult(
      state=self._state,
      step=self._step,
      reason=reason,
      best=self._best,
      metrics=self._metrics,
    )

  def _between_updates(self) -> StopReason | None:
    """Evaluates, saves and decides; most of the time, does nothing."""
    # Who interrupts may not wait for an evaluation: it is done on resuming.
    interrupted = self.interrupt.requested(self._step)
    is_best = not interrupted and self._evaluate_if_due()
    reason = self._stop_reason()
    is_periodic = self._step > 0 and self._step % self.plan.save_every == 0
    if reason is not None or is_best or is_periodic:
      self._save(is_best=is_best)
    return reason

  def _stop_reason(self) -> StopReason | None:
    if self._step >= self.plan.total_steps:
      return StopReason.FINISHED
    if self.selection is not None and self.selection.should_stop(self._best):
      return StopReason.EARLY_STOPPED
    interrupted = self.interrupt.signal_name is not None
    return StopReason.INTERRUPTED if interrupted else None

  def _update(self) -> None:
    """Starts a step; reads the metrics of the step before meanwhile."""
    try:
      batch = next(self.batches)
    except StopIteration:
      self._save(is_best=False)
      raise ValueError(
        f"The training data ended after step {self._step} of "
        f"{self.plan.total_steps}, where a checkpoint was saved. Let the data "
        "repeat, or train fewer steps."
      ) from None
    on_device = mesh_lib.shard_batch(batch, self.mesh)
    # Whatever still moves between host and device here is a mistake.
    with jax.transfer_guard("disallow"):
      self._state, metrics = self.train_step(
        self._state, self.frozen, on_device, self.rng
      )
    self._step += 1
    self._is_saved = False
    before = self._pending
    self._pending = _Pending(self._step, batch, metrics)
    if before is not None:
      self._read(before)

  def _read(self, pending: _Pending) -> None:
    """Waits for a step's metrics, checks them and writes them when due."""
    values = jax.device_get(pending.metrics)
    metrics = {name: float(value) for name, value in values.items()}
    step = pending.step
    health.check_finite(
      metrics, pending.batch, step=step, model_dir=self.model_dir
    )
    if self._movement is not None:
      self._movement.check(metrics, step=step)
    self._window.add(metrics)
    self._count(pending.batch)
    self.progress.update(step, metrics)
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
    """Reads the metrics of the step that runs, if one does."""
    pending, self._pending = self._pending, None
    if pending is not None:
      self._read(pending)

  def _evaluate_if_due(self) -> bool:
    """Returns whether this step was evaluated and is the best so far."""
    is_last = self._step >= self.plan.total_steps
    is_due = is_last or self._step % self.plan.eval_every == 0
    if self.evaluate is None or not is_due or self._evaluated == self._step:
      return False
    self._drain()
    self.progress.note(f"evaluating step {self._step}")
    with self.meter.paused():
      metrics = self.evaluate(self._state.trainable, self._step)
    self._metrics = {name: float(value) for name, value in metrics.items()}
    self._evaluated = self._step
    self._is_saved = False
    for scope, scalars in _by_task(self._metrics).items():
      self.writer.write(scope, self._step, scalars)
    if self.selection is None:
      return False
    self._best = self.selection.update(
      self._best, self._metrics, step=self._step
    )
    return self._best.step == self._step

  def _save(self, *, is_best: bool) -> None:
    """Writes everything that a resumed run needs, the checkpoint last."""
    if self._is_saved:
      return
    self._drain()
    self.progress.note(f"saving step {self._step}")
    # Lines until this step must be there if the checkpoint is.
    self.writer.flush()
    with self.meter.paused():
      if self.export is not None:
        evaluated = self._evaluated == self._step
        self.export(
          self._state.trainable,
          step=self._step,
          metrics=self._metrics if evaluated else {},
          is_best=is_best,
        )
      self._write_checkpoint()
    self._is_saved = True

  def _write_checkpoint(self) -> None:
    best = self._best
    self.checkpoints.save(
      self._state,
      step=self._step,
      data=self.batches.state(),
      progress=progress_json(
        best=best, evaluated=self._evaluated, window=self._window
      ),
      best_step=None if best is None else best.step,
    )


def _by_task(metrics: Mapping[str, float]) -> dict[str, dict[str, float]]:
  """Returns metrics by the folder they are written to."""
  scopes: dict[str, dict[str, float]] = {}
  for name, value in metrics.items():
    task, _, metric = name.rpartition("/")
    scope = f"training_eval/{task}" if task else "training_eval"
    scopes.setdefault(scope, {})[metric] = value
  return scopes
