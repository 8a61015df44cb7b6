"""The training loop of one run; what happens between updates is in `run`.

The device never waits for the host: the metrics of a step are read while the
next one runs.
"""

from absl import logging

from prompt_tuning.train.dispatch import Steps
from prompt_tuning.train.interrupt import Interrupt, watch_signals
from prompt_tuning.train.run import FitResult, Run
from prompt_tuning.train.step import TrainStep
from prompt_tuning.types import Params


def fit(
  run: Run,
  frozen: Params,
  *,
  train_step: TrainStep | Steps,
  steps_per_dispatch: int = 1,
) -> FitResult:
  """Trains until the plan is done, patience runs out, or a signal comes.

  Args:
    run: The run, which has not begun.
    frozen: The parameters that are not trained, on the devices.
    train_step: As `make_train_step` returns it, not compiled; or `Steps` of
      it, which may be compiling already.
    steps_per_dispatch: Steps that go to the device together, where so many
      follow before an evaluation or a save; else one does.

  Raises:
    NonFiniteError: If a step is not finite; the batch is named and saved.
    CheckpointError: If a checkpoint cannot be written.
    ValueError: If the data ends (after a save), a batch does not divide over
      the mesh, nothing moves, or `steps_per_dispatch` is below 1.
  """
  check_steps_per_dispatch(steps_per_dispatch)
  steps = (
    train_step
    if isinstance(train_step, Steps)
    else Steps(train_step, run.state, mesh=run.mesh, axis=0)
  )
  run.begin()
  with watch_signals() as interrupt:
    try:
      return _train(run, frozen, steps, steps_per_dispatch, interrupt)
    finally:
      run.close()


def check_steps_per_dispatch(number: int) -> None:
  """Raises a ValueError unless there is a positive number of steps."""
  if number < 1:
    raise ValueError(
      f"STEPS_PER_DISPATCH must be at least 1 step, got {number!r}."
    )


def _train(
  run: Run,
  frozen: Params,
  steps: Steps,
  steps_per_dispatch: int,
  interrupt: Interrupt,
) -> FitResult:
  dispatches = 0
  reason = run.between_updates(interrupted=interrupt.requested(dispatches))
  if reason is None:
    run.note("compiling the training step")
  while reason is None:
    at_once = (
      run.steps_to_go() >= steps_per_dispatch
      and run.read(steps_per_dispatch) == steps_per_dispatch
    )
    if not at_once:
      run.read(1)
    read = run.take(steps_per_dispatch if at_once else 1)
    state, metrics = steps(run.state, frozen, read, run.rng)
    run.started(state, read, metrics)
    dispatches += 1
    reason = run.between_updates(interrupted=interrupt.requested(dispatches))
  logging.info("Training %s at step %d.", reason.value, run.step)
  return run.result(reason)
