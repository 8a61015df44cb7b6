"""Tests of several runs in one loop, on a model that compiles at once.

The "model" of a run is one number a parameter that follows the mean of its
batches; that real runs are as if alone is in tests/integration.
"""

import dataclasses
import json
import os
import signal

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from prompt_tuning.train import mesh as mesh_lib
from prompt_tuning.train import writers
from prompt_tuning.train.checkpoint import Checkpoints
from prompt_tuning.train.checkpoint_files import CheckpointError, all_steps
from prompt_tuning.train.joint_loop import fit_jointly
from prompt_tuning.train.loop import fit
from prompt_tuning.train.plan import Plan
from prompt_tuning.train.run import Run, StopReason
from prompt_tuning.train.run_identity import RunIdentity
from prompt_tuning.train.selection import Selection
from prompt_tuning.train.start import Start, resume
from prompt_tuning.train.step import TrainState, stack

MESH = mesh_lib.make_mesh(devices=jax.devices()[:1])
FROZEN = {"scale": jnp.float32(2)}
METRIC = "toy/distance"


def _train_step(state, frozen, batch, rng):
  noise = jax.random.normal(jax.random.fold_in(rng, state.step), (3,))
  mean = jnp.mean(batch["values"])
  prompt = state.trainable["prompt"]["embedding"]
  update = 0.25 * (mean * frozen["scale"] + 0.01 * noise - prompt)
  loss = jnp.mean(jnp.square(update))
  new = {"prompt": {"embedding": prompt + update}}
  metrics = {"loss": loss, "update_norm": jnp.linalg.norm(update)}
  return TrainState(state.step + 1, new, state.opt_state + loss), metrics


def _joint_step(states, frozen, batches, rngs):
  taken = [
    _train_step(
      state, frozen, jax.tree.map(lambda x, n=n: x[n], batches), rngs[n]
    )
    for n, state in enumerate(states)
  ]
  states, metrics = zip(*taken, strict=True)
  return states, stack(metrics)


class Batches:
  """Random batches of one run, until an end."""

  def __init__(self, seed, *, end=None, spoilt=None, length=5):
    self.position = 0
    self._seed, self._end, self._spoilt = seed, end, spoilt
    self._length = length

  def __iter__(self):
    return self

  def __next__(self):
    if self.position == self._end:
      raise StopIteration
    rng = np.random.default_rng([self._seed, self.position])
    values = rng.normal(size=(4, 5)).astype(np.float32)
    if self.position == self._spoilt:
      values[0, 0] = np.nan
    self.position += 1
    tokens = rng.integers(1, 9, (4, self._length)).astype(np.int32)
    return {
      "values": values,
      "encoder_input_tokens": tokens,
      "decoder_target_tokens": tokens,
      "decoder_loss_weights": np.ones((4, self._length), np.float32),
    }

  def state(self):
    return {"position": self.position}

  def restore(self, state):
    self.position = state["position"]


@dataclasses.dataclass
class Job:
  """Runs in folders; each can be taken alone, or all together."""

  folder: object
  steps: tuple[int, ...] = (9, 6, 9)
  batches: dict[int, dict] = dataclasses.field(default_factory=dict)
  patience: dict[int, int] = dataclasses.field(default_factory=dict)

  def run(self, number):
    model_dir = self.folder / f"run_{number}"
    batches = Batches(number, **self.batches.get(number, {}))
    identity = RunIdentity(
      backbone="abc", trainable=(".*",), seed=number, config={}
    )
    checkpoints = Checkpoints(model_dir, run=identity, keep=2)
    state = jax.device_put(
      TrainState(
        jnp.int32(0),
        {"prompt": {"embedding": jnp.full(3, 1.0 + number)}},
        jnp.float32(0),
      ),
      mesh_lib.replicated(MESH),
    )
    start = Start(state=state)
    if checkpoints.latest_step() is not None:
      start = resume(checkpoints, state, batches)
    return Run(
      start=start,
      batches=batches,
      rng=jax.random.key(number),
      mesh=MESH,
      plan=Plan(
        total_steps=self.steps[number],
        log_every=2,
        eval_every=2,
        save_every=3,
      ),
      model_dir=model_dir,
      checkpoints=checkpoints,
      writer=writers.JsonlWriter(model_dir / "metrics.jsonl"),
      evaluate=_distance,
      selection=Selection(
        # The distance falls: what wants it to rise runs out of patience.
        METRIC,
        mode="max" if number in self.patience else "min",
        patience=self.patience.get(number),
      ),
    )

  def alone(self, number):
    return fit(self.run(number), FROZEN, train_step=_train_step)

  def together(self, **options):
    widths = []

    def make_step(names):
      widths.append(len(names))
      return _joint_step

    runs = {f"run {n}": self.run(n) for n in range(len(self.steps))}
    result = fit_jointly(
      runs, FROZEN, make_step=make_step, mesh=MESH, **options
    )
    return result, widths

  def lines(self, number):
    text = (self.folder / f"run_{number}" / "metrics.jsonl").read_text()
    return [
      {k: v for k, v in json.loads(line).items() if "timing/" not in k}
      for line in text.splitlines()
    ]

  def checkpoints(self, number):
    return all_steps(self.folder / f"run_{number}")


def _distance(trainable, step):
  del step
  return {METRIC: jnp.abs(trainable["prompt"]["embedding"]).mean()}


def _assert_same(job, result, other, *, runs=(0, 1, 2)):
  """Every run has done what it does alone, in the folder of `other`."""
  for number in runs:
    alone = other.alone(number)
    ended = result.finished[f"run {number}"]
    for a, b in zip(
      jax.tree.leaves(ended.state), jax.tree.leaves(alone.state), strict=True
    ):
      np.testing.assert_allclose(a, b, rtol=1e-6)
    assert (ended.step, ended.reason) == (alone.step, alone.reason)
    assert job.checkpoints(number) == other.checkpoints(number)
    assert ended.best.step == alone.best.step
    assert _numbers(job.lines(number)) == pytest.approx(
      _numbers(other.lines(number)), rel=1e-5
    )


def _numbers(lines):
  return {
    (line["scope"], line["step"], name): value
    for line in lines
    for name, value in line.items()
    if name not in ("scope", "step")
  }


@pytest.fixture
def folders(tmp_path):
  return tmp_path / "together", tmp_path / "alone"


@pytest.mark.parametrize("steps_per_dispatch", [1, 2])
def test_every_run_is_as_if_alone(folders, steps_per_dispatch):
  # One run ends early by its plan; lengths differ and are padded.
  settings = {"batches": {1: {"length": 8}}}
  job, other = (Job(folder, **settings) for folder in folders)
  result, _ = job.together(steps_per_dispatch=steps_per_dispatch)
  assert not result.failed
  _assert_same(job, result, other)


def test_a_run_stops_early_without_the_others(folders):
  job, other = (Job(folder, patience={2: 1}) for folder in folders)
  result, _ = job.together()
  _assert_same(job, result, other)
  assert result.finished["run 2"].reason is StopReason.EARLY_STOPPED
  assert result.finished["run 0"].reason is StopReason.FINISHED


@pytest.mark.parametrize(
  ("broken", "message"),
  [
    ({"spoilt": 3}, "Step 4 is not finite"),
    ({"end": 4}, "data ended after step 4"),
  ],
)
def test_a_run_that_breaks_off_leaves_the_others_alone(
  folders, broken, message
):
  job, other = (Job(folder, batches={1: broken}) for folder in folders)
  result, _ = job.together()
  assert message in str(result.failed["run 1"])
  _assert_same(job, result, other, runs=(0, 2))
  assert 3 in job.checkpoints(1)


@pytest.mark.parametrize("end", [0, 2])
def test_data_that_ends_as_a_step_is_compiled(folders, end):
  # Of four runs two end at step 2, whereupon the step is compiled anew.
  settings = {"steps": (2, 9, 9, 2), "batches": {1: {"end": end}}}
  job, other = (Job(folder, **settings) for folder in folders)
  result, _ = job.together()
  assert f"data ended after step {end}" in str(result.failed["run 1"])
  _assert_same(job, result, other, runs=(0, 2, 3))


def test_a_signal_during_an_evaluation_waits_for_no_other(
  tmp_path, monkeypatch
):
  evaluated = []

  def evaluate(trainable, step):
    del trainable
    evaluated.append(step)
    if step == 2:
      os.kill(os.getpid(), signal.SIGTERM)
    return {METRIC: 0.0}

  monkeypatch.setitem(globals(), "_distance", evaluate)
  result, _ = Job(tmp_path).together()
  assert evaluated == [0, 0, 0, 2]
  ended = {(each.step, each.reason) for each in result.finished.values()}
  assert ended == {(2, StopReason.INTERRUPTED)}


def test_what_has_ended_is_left_out_once_half_has(tmp_path):
  _, widths = Job(tmp_path, steps=(1, 2, 3, 9, 9)).together()
  assert widths == [5, 2]


def test_a_job_goes_on_where_it_stopped_and_so_does_a_run_alone(folders):
  first, other = (Job(folder) for folder in folders)
  Job(first.folder, steps=(4, 4, 4)).together()
  result, _ = first.together()
  _assert_same(first, result, other)
  # The run's folder is that of the run alone.
  longer = dataclasses.replace(first, steps=(12, 6, 9))
  assert longer.alone(0).step == 12


def test_a_job_that_is_done_trains_nothing(tmp_path):
  job = Job(tmp_path)
  job.together()
  result, widths = job.together()
  assert not widths
  assert {each.step for each in result.finished.values()} == {9, 6}


def test_a_checkpoint_that_cannot_be_written_ends_the_job(
  tmp_path, monkeypatch
):
  def fail(self, *args, **kwargs):
    raise CheckpointError("full")

  monkeypatch.setattr(Checkpoints, "save", fail)
  with pytest.raises(CheckpointError, match="full"):
    Job(tmp_path).together()


def test_no_run_is_refused():
  with pytest.raises(ValueError, match="There is no run"):
    fit_jointly({}, FROZEN, make_step=lambda names: _joint_step, mesh=MESH)
