"""Several processes on one machine are one run: the numbers, the files, an end.

This file is also the program that the processes run.
"""

import functools
import json
import pathlib
import re
import signal
import time

import jax
import numpy as np
import pytest
from absl import flags

from prompt_tuning.backbone import Backbone
from prompt_tuning.checkpoints import t5x
from prompt_tuning.data.file_task import file_task
from prompt_tuning.data.inputs import FileInputs, TaskInputs
from prompt_tuning.data.vocabularies import ByteVocabulary
from prompt_tuning.evaluate.predictors import RankClassification
from prompt_tuning.evaluate.tasks import TaskEvaluation
from prompt_tuning.prompts import initializers
from prompt_tuning.prompts.spec import PromptSpec
from prompt_tuning.runs import distributed, evaluate, infer, train
from prompt_tuning.runs import main as main_lib
from prompt_tuning.testing import fakes, processes
from prompt_tuning.testing.toy_run import ToyRun
from prompt_tuning.train import checkpoint_files as files
from prompt_tuning.train import mesh as mesh_lib
from prompt_tuning.train import optimizers, plan, selection
from prompt_tuning.train.held_out import HeldOutLoss

pytestmark = pytest.mark.multidevice
FLAGS = flags.FLAGS
LABELS = ("no", "yes")
LENGTHS = {"inputs": 12, "targets": 4}
TASK = "distributed_toy"
# Sums over devices are taken in another order.
CLOSE = {"rtol": 1e-4, "atol": 1e-5}
_PATIENCE_SECONDS = 400


# What the processes run.


class Share(fakes.ToyBatches):
  """The rows of each toy batch that this process reads."""

  def __init__(self, mesh):
    super().__init__()
    self._rows = mesh_lib.local_rows(self.batch_size, mesh)

  def __next__(self):
    time.sleep(FLAGS.pause)
    if FLAGS.fail == jax.process_index() and self.position == 3:
      raise OSError("the disk of process 1 is gone")
    return {name: x[self._rows] for name, x in super().__next__().items()}


def _toy(folder):
  """Tunes a prompt on plain arrays, which takes no TensorFlow."""
  mesh = mesh_lib.make_mesh(-1, FLAGS.model)
  run = ToyRun(model_dir=folder, steps=FLAGS.steps, keep=99)
  result = run.run(mesh=mesh, batches=Share(mesh))
  print(f"{result.reason.value} at step {result.step}")


def _differing(folder):
  """A learning rate of its own in every process."""
  rate = 0.1 * (1 + jax.process_index())
  ToyRun(model_dir=folder, learning_rate=rate).run(mesh=mesh_lib.make_mesh())


def _backbone(folder):
  return Backbone(
    config=fakes.tiny_config(
      vocab_size=384, num_encoder_layers=1, num_decoder_layers=1
    ),
    vocabulary=ByteVocabulary(extra_ids=125),
    checkpoint=str(folder),
  )


def _everything(folder):
  """Tunes a prompt, and a model; evaluates, and scores with, the prompt."""
  data = folder.parent / "data"
  backbone = _backbone(data / "checkpoint_7")
  task = file_task(
    name=TASK,
    files={s: str(data / f"{s}.jsonl") for s in ("train", "validation")},
    inputs="{text}",
    targets="label",
    vocabulary=backbone.vocabulary,
    verbalizers=LABELS,
  )
  hardware = train.Hardware(model=FLAGS.model)
  rank = RankClassification(labels=LABELS)
  inputs = TaskInputs(task=task, labels=LABELS)
  shared = {
    "backbone": backbone,
    "feature_lengths": LENGTHS,
    "evaluations": [
      # Not a multiple of four devices, and not a divisor of the examples.
      TaskEvaluation(task=task, predictor=rank, batch_size=6, labels=LABELS),
      HeldOutLoss(inputs=inputs, batch_size=6, num_batches=2),
    ],
    "hardware": hardware,
  }
  tune = functools.partial(
    train.train,
    inputs=inputs,
    batch_size=8,
    plan=plan.Plan(total_steps=4, eval_every=2, save_every=2, log_every=1),
    selection=selection.Selection(metric="mean/score"),
    **shared,
  )
  tune(
    model_dir=str(folder / "prompt"),
    trainable=("prompt/.*",),
    optimizer=optimizers.adafactor(
      learning_rate=optimizers.constant(learning_rate=0.3),
      multiply_by_parameter_scale=False,
    ),
    prompt=PromptSpec(
      length=3,
      initializer=functools.partial(initializers.class_labels, labels=LABELS),
    ),
  )
  tune(
    model_dir=str(folder / "model"),
    trainable=(".*",),
    optimizer=optimizers.adafactor(
      learning_rate=optimizers.constant(learning_rate=0.01)
    ),
  )
  prompt = str(folder / "prompt" / "prompts" / "prompt_4.npy")
  evaluate.evaluate(
    output_dir=str(folder / "evaluated"), prompt_file=prompt, **shared
  )
  infer.infer(
    output_file=str(folder / "scores.jsonl"),
    backbone=backbone,
    inputs=FileInputs(
      file=str(data / "validation.jsonl"), inputs="{text}", targets="{label}"
    ),
    feature_lengths=LENGTHS,
    batch_size=6,
    predictor=rank,
    mode=infer.Mode.SCORE,
    prompt_file=prompt,
    hardware=hardware,
  )


def _program():
  flags.DEFINE_integer("model", 1, "Ways to cut the parameters.")
  flags.DEFINE_integer("steps", 8, "Of the toy run.")
  flags.DEFINE_float("pause", 0.0, "Seconds that a batch takes to be read.")
  flags.DEFINE_integer("fail", None, "The process that fails at step 3.")
  jobs = {"toy": _toy, "differing": _differing, "everything": _everything}

  def main(argv):
    jobs[argv[1]](pathlib.Path(argv[2]))

  main_lib.define_flags()
  distributed.define_flags()
  main_lib.start(distributed.member_of_job(main, saves_on_sigterm=True))


# What is checked of it.


@pytest.fixture
def start():
  """Starts the program above; whatever still runs in the end is killed."""
  started = []

  def run(job, folder, *flags, count, devices=1):
    program = [__file__, job, str(folder), *flags]
    started.extend(processes.start(program, count=count, devices=devices))
    return started[-count:]

  yield run
  processes.kill(started)


def _finish(started):
  return processes.finish(started, timeout=_PATIENCE_SECONDS)


def _wait_for(path, started):
  processes.wait_for(path, started, timeout=_PATIENCE_SECONDS)


def _lines(path):
  """All that a file of JSON says, but for what measures time."""
  text = path.read_text()
  return [
    {k: v for k, v in json.loads(line).items() if "timing/" not in k}
    for line in (text.splitlines() if path.suffix == ".jsonl" else [text])
  ]


def _assert_same_metrics(ours, theirs):
  assert len(ours) == len(theirs)
  for our, their in zip(ours, theirs, strict=True):
    assert our == {
      name: value if isinstance(value, str) else pytest.approx(value, rel=1e-3)
      for name, value in their.items()
    }


def _assert_same_toy(folder, reference, steps=8):
  """Compares two runs of the toy task, all that is kept of them."""
  assert files.latest_step(folder) == files.latest_step(reference) == steps
  ours, theirs = (
    files.load_trainable(where, step=steps)["prompt"]["embedding"]
    for where in (folder, reference)
  )
  np.testing.assert_allclose(ours, theirs, **CLOSE)
  _assert_same_metrics(
    *(_lines(where / "metrics.jsonl") for where in (folder, reference))
  )


@pytest.fixture(scope="module")
def one_toy(tmp_path_factory):
  """The toy run of a single process with a single device."""
  folder = tmp_path_factory.mktemp("toy") / "one"
  ToyRun(model_dir=folder, steps=8, keep=99).run()
  return folder


@pytest.mark.slow
def test_two_processes_are_one_run(start, one_toy, tmp_path):
  written = _finish(start("toy", tmp_path / "two", count=2))
  assert ["finished at step 8" in out for out, _ in written] == [True, True]
  _assert_same_toy(tmp_path / "two", one_toy)
  names = sorted(path.name for path in (tmp_path / "two").iterdir())
  assert names == sorted(path.name for path in one_toy.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
  ("count", "devices", "model"),
  # The last two lay rows of the mesh across processes.
  [(4, 1, 1), (2, 4, 2), (2, 2, 4), (4, 1, 2)],
)
def test_every_mesh_of_processes_is_one_run(
  start, one_toy, tmp_path, count, devices, model
):
  folder = tmp_path / "many"
  _finish(
    start("toy", folder, f"--model={model}", count=count, devices=devices)
  )
  _assert_same_toy(folder, one_toy)


def _ended(started):
  """Waits until all have ended; returns their logs and the seconds it took."""
  before = time.monotonic()
  logs = [p.communicate(timeout=_PATIENCE_SECONDS)[1] for p in started]
  return logs, time.monotonic() - before


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1])
def test_a_lost_process_ends_the_other_and_the_run_goes_on(
  start, one_toy, tmp_path, lost
):
  folder = tmp_path / "lost"
  started = start("toy", folder, "--pause=0.5", count=2)
  _wait_for(folder / "checkpoint_4", started)
  started[lost].kill()
  logs, seconds = _ended(started)
  assert started[lost].returncode == -signal.SIGKILL
  left = 1 - lost
  assert started[left].returncode not in (0, -signal.SIGKILL)
  assert "lost another one" in logs[left] or "another task died" in logs[left]
  assert seconds < distributed.LOST_AFTER_SECONDS + 30
  assert files.latest_step(folder) < 8
  _finish(start("toy", folder, count=2))
  _assert_same_toy(folder, one_toy)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_process_that_falls_silent_ends_the_other(start, tmp_path):
  started = start("toy", tmp_path, "--pause=0.5", "--steps=500", count=2)
  _wait_for(tmp_path / "checkpoint_4", started)
  started[1].send_signal(signal.SIGSTOP)
  before = time.monotonic()
  _, log = started[0].communicate(timeout=_PATIENCE_SECONDS)
  assert time.monotonic() - before < distributed.LOST_AFTER_SECONDS + 30
  assert started[0].returncode != 0
  assert "heartbeat" in log


@pytest.mark.slow
def test_one_that_fails_alone_says_why_and_ends_the_other(start, tmp_path):
  started = start("toy", tmp_path, "--pause=0.5", "--fail=1", count=2)
  logs, seconds = _ended(started)
  assert "OSError: the disk of process 1 is gone" in logs[1]
  assert started[1].returncode == 1
  assert started[0].returncode != 0
  assert seconds < distributed.LOST_AFTER_SECONDS + 60


@pytest.mark.slow
@pytest.mark.parametrize(
  ("number", "told"),
  [
    (signal.SIGTERM, [1]),
    (signal.SIGTERM, [0, 1]),
    (signal.SIGINT, [0, 1]),
  ],
)
def test_a_signal_ends_all_at_the_same_saved_step(
  start, one_toy, tmp_path, number, told
):
  folder = tmp_path / "told"
  started = start("toy", folder, "--pause=0.5", count=2)
  _wait_for(folder / "checkpoint_0", started)
  for index in told:
    started[index].send_signal(number)
  written = _finish(started)
  step = files.latest_step(folder)
  assert 0 < step < 8
  assert all(f"interrupted at step {step}\n" in out for out, _ in written)
  _finish(start("toy", folder, count=2))
  _assert_same_toy(folder, one_toy)


@pytest.mark.slow
def test_processes_that_differ_are_refused(start, tmp_path):
  started = start("differing", tmp_path, count=2)
  logs, _ = _ended(started)
  for log in logs:
    assert "The processes 1 differ from process 0" in log
  assert "learning_rate: 0.1 -> 0.2" in logs[1]


@pytest.fixture(scope="module")
def one_of_everything(tmp_path_factory):
  """All mains' runs in a single process, beside the data that they read."""
  data = tmp_path_factory.mktemp("everything") / "data"
  data.mkdir()
  rng = np.random.default_rng(0)
  for split in ("train", "validation"):
    rows = [
      {"text": "ab"[label] * int(rng.integers(3, 20)), "label": int(label)}
      for label in rng.integers(0, 2, size=20)
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (data / f"{split}.jsonl").write_text(lines)
  model = fakes.tiny_model(
    vocab_size=384, num_encoder_layers=1, num_decoder_layers=1
  )
  t5x.save(fakes.tiny_params(model), data, step=7)
  folder = data.parent / "one"
  program = [__file__, "everything", str(folder)]
  _finish(processes.start(program, count=1))
  return folder


def _files(folder):
  """Files of a run but for those of checkpoints, which Orbax names."""
  paths = [path.relative_to(folder) for path in folder.rglob("*")]
  return {
    # TensorBoard's tell host and process.
    re.sub(r"tfevents.*", "tfevents", str(path))
    for path in paths
    if not re.search(r"checkpoint_\d+/", f"{path}/.") or path.name == "state"
  }


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("count", "model"), [(2, 1), (4, 1), (4, 2)])
def test_training_evaluation_and_inference_are_those_of_one_process(
  start, one_of_everything, count, model
):
  folder = one_of_everything.parent / f"{count}_{model}"
  _finish(start("everything", folder, f"--model={model}", count=count))
  assert _files(folder) == _files(one_of_everything)
  for run in ("prompt", "model"):
    ours, theirs = (
      files.load_trainable(where / run, step=4)
      for where in (folder, one_of_everything)
    )
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, **CLOSE), ours, theirs
    )
    _assert_same_metrics(
      *(
        _lines(where / run / "metrics.jsonl")
        for where in (folder, one_of_everything)
      )
    )
  for same in ("evaluated/metrics.json", "scores.jsonl"):
    _assert_same_metrics(
      *(_lines(where / same) for where in (folder, one_of_everything))
    )
  for run in ("prompt", "model"):
    where = f"{run}/run.json"
    text = (one_of_everything / where).read_text()
    assert (folder / where).read_text() == text


if __name__ == "__main__":
  _program()
