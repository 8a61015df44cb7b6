"""Text tasks: read, measured and found without seqio, and as seqio does it."""

import json
import subprocess
import sys

import numpy as np
import pytest

from prompt_tuning.data import providers, text_tasks
from prompt_tuning.data.features import FeatureBuilder, FeatureLengths
from prompt_tuning.data.vocabularies import ByteVocabulary
from prompt_tuning.prompts import layout

_VOCABULARY = ByteVocabulary()
_ROWS = [
  {"inputs": "so good", "targets": "good", "group": "a", "tags": ["x", "y"]},
  {"inputs": "so very bad", "targets": "bad", "group": "é", "tags": ["z"]},
  {"inputs": "é", "targets": "good", "group": "a", "tags": []},
]


def accuracy(targets, predictions):
  pairs = zip(targets, predictions, strict=True)
  return {"accuracy": np.float32(100 * np.mean([t == p for t, p in pairs]))}


def mean_score(targets, scores):
  del targets
  return {"mean_score": float(np.mean(scores))}


def grouped(text, *, example, is_target):
  return [text.upper(), example["group"], len(example["tags"]), is_target]


def first_words(targets, predictions):
  same = [t[:3] == p[:3] for t, p in zip(targets, predictions, strict=True)]
  return {"first_words": float(np.mean(same))}


@pytest.fixture
def add():
  """Adds tasks that are removed after the test, from seqio too."""
  names = []

  def add(rows=_ROWS, **options):
    name = f"text_tasks_test_{len(names)}"
    names.append(name)
    splits = text_tasks.in_memory({"train": rows, "validation": rows[:2]})
    return text_tasks.add(
      name,
      splits,
      vocabulary=_VOCABULARY,
      **{"metric_fns": [accuracy]} | options,
    )

  yield add
  for name in names:
    text_tasks.remove(name)
    if "seqio" in sys.modules:
      sys.modules["seqio"].TaskRegistry.remove(name)


@pytest.fixture
def seqio_provider():
  pytest.importorskip("seqio", reason="text tasks are compared with its own")
  from prompt_tuning.data.seqio_provider import SeqioProvider

  return SeqioProvider


def settings(**changes):
  builder = FeatureBuilder(
    FeatureLengths(16, 6), vocab_size=300, layout=layout.prefix(2)
  )
  return {"builder": builder, "batch_size": 2, "split": "train"} | changes


def good(batches):
  """Answers "good" to all; scores are the tokens of the inputs."""
  tokens = np.asarray([*_VOCABULARY.encode("good"), 1, 0], np.int32)
  for batch in batches:
    yield batch, np.tile(tokens, (len(batch.indices), 1))


def count_inputs(batches):
  for batch in batches:
    yield batch, -(batch.features["encoder_input_tokens"] > 0).sum(axis=1) / 2


def same(ours, theirs):
  assert len(ours) == len(theirs) > 0
  for left, right in zip(ours, theirs, strict=True):
    assert left.keys() == right.keys()
    for key, value in left.items():
      np.testing.assert_array_equal(value, right[key])
      assert (
        np.asarray(value).dtype == np.asarray(right[key]).dtype or not value
      )


class TestAsSeqio:
  def test_examples_are_equal(self, add, seqio_provider):
    task = add()
    theirs = seqio_provider(task.name)
    same(task.examples("train"), theirs.examples("train"))

  def test_streams_are_equal(self, add, seqio_provider):
    task = add()
    ours = providers.TextProvider(task).stream("train", seed=3, targets=None)
    theirs = seqio_provider(task.name).stream("train", seed=3, targets=None)
    assert ours.card() == theirs.card()
    drawn = [[s.example(n) for n in range(7)] for s in (ours, theirs)]
    same(*drawn)

  @pytest.mark.parametrize(
    "options",
    [
      {},
      {"metric_fns": [accuracy, mean_score]},
      {"metric_fns": [first_words], "postprocess_fn": grouped},
    ],
    ids=["predictions", "scores", "postprocessed"],
  )
  def test_results_and_files_are_equal(
    self, add, seqio_provider, tmp_path, options
  ):
    task = add(**options)
    results, files = [], []
    for name in ("ours", "theirs"):
      provider = (
        providers.find(task.name)
        if name == "ours"
        else seqio_provider(task.name)
      )
      provider.check_evaluation("train")
      folder = tmp_path / name
      evaluator = provider.evaluator(**settings(output_dir=str(folder)))
      for step in (3, 4, 3):
        result = evaluator.evaluate(predict=good, score=count_inputs, step=step)
      results.append(result[task.name])
      files.append(
        {
          path.name: [
            json.loads(line) for line in path.read_text().splitlines()
          ]
          for path in folder.iterdir()
        }
      )
    ours, theirs = results
    assert ours.metrics == pytest.approx(theirs.metrics)
    assert (ours.num_examples, ours.cuts) == (theirs.num_examples, theirs.cuts)
    assert files[0] == files[1]
    assert len(files[0]) == 3

  def test_it_is_there_for_whoever_imported_seqio(self, add):
    seqio = pytest.importorskip("seqio", reason="this is what is tested")
    task = add()
    assert seqio.get_mixture_or_task(task.name).name == task.name


def test_a_task_is_found_without_seqio():
  script = (
    "import sys\n"
    "for name in ('seqio', 'tensorflow'): sys.modules[name] = None\n"
    "from prompt_tuning.data import providers\n"
    "module = 'prompt_tuning.tasks.small_world.tasks'\n"
    "task = providers.find('small_world_topic', module=module)\n"
    "assert len(task.examples('validation')) == 500\n"
    "task.evaluator\n"
    "try: providers.find('small_world_topics')\n"
    "except ValueError as error: print(error)\n"
  )
  run = subprocess.run(
    [sys.executable, "-c", script], capture_output=True, text=True, check=True
  )
  assert "near names: small_world_topic" in run.stdout
  assert "seqio, whose task or cache it may be" in run.stdout


def test_names_are_unique(add):
  task = add()
  with pytest.raises(ValueError, match="task or mixture 'text_tasks_test_0'"):
    text_tasks.add(task.name, {}, vocabulary=_VOCABULARY)


class TestErrors:
  @pytest.mark.parametrize(
    ("rows", "message"),
    [
      ([], "split 'train' has no examples"),
      ([_ROWS[0], {"inputs": "a"}], "example 1 must have the fields"),
      ([{"inputs": "a", "targets": {"b"}}], r"example 0 must .*\{'b'\}"),
      ([{"inputs": "a", "targets": "b", "x": [[1]]}], r"example 0 must .*1"),
    ],
  )
  def test_malformed_examples(self, add, rows, message):
    with pytest.raises(ValueError, match=message):
      add(rows).examples("train")

  def test_no_such_split(self, add):
    with pytest.raises(ValueError, match="no split 'test'; its splits are"):
      add().examples("test")

  def test_other_vocabulary(self, add):
    with pytest.raises(ValueError, match="their ids differ"):
      providers.TextProvider(add()).check_vocabulary(
        ByteVocabulary(extra_ids=1)
      )

  def test_unknown_target(self, add):
    with pytest.raises(
      ValueError, match=r"example 1: the target 'bad'.*'good'"
    ):
      providers.TextProvider(add()).stream(
        "train", seed=0, targets={(*_VOCABULARY.encode("good"), 1): "good"}
      )

  def test_nothing_to_measure_it(self, add):
    with pytest.raises(ValueError, match="has no metrics"):
      providers.TextProvider(add(metric_fns=[])).check_evaluation("train")

  def test_a_metric_of_something_else(self, add):
    task = add(metric_fns=[lambda answers: {}])
    with pytest.raises(ValueError, match=r"but .* takes \('answers',\)"):
      providers.TextProvider(task).check_evaluation("train")

  def test_a_function_is_missing(self, add):
    evaluator = providers.TextProvider(add()).evaluator(**settings())
    with pytest.raises(ValueError, match="needs predictions, and no function"):
      evaluator.evaluate(score=count_inputs)

  def test_two_metrics_of_one_name(self, add):
    task = add(
      metric_fns=[accuracy, lambda targets, predictions: {"accuracy": 1}]
    )
    evaluator = providers.TextProvider(task).evaluator(**settings())
    with pytest.raises(ValueError, match=r"two metrics of .* give accuracy"):
      evaluator.evaluate(predict=good)

  def test_an_answer_of_another_size(self, add):
    evaluator = providers.TextProvider(add()).evaluator(**settings())
    with pytest.raises(ValueError, match="must return 2 rows, got"):
      evaluator.evaluate(
        predict=lambda batches: [(next(iter(batches)), np.ones(3))]
      )
