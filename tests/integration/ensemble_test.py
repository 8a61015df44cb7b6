"""An ensemble in one pass is its members one by one, and their vote."""

import collections
import json

import numpy as np
import pytest

from prompt_tuning import config
from prompt_tuning.data import text_mixtures, text_tasks
from prompt_tuning.data.vocabularies import ByteVocabulary
from prompt_tuning.evaluate.ensemble import EnsembleEvaluation, majority
from prompt_tuning.evaluate.predictors import Generation, RankClassification
from prompt_tuning.evaluate.tasks import TaskEvaluation
from prompt_tuning.metrics.classification import accuracy
from prompt_tuning.prompts import artifact
from prompt_tuning.prompts.artifact import PromptCard, SavedPrompt, save_prompt
from prompt_tuning.runs import dry_run, evaluate
from prompt_tuning.testing import fakes

# As long as each other, or the shortest would be the answer to everything.
LABELS = tuple(f"{one}{other}" for one in "aeiou" for other in "lmnr")
LENGTHS = {"inputs": 10, "targets": 6}
TASK = "integration_ensemble"
MEMBERS = 3


@pytest.fixture(scope="module", autouse=True)
def task():
  rng = np.random.default_rng(0)
  rows = [
    {
      "inputs": "".join(rng.choice(list("abcdef"), rng.integers(1, 9))),
      "targets": str(rng.choice(LABELS)),
    }
    for _ in range(21)
  ]
  text_tasks.add(
    TASK,
    text_tasks.in_memory({"validation": rows}),
    vocabulary=ByteVocabulary(extra_ids=125),
    metric_fns=[accuracy],
  )
  yield
  text_tasks.remove(TASK)


@pytest.fixture(params=["full", "prefix"])
def prompts(request, tmp_path):
  """Files of prompts that answer differently."""
  rng = np.random.default_rng(1)
  files = []
  for number in range(MEMBERS):
    path = tmp_path / f"{number}.npy"
    array = 5 * rng.standard_normal((3, fakes.EMBED_DIM))
    card = PromptCard(
      length=3,
      width=fakes.EMBED_DIM,
      backbone="",
      step=9,
      attention=request.param,
    )
    save_prompt(path, array.astype(np.float32), card)
    files.append(str(path))
  return files


@pytest.fixture(autouse=True)
def _any_backbone(monkeypatch):
  monkeypatch.setattr(artifact, "check_backbone", lambda *args, **kwargs: None)


def run(backbone, folder, prompt_file, *, ensemble, predictor=None):
  each = TaskEvaluation(
    task=TASK,
    predictor=predictor or RankClassification(labels=LABELS),
    batch_size=4,
    length_buckets=2,
  )
  evaluation = EnsembleEvaluation(each=each) if ensemble else each
  metrics = evaluate.evaluate(
    output_dir=str(folder),
    backbone=backbone,
    feature_lengths=LENGTHS,
    evaluations=[evaluation],
    prompt_file=prompt_file,
  )
  file = folder / "inference_eval" / f"{TASK}-000009.jsonl"
  rows = map(json.loads, file.read_text().splitlines())
  return metrics, [row["prediction"] for row in rows]


@pytest.mark.slow_after(2)
@pytest.mark.parametrize(
  "predictor", [None, Generation()], ids=["rank", "write"]
)
def test_one_pass_is_as_many(backbone, prompts, tmp_path, predictor):
  metrics, votes = run(
    backbone, tmp_path / "all", prompts, ensemble=True, predictor=predictor
  )
  members = []
  for number, file in enumerate(prompts):
    own, predictions = run(
      backbone,
      tmp_path / f"only_{number}",
      file,
      ensemble=False,
      predictor=predictor,
    )
    members.append(predictions)
    for name, value in own.items():
      assert metrics[f"prompt_{number}/{name}"] == value
  assert any(len(set(row)) > 1 for row in zip(*members, strict=True))
  for vote, *row in zip(votes, *members, strict=True):
    counts = collections.Counter(row)
    assert counts[vote] == max(counts.values())
  assert set(metrics) == {
    f"{who}/{what}"
    for who in ("ensemble", *(f"prompt_{n}" for n in range(MEMBERS)))
    for what in (f"{TASK}/accuracy", "mean/score")
  }


@pytest.mark.parametrize(
  ("answers", "expected"),
  [
    ([[1], [2], [2]], [2]),
    ([[1], [2], [3]], [1]),
    ([[3, 1], [2, 1], [2, 1], [3, 1], [4, 1]], [3, 1]),
  ],
)
def test_most_answers_win_and_the_first_of_equals(answers, expected):
  assert majority(answers, decode=str) == expected


def test_a_mixture_is_its_tasks_one_by_one(
  backbone, prompts, tmp_path, request
):
  rng = np.random.default_rng(7)
  # seqio, if it was imported, does not forget names.
  here = f"{TASK}_{request.node.callspec.id}"
  names = [f"{here}_a", f"{here}_b"]
  for name in names:
    rows = [
      {"inputs": "".join(rng.choice(list("abcdef"), 6)), "targets": word}
      for word in rng.choice(LABELS, 9).tolist()
    ]
    text_tasks.add(
      name,
      text_tasks.in_memory({"validation": rows}),
      vocabulary=ByteVocabulary(extra_ids=125),
      metric_fns=[accuracy],
    )
  mixture = f"{here}_mixture"
  text_mixtures.add(mixture, names)
  try:
    both = measure(backbone, tmp_path / "both", prompts, mixture)
    for name in names:
      own = measure(backbone, tmp_path / name, prompts, name)
      for who in ("ensemble", "prompt_0", "prompt_1", "prompt_2"):
        key = f"{who}/{name}/accuracy"
        assert both[key] == own[key]
  finally:
    text_mixtures.remove(mixture)
    for name in names:
      text_tasks.remove(name)


def measure(backbone, folder, prompts, task):
  each = TaskEvaluation(
    task=task,
    predictor=Generation(),
    batch_size=4,
  )
  return evaluate.evaluate(
    output_dir=str(folder),
    backbone=backbone,
    feature_lengths=LENGTHS,
    evaluations=[EnsembleEvaluation(each=each)],
    prompt_file=prompts,
  )


def test_a_single_prompt_is_no_ensemble(backbone, prompts, tmp_path):
  with pytest.raises(ValueError, match="at least two prompts"):
    run(backbone, tmp_path / "one", prompts[:1], ensemble=True)


def test_prompts_of_one_bank_agree(prompts):
  saved = [artifact.load_prompt(file) for file in prompts]
  shorter = SavedPrompt(array=saved[0].array[:2], card=saved[0].card)
  with pytest.raises(ValueError, match="b has the length 2 and a 3"):
    artifact.stack_prompts([saved[0], shorter], sources=["a", "b"])
  bank = artifact.stack_prompts(saved, sources=prompts)
  with pytest.raises(ValueError, match="b is a bank of 3 prompts"):
    artifact.stack_prompts([saved[0], bank], sources=["a", "b"])
  assert bank.card.num_prompts == MEMBERS


def test_the_recipe_says_so(backbone, prompts):
  config.parse(
    ["models/embedded.gin", "runs/ensemble.gin", "decoding/rank.gin"],
    [
      "EVAL_OUTPUT_DIR='out'",
      f"MIXTURE_OR_TASK_NAME={TASK!r}",
      f"TASK_FEATURE_LENGTHS={LENGTHS}",
      f"CLASS_LABELS={LABELS}",
      f"PROMPT_FILES={prompts}",
    ],
    entry=evaluate.evaluate,
  )
  arguments = config.arguments(evaluate.evaluate)
  assert arguments["prompt_file"] == prompts
  [evaluation] = arguments["evaluations"]
  assert isinstance(evaluation, EnsembleEvaluation)
  shown = dry_run.evaluate(**arguments | {"backbone": backbone})
  assert f"one batch of task {TASK}, of all prompts" in shown
  assert f"int32[32, {MEMBERS}, " in shown
