"""The training loop of several independent runs over one frozen backbone.

Every run keeps its own folder, data, optimizer, schedule, evaluations and end,
as if it were alone. Only the steps are taken together.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
from absl import logging
from jax import numpy as jnp
from jax.sharding import Mesh

from prompt_tuning.train import mesh as mesh_lib
from prompt_tuning.train import progress as progress_lib
from prompt_tuning.train.checkpoint_files import CheckpointError
from prompt_tuning.train.dispatch import Steps, stack_padded
from prompt_tuning.train.health import NonFiniteError
from prompt_tuning.train.interrupt import Interrupt, watch_signals
from prompt_tuning.train.loop import check_steps_per_dispatch
from prompt_tuning.train.run import FitResult, Run
from prompt_tuning.train.step import JointTrainStep
from prompt_tuning.types import Params

# What ends a run and none of the others: its numbers, data or settings.
_OWN_ERRORS = (FloatingPointError, ValueError)


@dataclasses.dataclass(frozen=True)
class JointResult:
  """How several runs ended, by their names.

  Attributes:
    finished: Those that ended as a run does.
    failed: Those that broke off, and by which error.
  """

  finished: Mapping[str, FitResult]
  failed: Mapping[str, Exception]


def fit_jointly(
  runs: Mapping[str, Run],
  frozen: Params,
  *,
  make_step: Callable[[Sequence[str]], JointTrainStep],
  mesh: Mesh,
  steps_per_dispatch: int = 1,
) -> JointResult:
  """Trains all runs until each has ended; see `loop.fit`.

  A run that has ended stays in the compiled step until half of the runs have:
  then the step is compiled for those that are left. So there are few
  compilations, and at most twice the work that is needed.

  Args:
    runs: By name; their meters stand still while any of them evaluates.
    frozen: The parameters that are not trained, on the devices.
    make_step: Returns the step of some of the runs, not compiled.
    mesh: Where batches are laid out.
    steps_per_dispatch: As of `loop.fit`; as many follow in all runs.

  Raises:
    CheckpointError: If a checkpoint cannot be written; all runs end then.
    ValueError: If there is no run, or `steps_per_dispatch` is below 1.
  """
  if not runs:
    raise ValueError("There is no run to train.")
  check_steps_per_dispatch(steps_per_dispatch)
  progress = progress_lib.OfSeveral(
    progress_lib.default_progress(
      start=min(run.step for run in runs.values()),
      total=max(run.plan.total_steps for run in runs.values()),
    )
  )
  with watch_signals() as interrupt, contextlib.ExitStack() as stack:
    for name, run in runs.items():
      run.pause = lambda: _paused(runs.values())
      run.progress = progress.of(name)
      run.begin()
      stack.callback(run.close)
    return _JointLoop(
      runs=dict(runs),
      frozen=frozen,
      make_step=make_step,
      mesh=mesh,
      steps_per_dispatch=steps_per_dispatch,
      interrupt=interrupt,
    ).train()


@contextlib.contextmanager
def _paused(runs: Any) -> Iterator[None]:
  with contextlib.ExitStack() as stack:
    for run in runs:
      stack.enter_context(run.meter.paused())
    yield


@dataclasses.dataclass
class _Lanes:
  """The runs that a compiled step takes, whether they have ended or not.

  Attributes:
    names: Of the runs.
    states: Their states, in the same order.
    steps: The compiled step.
    rngs: The key of each run, [N].
  """

  names: list[str]
  states: tuple[Any, ...]
  steps: Steps
  rngs: jax.Array


@dataclasses.dataclass(kw_only=True)
class _JointLoop:
  """One call of `fit_jointly`; `runs` holds those that still train."""

  runs: dict[str, Run]
  frozen: Params
  make_step: Callable[[Sequence[str]], JointTrainStep]
  mesh: Mesh
  steps_per_dispatch: int
  interrupt: Interrupt

  def __post_init__(self):
    self._finished: dict[str, FitResult] = {}
    self._failed: dict[str, Exception] = {}

  def train(self) -> JointResult:
    """Trains to the end of every run."""
    dispatches = 0
    self._between_updates(dispatches)
    lanes = self._compile() if self.runs else None
    while self.runs:
      assert lanes is not None  # There are runs to take.
      if len(self.runs) <= len(lanes.names) // 2:
        lanes = self._compile()
      self._update(lanes)
      dispatches += 1
      self._between_updates(dispatches)
    return JointResult(self._finished, self._failed)

  def _between_updates(self, dispatches: int) -> None:
    interrupted = self.interrupt.requested(dispatches)
    self._look_after(interrupted=interrupted)
    if not interrupted and self.interrupt.signal_name is not None:
      # It came meanwhile: those that were looked after before end here, too.
      self._look_after(interrupted=True)

  def _look_after(self, *, interrupted: bool) -> None:
    for name, run in list(self.runs.items()):
      # Nobody waits for the evaluations of the runs to come.
      interrupted = interrupted or self.interrupt.signal_name is not None
      with self._own_errors(name):
        reason = run.between_updates(interrupted=interrupted)
        if reason is not None:
          # The state itself is given away with the next step.
          run.state = jax.tree.map(jnp.copy, run.state)
          self._finished[name] = run.result(reason)
          logging.info("%s: %s at step %d.", name, reason.value, run.step)
          self._leave(name)

  def _compile(self) -> _Lanes:
    """Returns lanes for the runs that are left."""
    names = list(self.runs)
    logging.info("compiling the training step of %d runs", len(names))
    states = tuple(run.state for run in self.runs.values())
    return _Lanes(
      names=names,
      states=states,
      steps=Steps(self.make_step(names), states, mesh=self.mesh, axis=1),
      rngs=mesh_lib.replicate_key(
        jnp.stack([run.rng for run in self.runs.values()]), self.mesh
      ),
    )

  def _update(self, lanes: _Lanes) -> None:
    """Starts the next steps of all runs; reads the metrics of those before."""
    count = self._read()
    read = {name: run.take(count) for name, run in self.runs.items()}
    if not read:
      return
    # What has ended goes on with what another has: nobody looks at it.
    spare = next(iter(read.values()))
    together = [
      stack_padded([read.get(name, spare)[step] for name in lanes.names])
      for step in range(count)
    ]
    lanes.states, metrics = lanes.steps(
      lanes.states, self.frozen, together, lanes.rngs
    )
    for lane, name in enumerate(lanes.names):
      if name in self.runs:
        with self._own_errors(name):
          self.runs[name].started(
            lanes.states[lane], read[name], metrics, lane=lane
          )

  def _read(self) -> int:
    """Reads the next batches of each run; returns how many steps may follow."""
    to_go = min(run.steps_to_go() for run in self.runs.values())
    count = self.steps_per_dispatch if to_go >= self.steps_per_dispatch else 1
    waiting = []
    for name, run in list(self.runs.items()):
      with self._own_errors(name):
        waiting.append(run.read(count))
    return count if min(waiting, default=1) == count else 1

  @contextlib.contextmanager
  def _own_errors(self, name: str) -> Iterator[None]:
    """Lets an error of one run end that run alone."""
    try:
      yield
    except CheckpointError:
      raise
    except _OWN_ERRORS as error:
      # Of several processes all must go on with the same runs. They have the
      # same numbers, but each reads its own examples.
      if jax.process_count() > 1 and not isinstance(error, NonFiniteError):
        raise
      logging.error("%s broke off; the other runs go on. %s", name, error)
      self._failed[name] = error
      self._leave(name)

  def _leave(self, name: str) -> None:
    self.runs.pop(name).close()
