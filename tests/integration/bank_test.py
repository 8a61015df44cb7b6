"""A bank of prompts from files: tuned, started from, asked."""

import dataclasses
import functools
import json

import numpy as np
import pytest

from prompt_tuning.data.file_task import file_task
from prompt_tuning.data.inputs import FileInputs, TaskInputs
from prompt_tuning.data.vocabularies import ByteVocabulary
from prompt_tuning.evaluate.predictors import RankClassification
from prompt_tuning.prompts import initializers
from prompt_tuning.prompts.artifact import load_prompt, save_prompt
from prompt_tuning.prompts.spec import PromptSpec
from prompt_tuning.runs import infer, train
from prompt_tuning.train import optimizers, plan

LABELS = ("no", "yes")
LENGTHS = {"inputs": 12, "targets": 4}
VOCABULARY = ByteVocabulary(extra_ids=125)
# Of a bank of three, nobody takes the second.
ROWS = [
  {"text": "aaa", "label": 0, "task": 0},
  {"text": "aaa", "label": 1, "task": 2},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  return tmp_path_factory.mktemp("bank")


@pytest.fixture(scope="module")
def file(folder):
  path = folder / "rows.jsonl"
  path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
  return str(path)


@pytest.fixture(scope="module")
def task(file):
  return file_task(
    name="integration_bank",
    files={"train": file, "validation": file},
    inputs="{text}",
    targets="label",
    vocabulary=VOCABULARY,
    verbalizers=LABELS,
    prompt_index="task",
  )


def _train(backbone, task, model_dir, initializer, *, steps, attention):
  train.train(
    model_dir=str(model_dir),
    backbone=backbone,
    inputs=TaskInputs(task=task, labels=LABELS),
    feature_lengths=LENGTHS,
    batch_size=8,
    trainable=("prompt/.*",),
    optimizer=optimizers.adafactor(
      learning_rate=optimizers.constant(learning_rate=0.3),
      multiply_by_parameter_scale=False,
    ),
    plan=plan.Plan(total_steps=steps, save_every=1, log_every=1),
    prompt=PromptSpec(
      length=3,
      num_prompts=3,
      initializer=initializer,
      attention=attention,
    ),
  )


@pytest.fixture(scope="module", params=["full", "prefix"])
def attention(request):
  return request.param


@pytest.fixture(scope="module")
def tuned(backbone, task, folder, attention):
  """The folder of the prompts of a finished run."""
  run = folder / attention
  start = initializers.uniform
  _train(backbone, task, run, start, steps=8, attention=attention)
  return run / "prompts"


def test_lines_of_a_file_train_the_prompts_that_they_name(tuned):
  first, last = (np.load(tuned / f"prompt_{step}.npy") for step in (1, 8))
  changed = np.any(first != last, axis=(1, 2))
  assert changed.tolist() == [True, False, True]


def test_a_run_starts_from_the_bank_of_another(
  tuned, backbone, task, tmp_path, attention
):
  path = str(tuned / "prompt_8.npy")
  start = functools.partial(initializers.from_file, path=path)
  _train(backbone, task, tmp_path, start, steps=1, attention=attention)
  before, after = (
    np.load(file) for file in (path, tmp_path / "prompts" / "prompt_1.npy")
  )
  np.testing.assert_array_equal(after[1], before[1])
  assert not np.array_equal(after[0], before[0])


def test_a_bank_that_was_tuned_with_another_attention_is_refused(
  tuned, backbone, task, tmp_path, attention
):
  start = functools.partial(
    initializers.from_file, path=str(tuned / "prompt_8.npy")
  )
  other = {"full": "prefix", "prefix": "full"}[attention]
  with pytest.raises(ValueError, match=f"prompt attention '{attention}'"):
    _train(backbone, task, tmp_path / "run", start, steps=1, attention=other)


def _scores(output, file, backbone, prompt_file, **inputs):
  """Returns the log-likelihood of every line's label."""
  infer.infer(
    output_file=str(output),
    backbone=backbone,
    inputs=FileInputs(file=file, inputs="{text}", targets="{label}", **inputs),
    feature_lengths=LENGTHS,
    batch_size=8,
    predictor=RankClassification(labels=LABELS),
    mode="score",
    prompt_file=str(prompt_file),
  )
  lines = output.read_text().splitlines()
  return [json.loads(line)["score"] for line in lines]


def test_each_line_is_read_with_the_prompt_that_it_names(
  tuned, backbone, file, tmp_path
):
  bank = load_prompt(tuned / "prompt_8.npy")
  expected = []
  for line, row in enumerate(ROWS):
    path = tmp_path / f"only_{row['task']}.npy"
    card = dataclasses.replace(bank.card, num_prompts=1)
    save_prompt(path, bank.array[row["task"]], card)
    alone = _scores(tmp_path / "alone.jsonl", file, backbone, path)
    expected.append(alone[line])
  scores = _scores(
    tmp_path / "bank.jsonl",
    file,
    backbone,
    tuned / "prompt_8.npy",
    prompt_index="task",
  )
  np.testing.assert_allclose(scores, expected, rtol=1e-5)


def test_a_line_that_names_no_prompt_is_an_error(
  tuned, backbone, file, tmp_path
):
  output = tmp_path / "answers.jsonl"
  with pytest.raises(ValueError, match="does not say which of the bank's 3"):
    _scores(output, file, backbone, tuned / "prompt_8.npy")
  assert not list(tmp_path.iterdir())
