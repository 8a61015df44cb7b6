"""seqio.Evaluator with our batches: metrics, files, and what it would skip."""

import json

import numpy as np
import pytest

from prompt_tuning.data import vocabularies
from prompt_tuning.data.features import FeatureBuilder, FeatureLengths
from prompt_tuning.prompts import layout

pytest.importorskip("seqio", reason="this is what is tested")

from prompt_tuning.data import seqio_evaluation, seqio_input

_VOCABULARY = vocabularies.ByteVocabulary()
_ROWS = [
  {"inputs": "so good", "targets": "good"},
  {"inputs": "so very bad", "targets": "bad"},
  {"inputs": "é", "targets": "good"},
]


def _ids(text):
  return [*_VOCABULARY.encode(text), 1]


def _accuracy(targets, predictions):
  pairs = zip(targets, predictions, strict=True)
  return {"accuracy": 100 * np.mean([t == p for t, p in pairs])}


def _mean_score(targets, scores):
  del targets
  return {"mean_score": float(np.mean(scores))}


def _builder(inputs=16, targets=6, **options):
  return FeatureBuilder(
    FeatureLengths(inputs, targets),
    vocab_size=300,
    layout=layout.prefix(2),
    **options,
  )


@pytest.fixture
def add_scored(add_task):
  def add(rows=None, **options):
    options = {"metric_fns": [_accuracy]} | options
    return add_task(rows or _ROWS, **options)

  return add


def _each(function):
  """Makes of a function of one batch's features what answers batches."""
  return lambda batches: ((b, function(b.features)) for b in batches)


class _Predictions:
  """Predicts one word for everything, and remembers the batches."""

  def __init__(self, word):
    self.batches = []
    self._tokens = _ids(word)

  def __call__(self, batches):
    for batch in batches:
      self.batches.append(batch.features)
      rows = len(batch.indices)
      yield batch, np.tile(np.array(self._tokens, np.int32), (rows, 1))


def _evaluator(name, **options):
  options = {"builder": _builder(), "batch_size": 2} | options
  return seqio_evaluation.TaskEvaluator(name, **options)


def _evaluate(name, predict, **options):
  """Returns the metrics of the only task."""
  results = _evaluator(name, **options).evaluate(predict=predict)
  assert list(results) == [name]
  return results[name].metrics


def test_metrics_of_predictions(add_scored):
  metrics = _evaluate(add_scored(), _Predictions("good"), split="train")
  assert metrics["accuracy"] == pytest.approx(200 / 3)


def test_metrics_of_scores(add_scored):
  name = add_scored(metric_fns=[_mean_score])
  results = _evaluator(name, split="train").evaluate(
    score=_each(lambda batch: -batch["decoder_loss_weights"].sum(axis=1))
  )
  lengths = [len(_ids(row["targets"])) for row in _ROWS]
  expected = pytest.approx(-np.mean(lengths))
  assert results[name].metrics["mean_score"] == expected


def test_batches_are_those_of_our_features(add_scored):
  predict = _Predictions("good")
  name = add_scored()
  _evaluate(name, predict, split="train")
  examples = seqio_input.read_task(name, "train")
  expected = [
    _builder().batch(examples[:2]),
    _builder().batch(examples[2:], num_rows=2),
  ]
  for batch, features in zip(predict.batches, expected, strict=True):
    assert batch.keys() == features.keys()
    for feature, values in features.items():
      np.testing.assert_array_equal(batch[feature], values)
      assert batch[feature].dtype == values.dtype


def test_prompt_index_reaches_the_slots(add_scored):
  rows = [row | {"prompt_index": i} for i, row in enumerate(_ROWS)]
  predict = _Predictions("good")
  builder = _builder(num_prompts=3)
  _evaluate(add_scored(rows), predict, split="train", builder=builder)
  tokens = np.concatenate([b["encoder_input_tokens"] for b in predict.batches])
  assert tokens[:3, 0].tolist() == [300, 302, 304]


def test_answers_are_given_back_in_the_order_of_the_examples(
  add_scored, tmp_path
):
  words = ["a", "long" * 9, "bb", "longer" * 7, "c", "ddd", "medium" * 3]
  rows = [{"inputs": word, "targets": word[:2]} for word in words]
  name = add_scored(rows)
  lengths = []

  def first_letters(features):
    tokens = features["encoder_input_tokens"]
    lengths.append(tokens.shape[1])
    return np.where(tokens[:, 2:4] > 1, tokens[:, 2:4], 0)

  evaluator = _evaluator(
    name,
    builder=_builder(inputs=50),
    length_buckets=3,
    split="train",
    output_dir=str(tmp_path),
  )
  results = evaluator.evaluate(predict=_each(first_letters), step=1)
  assert results[name].metrics == {"accuracy": 100.0}
  assert lengths == [48, 24, 8, 8]
  lines = (tmp_path / f"{name}-000001.jsonl").read_text().splitlines()
  assert [json.loads(line)["prediction"] for line in lines] == [
    word[:2] for word in words
  ]


def test_postprocessor_sees_decoded_text(add_scored):
  def label(text, example=None, is_target=False):
    del example, is_target
    return {"good": 1, "bad": 0}[text]

  name = add_scored(postprocess_fn=label)
  assert _evaluate(name, _Predictions("bad")) == {"accuracy": 50.0}


def test_files_for_metrics_and_predictions(add_scored, tmp_path):
  name = add_scored()
  evaluator = _evaluator(name, output_dir=str(tmp_path))
  for step in (10, 20):
    evaluator.evaluate(predict=_Predictions("bad"), step=step)
  lines = (tmp_path / f"{name}-metrics.jsonl").read_text().splitlines()
  assert [json.loads(line) for line in lines] == [
    {"step": 10, "accuracy": 50.0},
    {"step": 20, "accuracy": 50.0},
  ]
  lines = (tmp_path / f"{name}-000020.jsonl").read_text().splitlines()
  rows = [json.loads(line) for line in lines]
  assert [row["prediction"] for row in rows] == ["bad", "bad"]
  assert [row["target"] for row in rows] == ["good", "bad"]
  assert rows[0]["input"]["inputs_pretokenized"] == "so good"


def test_a_step_that_comes_again_replaces_itself(add_scored, tmp_path):
  name = add_scored()

  def evaluate(word, step):
    evaluator = _evaluator(name, output_dir=str(tmp_path))
    evaluator.evaluate(predict=_Predictions(word), step=step)

  for word, step in (("bad", 10), ("none", 20), ("bad", 20), ("bad", 30)):
    evaluate(word, step)
  lines = (tmp_path / f"{name}-metrics.jsonl").read_text().splitlines()
  assert [json.loads(line) for line in lines] == [
    {"step": step, "accuracy": 50.0} for step in (10, 20, 30)
  ]


def test_a_bank_takes_no_example_that_names_no_prompt(add_scored):
  with pytest.raises(ValueError, match="does not say which of the bank's 3"):
    _evaluator(add_scored(), builder=_builder(num_prompts=3))


def test_mixture_evaluates_each_task(add_scored, add_mixture):
  names = [add_scored(), add_scored(prefix="other")]
  mixture = add_mixture([(name, 1) for name in names])
  evaluator = _evaluator(mixture)
  results = evaluator.evaluate(predict=_Predictions("good"))
  assert {n: result.num_examples for n, result in results.items()} == (
    dict.fromkeys(names, 2)
  )


def test_only_the_first_examples(add_scored):
  predict = _Predictions("good")
  metrics = _evaluate(add_scored(), predict, num_examples=1)
  assert metrics == {"accuracy": 100.0}
  assert len(predict.batches) == 1


def test_inputs_are_cut_and_targets_are_not(add_scored):
  name = add_scored()
  evaluator = _evaluator(name, split="train", builder=_builder(inputs=8))
  assert "inputs: longest of 3 examples 12 tokens" in evaluator.cuts[name]
  assert "cut 1 examples" in evaluator.cuts[name]
  with pytest.raises(ValueError, match=r"\('so good'\): the target has 5 tok"):
    _evaluator(name, builder=_builder(targets=4))


def test_empty_input_is_named(add_scored):
  name = add_scored([{"inputs": "", "targets": "good"}])
  with pytest.raises(ValueError, match=r"example 0 .*: the input has no token"):
    _evaluator(name)


@pytest.mark.parametrize(
  ("task", "options", "message"),
  [
    ({"metric_fns": []}, {}, "nothing to evaluate: no task of"),
    ({}, {"split": "test"}, r"no task of .* split 'test'; tasks and splits"),
    ({}, {"use_cached": True}, "none of the cache folders"),
  ],
)
def test_what_seqio_would_only_skip(add_scored, task, options, message):
  with pytest.raises(ValueError, match=message):
    _evaluator(add_scored(**task), **options)


def test_missing_function(add_scored):
  with pytest.raises(ValueError, match="needs predictions, and no function"):
    _evaluator(add_scored()).evaluate(score=len)
  evaluator = _evaluator(add_scored(metric_fns=[_mean_score]))
  with pytest.raises(ValueError, match="needs scores, and no function"):
    evaluator.evaluate(predict=_Predictions("good"))


def test_function_that_loses_rows(add_scored):
  with pytest.raises(ValueError, match="must return 2 rows, got an array of"):
    _evaluate(add_scored(), _each(lambda batch: np.zeros((1, 3), int)))
