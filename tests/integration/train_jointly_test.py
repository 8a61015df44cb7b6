"""Several runs as one job: each leaves what it leaves alone."""

import dataclasses
import functools
import json

import jax
import numpy as np
import pytest

from prompt_tuning.data.file_task import file_task
from prompt_tuning.data.inputs import TaskInputs
from prompt_tuning.data.vocabularies import ByteVocabulary
from prompt_tuning.evaluate.predictors import RankClassification
from prompt_tuning.evaluate.tasks import TaskEvaluation
from prompt_tuning.prompts import initializers
from prompt_tuning.prompts.artifact import load_prompt
from prompt_tuning.prompts.spec import PromptSpec
from prompt_tuning.runs import dry_run
from prompt_tuning.runs.train import train
from prompt_tuning.runs.train_jointly import train_jointly
from prompt_tuning.train import optimizers, plan, selection

LABELS = ("no", "yes")


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
  """Two tasks whose inputs differ in length."""
  folder = tmp_path_factory.mktemp("tasks")
  names = []
  for number, longest in enumerate((10, 18)):
    rng = np.random.default_rng(number)
    rows = [
      {"text": "ab"[label] * int(rng.integers(3, longest)), "label": int(label)}
      for label in rng.integers(0, 2, size=20)
    ]
    path = folder / f"{number}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    names.append(
      file_task(
        name=f"train_jointly_{number}",
        files={"train": str(path), "validation": str(path)},
        inputs="{text}",
        targets="label",
        vocabulary=ByteVocabulary(extra_ids=125),
        verbalizers=LABELS,
      )
    )
  return names


def _runs(backbone, tasks, folder, *, attention="full", **changes):
  """Returns runs that differ in seed, rate, start, task, optimizer and end."""
  starts = (
    functools.partial(initializers.class_labels, labels=LABELS),
    initializers.uniform,
    initializers.uniform,
  )
  made = {}
  for seed, (task, start, optimizer, steps) in enumerate(
    zip(
      (tasks[0], tasks[1], tasks[0]),
      starts,
      (_adafactor(0.3), _adafactor(0.1), _adamw(0.01)),
      (4, 6, 6),
      strict=True,
    )
  ):
    length = 12 + 8 * (task == tasks[1])
    made[f"run_{seed}"] = {
      "model_dir": str(folder / f"run_{seed}"),
      "backbone": backbone,
      "inputs": TaskInputs(task=task, labels=LABELS),
      "feature_lengths": {"inputs": length, "targets": 4},
      "batch_size": 8,
      "trainable": ("prompt/.*",),
      "optimizer": optimizer,
      "plan": plan.Plan(
        total_steps=steps, eval_every=2, save_every=2, log_every=1
      ),
      "prompt": PromptSpec(length=3, initializer=start, attention=attention),
      "evaluations": [
        TaskEvaluation(
          task=task,
          predictor=RankClassification(labels=LABELS),
          batch_size=8,
          labels=LABELS,
        )
      ],
      "final_evaluations": [
        TaskEvaluation(
          task=task,
          split="train",
          predictor=RankClassification(labels=LABELS),
          batch_size=8,
          folder="final_eval",
        )
      ],
      "selection": selection.Selection(metric="mean/score"),
      "seed": seed,
    } | changes
  return made


def _adafactor(rate):
  return optimizers.adafactor(
    learning_rate=optimizers.constant(learning_rate=rate),
    multiply_by_parameter_scale=False,
  )


def _adamw(rate):
  return optimizers.adamw(learning_rate=optimizers.constant(learning_rate=rate))


@pytest.mark.slow
@pytest.mark.parametrize(
  ("attention", "packed_length"),
  [
    ("full", None),
    # Packed batches have many shapes, and a step is compiled for each.
    pytest.param(
      "prefix", 40, marks=(pytest.mark.slow, pytest.mark.timeout(600))
    ),
  ],
)
def test_every_run_leaves_what_it_leaves_alone(
  backbone, tasks, tmp_path, attention, packed_length
):
  # In rows of other lengths the same is dropped; packed rows are others.
  rate = 0.1 if packed_length is None else 0.0
  config = dataclasses.replace(backbone.config, dropout_rate=rate)
  backbone = dataclasses.replace(backbone, config=config)
  changes = {"attention": attention, "packed_length": packed_length}
  result = train_jointly(
    _runs(backbone, tasks, tmp_path / "together", **changes)
  )
  assert not result.failed
  for name, arguments in _runs(
    backbone, tasks, tmp_path / "alone", **changes
  ).items():
    alone = train(**arguments)
    together = result.finished[name]
    assert together.step == alone.step
    assert together.final == alone.final
    assert set(alone.final) >= {f"{arguments['inputs'].task}/accuracy"}
    np.testing.assert_allclose(
      jax.device_get(together.state.trainable["prompt"]["embedding"]),
      jax.device_get(alone.state.trainable["prompt"]["embedding"]),
      rtol=1e-4,
      atol=1e-5,
    )
    ours, theirs = (tmp_path / each / name for each in ("together", "alone"))
    assert _files(ours) == _files(theirs)
    assert _card(ours) == _card(theirs)
    # What it is does not depend on the job, so either may resume it.
    assert (ours / "run.json").read_text() == (theirs / "run.json").read_text()


def _files(folder):
  return sorted(
    str(path.relative_to(folder))
    for path in folder.rglob("*")
    if "tfevents" not in path.name and "checkpoint_" not in str(path)
  )


def _card(folder):
  return load_prompt(folder / "prompts" / "best.npy", expected_width=16).card


@pytest.mark.slow
def test_a_run_of_a_job_is_gone_on_with_alone(backbone, tasks, tmp_path):
  runs = _runs(backbone, tasks, tmp_path / "together")
  short = plan.Plan(total_steps=2, eval_every=2, save_every=2, log_every=1)
  train_jointly({n: each | {"plan": short} for n, each in runs.items()})
  resumed = train(**runs["run_1"])
  whole = train(**_runs(backbone, tasks, tmp_path / "alone")["run_1"])
  np.testing.assert_allclose(
    jax.device_get(resumed.state.trainable["prompt"]["embedding"]),
    jax.device_get(whole.state.trainable["prompt"]["embedding"]),
    rtol=1e-4,
    atol=1e-5,
  )


def test_a_dry_run_names_the_runs(backbone, tasks, tmp_path):
  text = dry_run.train_jointly(_runs(backbone, tasks, tmp_path))
  assert "3 runs over one backbone" in text
  assert "run_1: train_jointly_1, in" in text
  assert "trainable parameters" in text
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"batch_size": 4}, "run_0 and run_1 .* batch_size 8 and 4"),
    ({"trainable": (".*",)}, "trainable"),
    (
      {"prompt": PromptSpec(length=4, initializer=_adamw)},
      "length and number of prompts",
    ),
    ({"from_scratch": True}, "run_1: FROM_SCRATCH is set"),
    ({"backbone": "one that drops"}, r"T5Config\.dropout_rate 0\.0 and 0\.1"),
    ({"feature_lengths": {"inputs": 12}}, "run_1: TASK_FEATURE_LENGTHS"),
  ],
)
def test_what_cannot_be_one_job_is_refused(
  backbone, tasks, tmp_path, change, message
):
  runs = _runs(backbone, tasks, tmp_path)
  if "backbone" in change:
    dropping = dataclasses.replace(backbone.config, dropout_rate=0.1)
    change = {"backbone": dataclasses.replace(backbone, config=dropping)}
  runs["run_1"] |= change
  with pytest.raises(ValueError, match=message):
    train_jointly(runs)
  assert not list(tmp_path.iterdir())


def test_a_prompt_that_is_not_tuned_is_not_shared(backbone, tasks, tmp_path):
  runs = _runs(backbone, tasks, tmp_path, trainable=(".*norm/scale",))
  with pytest.raises(
    ValueError, match=r"run_0: TRAINABLE .* leaves the prompt"
  ):
    train_jointly(runs)


def test_two_runs_do_not_share_a_folder(backbone, tasks, tmp_path):
  runs = _runs(backbone, tasks, tmp_path)
  runs["run_1"] |= {"model_dir": runs["run_0"]["model_dir"]}
  with pytest.raises(ValueError, match="run_0 and run_1 have the same MODEL"):
    train_jointly(runs)
