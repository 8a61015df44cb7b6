"""Tests of the training loop, on a model that compiles at once.

The "model" has one parameter, a prompt [2, 3] that follows the mean of the
batches; what a real T5 adds is in tests/integration.
"""

import dataclasses
import itertools
import json
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from prompt_tuning.train import mesh as mesh_lib
from prompt_tuning.train import writers
from prompt_tuning.train.checkpoint import Checkpoints
from prompt_tuning.train.checkpoint_files import CheckpointError, all_steps
from prompt_tuning.train.health import NonFiniteError
from prompt_tuning.train.loop import fit
from prompt_tuning.train.plan import Plan
from prompt_tuning.train.run import Run, StopReason
from prompt_tuning.train.run_identity import RunIdentity
from prompt_tuning.train.selection import Best, Selection
from prompt_tuning.train.start import Start, resume
from prompt_tuning.train.step import TrainState
from prompt_tuning.train.throughput import Meter, Peak

MESH = mesh_lib.make_mesh(devices=jax.devices()[:1])
RUN = RunIdentity(backbone="abc", trainable=(".*",), seed=0, config={})
METRIC = "toy/distance"


def _train_step(state, frozen, batch, rng):
  noise = jax.random.normal(jax.random.fold_in(rng, state.step), (2, 3))
  target = batch["values"].mean() * frozen["scale"] + 0.01 * noise
  prompt = state.trainable["prompt"]["embedding"]
  update = 0.25 * (target - prompt)
  loss = jnp.mean(jnp.square(update))
  metrics = {"loss": loss, "update_norm": jnp.linalg.norm(update)}
  new = {"prompt": {"embedding": prompt + update}}
  return TrainState(state.step + 1, new, state.opt_state + loss), metrics


class Batches:
  """Random batches; `hooks` are called before the batch of their number."""

  def __init__(self, *, end=None, hooks=None):
    self.position = 0
    self._end = end
    self._hooks = hooks or {}

  def __iter__(self):
    return self

  def __next__(self):
    if self.position == self._end:
      raise StopIteration
    self._hooks.get(self.position, lambda: None)()
    rng = np.random.default_rng(self.position)
    self.position += 1
    return {
      "values": rng.normal(size=(4, 5)).astype(np.float32),
      "encoder_input_tokens": rng.integers(1, 9, (4, 5)).astype(np.int32),
      "decoder_target_tokens": rng.integers(1, 9, (4, 2)).astype(np.int32),
      "decoder_loss_weights": np.ones((4, 2), np.float32),
    }

  def state(self):
    return {"position": self.position}

  def restore(self, state):
    self.position = state["position"]


def _fresh():
  state = TrainState(
    jnp.int32(0), {"prompt": {"embedding": jnp.ones((2, 3))}}, jnp.float32(0)
  )
  return jax.device_put(state, mesh_lib.replicated(MESH))


def _fit(state, **kwargs):
  """Runs `fit` without evaluation or files of metrics."""
  arguments = {
    "start": Start(state=state),
    "batches": Batches(),
    "rng": jax.random.key(0),
    "mesh": MESH,
    "writer": writers.CompositeWriter([]),
  }
  train_step = kwargs.pop("train_step", _train_step)
  return fit(Run(**(arguments | kwargs)), _frozen(), train_step=train_step)


def _frozen():
  return jax.device_put({"scale": jnp.float32(2)}, mesh_lib.replicated(MESH))


def _distance(trainable, step):
  del step
  return {METRIC: jnp.abs(trainable["prompt"]["embedding"]).mean()}


@dataclasses.dataclass
class Job:
  """A run in a folder; every call of it starts or resumes it."""

  model_dir: object
  steps: int = 10
  keep: int = 3
  log_every: int = 2
  eval_every: int = 4
  save_every: int = 3

  def __call__(
    self,
    *,
    batches=None,
    train_step=_train_step,
    steps_per_dispatch=1,
    **kwargs,
  ):
    batches = batches or Batches()
    checkpoints = Checkpoints(self.model_dir, run=RUN, keep=self.keep)
    if checkpoints.latest_step() is None:
      start = Start(state=_fresh())
    else:
      start = resume(checkpoints, _fresh(), batches)
    plan = Plan(
      total_steps=self.steps,
      log_every=self.log_every,
      eval_every=self.eval_every,
      save_every=self.save_every,
    )
    arguments = {
      "plan": plan,
      "evaluate": _distance,
      "selection": Selection(METRIC, mode="min"),
      "writer": writers.JsonlWriter(self.model_dir / "metrics.jsonl"),
    }
    run = Run(
      start=start,
      batches=batches,
      rng=jax.random.key(0),
      mesh=MESH,
      model_dir=self.model_dir,
      checkpoints=checkpoints,
      **(arguments | kwargs),
    )
    return fit(
      run,
      _frozen(),
      train_step=train_step,
      steps_per_dispatch=steps_per_dispatch,
    )

  def lines(self):
    """All metrics but those that measure time."""
    text = (self.model_dir / "metrics.jsonl").read_text()
    return [
      {k: v for k, v in json.loads(line).items() if "timing/" not in k}
      for line in text.splitlines()
    ]


@pytest.fixture
def job(tmp_path):
  return Job(tmp_path)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
  job = Job(tmp_path_factory.mktemp("uninterrupted"))
  return job, job()


def _assert_same_run(job, result, uninterrupted):
  reference, expected = uninterrupted
  same = jax.tree.map(
    lambda a, b: np.asarray(a).tobytes() == np.asarray(b).tobytes(),
    result.state,
    expected.state,
  )
  assert all(jax.tree.leaves(same))
  assert result.best == expected.best
  assert job.lines() == reference.lines()


# What happens when.


def test_metrics_are_written_when_due(uninterrupted):
  job, result = uninterrupted
  assert [(line["scope"], line["step"]) for line in job.lines()] == [
    ("training_eval/toy", 0),
    ("train", 2),
    ("train", 4),
    ("training_eval/toy", 4),
    ("train", 6),
    ("train", 8),
    ("training_eval/toy", 8),
    ("train", 10),
    ("training_eval/toy", 10),
  ]
  assert (result.reason, result.step) == (StopReason.FINISHED, 10)
  assert result.metrics[METRIC] == job.lines()[-1]["distance"]


def test_metrics_are_averages_since_the_last_line(tmp_path):
  every, second = Job(tmp_path / "1", log_every=1), Job(tmp_path / "2")
  for job in (every, second):
    job()
  losses = [x["loss"] for x in every.lines() if x["scope"] == "train"]
  means = [x["loss"] for x in second.lines() if x["scope"] == "train"]
  pairs = zip(losses[::2], losses[1::2], strict=True)
  assert means == [(a + b) / 2 for a, b in pairs]


def test_the_metrics_are_those_of_plain_steps(tmp_path):
  job = Job(tmp_path, log_every=1, steps=3)
  result = job()
  state, losses = _fresh(), []
  for batch in itertools.islice(Batches(), 3):
    scale = {"scale": jnp.float32(2)}
    state, metrics = jax.jit(_train_step)(
      state, scale, batch, jax.random.key(0)
    )
    losses.append(float(metrics["loss"]))
  written = [line["loss"] for line in job.lines() if line["scope"] == "train"]
  assert written == pytest.approx(losses, rel=1e-6)
  np.testing.assert_allclose(
    result.state.trainable["prompt"]["embedding"],
    state.trainable["prompt"]["embedding"],
    rtol=1e-6,
  )


def test_rates_and_utilization_are_written(job):
  peak = Peak(flops_per_second=1e9, num_devices=1)
  job(meter=Meter(step_flops=1e3, peak=peak))
  text = (job.model_dir / "metrics.jsonl").read_text()
  last = [json.loads(x) for x in text.splitlines() if '"train"' in x][-1]
  rate = last["timing/steps_per_second"]
  assert rate > 0
  assert last["timing/examples_per_second"] == pytest.approx(4 * rate)
  assert last["timing/tokens_per_second"] == pytest.approx(28 * rate)
  utilization = last["timing/model_flops_utilization"]
  assert utilization == pytest.approx(rate * 1e3 / 1e9)


def test_checkpoints_are_periodic_best_and_last(job):
  job.keep = 100
  job()
  # 0 is the first evaluation; 3, 6 and 9 are periodic; 10 is the end.
  assert {0, 3, 6, 9, 10} <= set(all_steps(job.model_dir))


def test_the_best_is_kept_beside_the_latest(job):
  values = dict(zip([0, 4, 8, 10], [5.0, 1.0, 7.0, 6.0], strict=True))
  job.keep = 1
  result = job(evaluate=lambda trainable, step: {METRIC: values[step]})
  assert result.best == Best(step=4, value=1.0, misses=2)
  assert all_steps(job.model_dir) == [4, 10]


def test_every_save_is_exported_and_the_best_marked(job):
  values = dict(zip([0, 4, 8, 10], [5.0, 1.0, 7.0, 6.0], strict=True))
  calls = []

  def export(trainable, *, step, metrics, is_best):
    assert trainable["prompt"]["embedding"].shape == (2, 3)
    calls.append((step, metrics.get(METRIC), is_best))

  job(evaluate=lambda trainable, step: {METRIC: values[step]}, export=export)
  assert calls == [
    (0, 5.0, True),
    (3, None, False),
    (4, 1.0, True),
    (6, None, False),
    (9, None, False),
    (10, 6.0, False),
  ]


def test_saving_comes_before_reading_more_data(job):
  batches = Batches()
  seen = []

  class Recording(Checkpoints):
    def save(self, state, *, step, data, **kwargs):
      seen.append((step, data["position"], batches.position))

  checkpoints = Recording(job.model_dir, run=RUN)
  _fit(
    _fresh(),
    batches=batches,
    plan=Plan(total_steps=7, save_every=3),
    model_dir=job.model_dir,
    checkpoints=checkpoints,
  )
  assert seen == [(3, 3, 3), (6, 6, 6), (7, 7, 7)]


def test_without_evaluation_nothing_is_selected(job):
  result = job(evaluate=None, selection=None)
  assert result.best is None
  assert result.metrics == {}
  assert {line["scope"] for line in job.lines()} == {"train"}


def test_selection_without_evaluation_is_an_error(job):
  with pytest.raises(ValueError, match=f"'{METRIC}', but nothing is evaluated"):
    job(evaluate=None)


def test_patience_ends_the_run(job):
  values = dict(zip([0, 4, 8], [1.0, 2.0, 3.0], strict=True))
  arguments = {
    "evaluate": lambda trainable, step: {METRIC: values[step]},
    "selection": Selection(METRIC, mode="min", patience=2),
  }
  result = job(**arguments)
  assert (result.reason, result.step) == (StopReason.EARLY_STOPPED, 8)
  # It stays stopped: the evaluations are in the checkpoint.
  result = job(**arguments)
  assert (result.reason, result.step) == (StopReason.EARLY_STOPPED, 8)


# Interruption and resumption.


class TestFinalEvaluation:
  def run(self, job, **kwargs):
    """Runs a job whose best step is the fourth."""
    values = {0: 5.0, 4: 1.0, 8: 7.0, 10: 6.0}
    seen = []

    def evaluate_finally(trainable, step):
      seen.append((step, np.asarray(trainable["prompt"]["embedding"])))
      return {"held_out/distance": np.abs(seen[-1][1]).mean()}

    result = job(
      **{"evaluate": lambda trainable, step: {METRIC: values[step]}}
      | {"evaluate_finally": evaluate_finally}
      | kwargs
    )
    return result, seen

  def test_it_is_of_what_was_selected_and_once(self, job, tmp_path):
    result, ((step, prompt),) = self.run(job)
    short = Job(tmp_path / "short", steps=4)()
    np.testing.assert_array_equal(
      prompt, short.state.trainable["prompt"]["embedding"]
    )
    assert step == 4
    assert result.final == {"held_out/distance": np.abs(prompt).mean()}
    assert job.lines()[-1] == {
      "scope": "final_eval/held_out",
      "step": 4,
      "distance": result.final["held_out/distance"],
    }

  def test_without_a_selection_it_is_of_the_last_step(self, job):
    result, ((step, prompt),) = self.run(job, evaluate=None, selection=None)
    assert step == 10
    np.testing.assert_array_equal(
      prompt, result.state.trainable["prompt"]["embedding"]
    )

  def test_an_interrupted_run_has_none_until_it_has_ended(self, job):
    hooks = {5: lambda: os.kill(os.getpid(), signal.SIGTERM)}
    result, seen = self.run(job, batches=Batches(hooks=hooks))
    assert (result.reason, result.final) == (StopReason.INTERRUPTED, {})
    assert seen == []
    _, seen = self.run(job)
    assert [step for step, _ in seen] == [4]


@pytest.mark.parametrize("at", range(10))
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_the_run_goes_on_as_if_nothing_happened(
  job, uninterrupted, number, at
):
  hooks = {at: lambda: os.kill(os.getpid(), number)}
  result = job(batches=Batches(hooks=hooks))
  # The step that was begun is finished.
  assert result.step == at + 1
  if at + 1 < job.steps:
    assert result.reason is StopReason.INTERRUPTED
  assert max(all_steps(job.model_dir)) == at + 1
  result = job()
  assert (result.reason, result.step) == (StopReason.FINISHED, 10)
  _assert_same_run(job, result, uninterrupted)


@pytest.mark.parametrize("at", range(10))
def test_a_crash_loses_only_what_was_not_saved(job, uninterrupted, at):
  def crash():
    raise RuntimeError("power cut")

  with pytest.raises(RuntimeError, match="power cut"):
    job(batches=Batches(hooks={at: crash}))
  _assert_same_run(job, job(), uninterrupted)


def test_a_run_may_be_prolonged(job, uninterrupted):
  job.steps = 8
  job()
  job.steps = 10
  _assert_same_run(job, job(), uninterrupted)


def test_a_finished_run_does_nothing(job, uninterrupted):
  job()
  before = sorted(p.stat().st_mtime_ns for p in job.model_dir.rglob("*/*"))

  def refuse(*args, **kwargs):
    raise AssertionError("called")

  result = job(evaluate=refuse, export=refuse)
  assert result.reason is StopReason.FINISHED
  _assert_same_run(job, result, uninterrupted)
  after = sorted(p.stat().st_mtime_ns for p in job.model_dir.rglob("*/*"))
  assert after == before


def test_metrics_of_an_unsaved_run_do_not_stay(job, uninterrupted):
  (job.model_dir / "metrics.jsonl").write_text(
    '{"scope": "training_eval/toy", "step": 0, "distance": 99}\n'
  )
  _assert_same_run(job, job(), uninterrupted)


# Failures.


def test_the_end_of_the_data_saves_and_is_an_error(job, uninterrupted):
  with pytest.raises(ValueError, match="ended after step 7 of 10"):
    job(batches=Batches(end=7))
  assert max(all_steps(job.model_dir)) == 7
  _assert_same_run(job, job(), uninterrupted)


def _broken_at(step, **values):
  def train_step(state, frozen, batch, rng):
    new, metrics = _train_step(state, frozen, batch, rng)
    is_step = state.step + 1 == step
    for name, value in values.items():
      metrics[name] = jnp.where(is_step, value, metrics[name])
    return new, metrics

  return train_step


@pytest.mark.parametrize("at", [1, 2, 3, 6, 10])
def test_a_step_that_is_not_finite_stops_with_its_own_batch(job, at):
  with pytest.raises(NonFiniteError, match=f"Step {at} is not finite: loss n"):
    job(train_step=_broken_at(at, loss=jnp.nan))
  with np.load(job.model_dir / f"non_finite_batch_{at}.npz") as saved:
    expected = next(itertools.islice(Batches(), at - 1, None))
    np.testing.assert_array_equal(saved["values"], expected["values"])
  # Nothing of the broken step, or after it, is saved.
  assert all(step < at for step in all_steps(job.model_dir))


def test_a_run_that_does_not_move_stops(job):
  def train_step(state, frozen, batch, rng):
    _, metrics = _train_step(state, frozen, batch, rng)
    state = dataclasses.replace(state, step=state.step + 1)
    return state, metrics | {"update_norm": jnp.float32(0)}

  with pytest.raises(ValueError, match=r"Nothing moves.*until step 3"):
    job(train_step=train_step)


def test_a_batch_that_does_not_divide_over_the_mesh_is_told(job, monkeypatch):
  abstract = jax.sharding.AbstractMesh((8, 1), ("data", "model"))
  check = mesh_lib.shard_batch
  monkeypatch.setattr(
    mesh_lib, "shard_batch", lambda batch, mesh, axis: check(batch, abstract)
  )
  with pytest.raises(ValueError, match=r"4 examples.*8 devices"):
    job()


def test_a_checkpoint_that_cannot_be_written_stops_the_run(job, monkeypatch):
  def fail(self, state, *, step, **kwargs):
    if step == 6:
      raise CheckpointError("full")
    return save(self, state, step=step, **kwargs)

  save = Checkpoints.save
  with monkeypatch.context() as patch:
    patch.setattr(Checkpoints, "save", fail)
    with pytest.raises(CheckpointError, match="full"):
      job()
  assert max(all_steps(job.model_dir)) < 6
  assert job().reason is StopReason.FINISHED


# The hot path.


def test_the_metrics_of_a_step_are_read_while_the_next_one_runs(job):
  order = []

  class Meters(Meter):
    def count(self, **kwargs):
      order.append("read")
      super().count(**kwargs)

  def traced(state, frozen, batch, rng):
    jax.debug.callback(lambda: None)
    return _train_step(state, frozen, batch, rng)

  hooks = {n: lambda n=n: order.append(n) for n in range(6)}
  job.steps, job.save_every, job.eval_every = 6, 100, 100
  job(batches=Batches(hooks=hooks), meter=Meters(), train_step=traced)
  # The first reading only starts the clock. Batch 2 is fetched, and its step
  # begun, before the metrics of batch 1 are read.
  assert order == [0, 1, 2, "read", 3, "read", 4, "read", 5, "read", "read"]


def test_the_state_is_donated(job):
  start = _fresh()
  _fit(
    start,
    plan=Plan(total_steps=1),
    model_dir=job.model_dir,
    checkpoints=Checkpoints(job.model_dir, run=RUN),
  )
  assert start.trainable["prompt"]["embedding"].is_deleted()


@pytest.mark.parametrize("steps_per_dispatch", [2, 3, 100])
def test_several_steps_a_dispatch_are_the_same_run(
  job, uninterrupted, steps_per_dispatch
):
  result = job(steps_per_dispatch=steps_per_dispatch)
  _assert_same_run(job, result, uninterrupted)


def test_a_bad_step_is_named_within_its_dispatch(job):
  def spoilt(state, frozen, batch, rng):
    state, metrics = _train_step(state, frozen, batch, rng)
    loss = jnp.where(state.step == 2, jnp.nan, metrics["loss"])
    return state, metrics | {"loss": loss}

  with pytest.raises(NonFiniteError, match="Step 2 is not finite"):
    job(train_step=spoilt, steps_per_dispatch=3)


def test_no_step_a_dispatch_is_refused(job):
  with pytest.raises(ValueError, match="STEPS_PER_DISPATCH must be at least 1"):
    job(steps_per_dispatch=0)


@pytest.mark.parametrize("steps_per_dispatch", [1, 2, 3])
def test_data_that_ends_within_a_dispatch_loses_no_batch(
  job, steps_per_dispatch
):
  with pytest.raises(ValueError, match="data ended after step 5 of 10"):
    dataclasses.replace(job, eval_every=100, save_every=100)(
      batches=Batches(end=5), steps_per_dispatch=steps_per_dispatch
    )
  batches = Batches(end=5)
  start = resume(Checkpoints(job.model_dir, run=RUN), _fresh(), batches)
  assert (start.step, batches.position) == (5, 5)
