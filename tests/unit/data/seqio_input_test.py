"""Tasks and Mixtures of seqio: read whole, mixed, cached, evaluated."""

import json
import uuid

import numpy as np
import pytest

from prompt_tuning.data import vocabularies
from prompt_tuning.data.batches import Batches
from prompt_tuning.data.features import FeatureBuilder, FeatureLengths
from prompt_tuning.prompts import layout

seqio = pytest.importorskip("seqio", reason="this is what is tested")
tf = pytest.importorskip("tensorflow", reason="seqio runs on it")

from prompt_tuning.data import seqio_evaluation, seqio_input  # noqa: E402

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


@pytest.fixture
def add_task():
  """Registers tasks under unique names, and removes them afterwards."""
  names = []

  def add(rows=None, *, prefix="task", source=None, **options):
    name = f"{prefix}_{uuid.uuid4().hex[:8]}"
    names.append(name)
    if source is None:
      source = seqio_input.in_memory_source(
        {"train": rows or _ROWS, "validation": (rows or _ROWS)[:2]}
      )
    options = {"metric_fns": [_accuracy]} | options
    seqio_input.add_text_task(name, source, vocabulary=_VOCABULARY, **options)
    return name

  yield add
  for name in names:
    seqio.TaskRegistry.remove(name)


@pytest.fixture
def add_mixture():
  names = []

  def add(tasks):
    names.append(f"mixture_{uuid.uuid4().hex[:8]}")
    seqio.MixtureRegistry.add(names[-1], tasks)
    return names[-1]

  yield add
  for name in names:
    seqio.MixtureRegistry.remove(name)


def _builder(inputs=16, targets=6, **options):
  return FeatureBuilder(
    FeatureLengths(inputs, targets),
    vocab_size=300,
    layout=layout.prefix(2),
    **options,
  )


class TestReading:
  def test_a_task_is_read_whole_and_in_order(self, add_task):
    examples = seqio_input.read_task(add_task(), "train")
    assert len(examples) == 3
    for example, row in zip(examples, _ROWS, strict=True):
      assert example["inputs"].tolist() == _ids(row["inputs"])
      assert example["targets"].tolist() == _ids(row["targets"])
      assert example["inputs"].dtype == np.int32
      assert example["inputs_pretokenized"] == row["inputs"]
      assert example["targets_pretokenized"] == row["targets"]

  def test_other_fields_stay(self, add_task):
    rows = [
      row | {"prompt_index": i, "weight": 0.5} for i, row in enumerate(_ROWS)
    ]
    examples = seqio_input.read_task(add_task(rows), "train")
    assert [example["prompt_index"] for example in examples] == [0, 1, 2]
    assert examples[0]["weight"] == 0.5

  @pytest.mark.parametrize("name", ["a.tsv", "a.jsonl"])
  def test_local_files(self, add_task, tmp_path, name):
    path = tmp_path / name
    rows = [("so good", 1), ("so bad", 0)]
    if name.endswith("tsv"):
      path.write_text("".join(f"{t}\t{y}\n" for t, y in [("t", "y"), *rows]))
    else:
      lines = [json.dumps({"t": t, "y": y}) + "\n" for t, y in rows]
      path.write_text("".join(lines))
    source = seqio_input.file_source(
      {"train": str(path)},
      inputs="review: {t}",
      targets="y",
      verbalizers=["bad", "good"],
    )
    assert source.num_input_examples("train") == 2
    examples = seqio_input.read_task(add_task(source=source), "train")
    texts = [
      (e["inputs_pretokenized"], e["targets_pretokenized"]) for e in examples
    ]
    assert texts == [("review: so good", "good"), ("review: so bad", "bad")]

  def test_bad_file_is_named(self, add_task, tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"t": "x", "y": 7}\n')
    source = seqio_input.file_source(
      {"train": str(path)}, inputs="{t}", targets="y", verbalizers=["a", "b"]
    )
    name = add_task(source=source)
    with pytest.raises(ValueError, match=r"a\.jsonl, line 1: label 7 has no"):
      seqio_input.read_task(name, "train")

  def test_tensorflow_datasets_and_tasks_that_others_made(self, add_task):
    # As TFDS gives them: other field names, integer labels.
    source = seqio.FunctionDataSource(
      lambda split, shuffle_files, seed=None: (
        tf.data.Dataset.from_tensor_slices(
          {"sentence": ["fine", "poor"], "label": [1, 0]}
        )
      ),
      splits=["train"],
    )

    @seqio.map_over_dataset
    def to_text(example):
      words = tf.constant(["bad", "good"])
      return {
        "inputs": example["sentence"],
        "targets": tf.gather(words, example["label"]),
      }

    name = add_task(source=source, preprocessors=[to_text])
    examples = seqio_input.read_task(name, "train")
    assert [e["targets_pretokenized"] for e in examples] == ["good", "bad"]

  @pytest.mark.parametrize(
    ("rows", "message"),
    [
      ([], "split 'train' has no examples"),
      (
        [{"inputs": "a", "targets": "b"}, {"inputs": "a"}],
        "example 1 must have",
      ),
      ([{"inputs": "a", "targets": ["b"]}], r"example 0 must have .*\['b'\]"),
    ],
  )
  def test_malformed_examples(self, rows, message):
    source = seqio_input.in_memory_source({"train": rows})
    with pytest.raises(ValueError, match=message):
      source.get_dataset("train")

  def test_shuffled_source_has_the_same_examples(self):
    source = seqio_input.in_memory_source({"train": _ROWS * 5})
    rows = source.get_dataset("train", shuffle=True, seed=3).as_numpy_iterator()
    texts = [row["inputs"].decode() for row in rows]
    given = [row["inputs"] for row in _ROWS * 5]
    assert sorted(texts) == sorted(given)
    assert texts != given


class TestFinding:
  def test_near_names_and_module_are_listed(self, add_task):
    name = add_task(prefix="sentiment")
    with pytest.raises(ValueError, match=rf"no task .* near names: {name}"):
      seqio_input.find(name.replace("sentiment", "sentimant"))
    with pytest.raises(ValueError, match="MODULE 'json' was imported"):
      seqio_input.find("no such task", module="json")
    with pytest.raises(ValueError, match="no MIXTURE_OR_TASK_MODULE was"):
      seqio_input.find("no such task")

  def test_module_that_cannot_be_imported(self):
    with pytest.raises(ValueError, match="'no_such_module' cannot be imported"):
      seqio_input.find("anything", module="no_such_module")

  def test_missing_split(self, add_task):
    message = r"no split 'test'; its splits are \['train', 'validation'\]"
    with pytest.raises(ValueError, match=message):
      seqio_input.read_task(add_task(), "test")

  def test_mixture_is_no_list(self, add_task, add_mixture):
    name = add_mixture([(add_task(), 1)])
    with pytest.raises(ValueError, match="is a mixture of"):
      seqio_input.read_task(name, "train")

  def test_preprocessor_that_trims(self, add_task):
    def trim(dataset, sequence_length):
      return dataset.take(sequence_length["inputs"])

    task = seqio.TaskRegistry.get(add_task())
    name = f"trimming_{uuid.uuid4().hex[:8]}"
    seqio.TaskRegistry.add(
      name,
      source=task.source,
      preprocessors=[seqio.preprocessors.tokenize, trim],
      output_features=task.output_features,
    )
    with pytest.raises(ValueError, match="trim of task .* wants the feature"):
      seqio_input.read_task(name, "train")
    seqio.TaskRegistry.remove(name)

  def test_eos_after_trim_does_not_trim(self, add_task):
    task = seqio.TaskRegistry.get(add_task())
    name = f"trimming_{uuid.uuid4().hex[:8]}"
    seqio.TaskRegistry.add(
      name,
      source=task.source,
      preprocessors=[
        seqio.preprocessors.tokenize,
        seqio.preprocessors.append_eos_after_trim,
      ],
      output_features=task.output_features,
    )
    examples = seqio_input.read_task(name, "train")
    assert examples[1]["inputs"].tolist() == _ids(_ROWS[1]["inputs"])
    seqio.TaskRegistry.remove(name)


class TestVocabulary:
  def test_other_vocabulary(self, add_task):
    task = seqio_input.find(add_task())
    seqio_input.check_vocabulary(task, _VOCABULARY)
    other = vocabularies.ByteVocabulary(extra_ids=3)
    with pytest.raises(ValueError, match="feature 'inputs' of task .* differ"):
      seqio_input.check_vocabulary(task, other)


class TestStreams:
  def _take(self, name, count, **options):
    stream = seqio_input.training_stream(name, seed=4, **options)
    batches = Batches(stream, _builder(), batch_size=2)
    return batches, [next(batches) for _ in range(count)]

  def test_task_epochs(self, add_task):
    stream = seqio_input.training_stream(add_task(), seed=0)
    texts = [stream.example(n)["inputs_pretokenized"] for n in range(6)]
    for epoch in (texts[:3], texts[3:]):
      assert sorted(epoch) == sorted(row["inputs"] for row in _ROWS)

  def test_mixture_draws_at_its_rates(self, add_task, add_mixture):
    often, seldom = add_task(), add_task(_ROWS[:1], prefix="seldom")
    name = add_mixture([(often, 9.0), (seldom, 1.0)])
    stream = seqio_input.training_stream(name, seed=0)
    texts = [stream.example(n)["inputs_pretokenized"] for n in range(3000)]
    # "so good" is a third of one task and all of the other.
    assert np.mean([t == "so good" for t in texts]) == pytest.approx(
      0.9 / 3 + 0.1, abs=0.04
    )

  def test_nested_mixture_has_seqio_s_rates(self, add_task, add_mixture):
    first, second = add_task(), add_task(prefix="second")
    inner = add_mixture([(first, 3.0), (second, 1.0)])
    outer = add_mixture([(inner, 2.0), (second, 2.0)])
    card = seqio_input.training_stream(outer, seed=0).card()
    # 3/4 of one half, and 1/4 of one half with the other half.
    assert card["rates"] == pytest.approx({first: 0.375, second: 0.625})

  def test_mixture_resumes_exactly(self, add_task, add_mixture):
    name = add_mixture([(add_task(), 1), (add_task(prefix="other"), 2)])
    _, whole = self._take(name, 9)
    stopped, _ = self._take(name, 4)
    resumed, _ = self._take(name, 0)
    resumed.restore(json.loads(json.dumps(stopped.state())))
    for expected in whole[4:]:
      batch = next(resumed)
      for feature, values in expected.items():
        np.testing.assert_array_equal(batch[feature], values)

  def test_tasks_without_the_split_are_left_out(self, add_task, add_mixture):
    only_train = add_task(
      source=seqio_input.in_memory_source({"train": _ROWS[:1]})
    )
    name = add_mixture([(only_train, 1), (add_task(), 1)])
    stream = seqio_input.training_stream(name, "validation", seed=0)
    assert len(stream.card()["streams"]) == 1
    with pytest.raises(ValueError, match="no task of the mixture .* 'test'"):
      seqio_input.training_stream(name, "test", seed=0)


class TestCachedTasks:
  @pytest.fixture
  def cache_dir(self, tmp_path):
    before = list(seqio.utils.get_global_cache_dirs())
    seqio.set_global_cache_dirs([str(tmp_path)])
    yield tmp_path
    seqio.set_global_cache_dirs(before)

  def _cache(self, name, cache_dir):
    """Writes the format of seqio's own caching tool, which needs Beam."""
    task = seqio.TaskRegistry.get(name)
    folder = cache_dir / seqio.utils.get_task_dir_from_name(name)
    folder.mkdir()
    for split in task.splits:
      raw = task.source.get_dataset(split, shuffle=False)
      examples = list(task.preprocess_precache(raw).as_numpy_iterator())
      prefix = seqio.utils.get_cached_tfrecord_prefix(str(folder), split)
      with tf.io.TFRecordWriter(f"{prefix}-00000-of-00001") as writer:
        for example in examples:
          proto = seqio.utils.dict_to_tfexample(example)
          writer.write(proto.SerializeToString())
      described = {
        key: {
          "shape": [None] * np.ndim(value),
          "dtype": "string" if isinstance(value, bytes) else str(value.dtype),
        }
        for key, value in examples[0].items()
      }
      info = {"num_shards": 1, "features": described, "seqio_version": "0.0.20"}
      path = seqio.utils.get_cached_info_path(str(folder), split)
      with open(path, "w") as file:
        json.dump(info, file)
      path = seqio.utils.get_cached_stats_path(str(folder), split)
      with open(path, "w") as file:
        json.dump({"examples": len(examples)}, file)
    (folder / "COMPLETED").touch()

  def test_cached_task_reads_as_the_uncached_one(self, add_task, cache_dir):
    name = add_task()
    direct = seqio_input.read_task(name, "train")
    self._cache(name, cache_dir)
    cached = seqio_input.read_task(name, "train", use_cached=True)
    assert len(cached) == len(direct) == 3
    for left, right in zip(cached, direct, strict=True):
      assert left.keys() == right.keys()
      for key in left:
        np.testing.assert_array_equal(left[key], right[key])

  def test_the_cache_is_what_is_read(self, add_task, cache_dir):
    rows = list(_ROWS)
    source = seqio_input.in_memory_source({"train": rows})
    name = add_task(source=source)
    self._cache(name, cache_dir)
    source._readers["train"] = None
    examples = seqio_input.read_task(name, "train", use_cached=True)
    assert len(examples) == 3

  def test_absent_cache(self, add_task, cache_dir):
    message = r"is in none of the cache folders .* USE_CACHED_TASKS = False"
    with pytest.raises(ValueError, match=message):
      seqio_input.read_task(add_task(), "train", use_cached=True)

  def test_task_that_cannot_be_cached(self, add_task):
    task = seqio.TaskRegistry.get(add_task())
    name = f"uncacheable_{uuid.uuid4().hex[:8]}"
    seqio.TaskRegistry.add(
      name,
      source=task.source,
      preprocessors=[seqio.preprocessors.tokenize],
      output_features=task.output_features,
    )
    with pytest.raises(ValueError, match="cannot be cached: it has no Cache"):
      seqio_input.read_task(name, "train", use_cached=True)
    seqio.TaskRegistry.remove(name)


class _Predictions:
  """Predicts one word for everything, and remembers the batches."""

  def __init__(self, word):
    self.batches = []
    self._tokens = _ids(word)

  def __call__(self, batch):
    self.batches.append(batch)
    rows = len(batch["encoder_input_tokens"])
    return np.tile(np.array(self._tokens, np.int32), (rows, 1))


class TestEvaluation:
  def _evaluate(self, name, **options):
    options = {"builder": _builder(), "batch_size": 2} | options
    return seqio_evaluation.evaluate(name, **options)

  def test_metrics_of_predictions(self, add_task):
    predict = _Predictions("good")
    name = add_task()
    (result,) = self._evaluate(name, predict=predict, split="train").values()
    assert result.metrics["accuracy"] == pytest.approx(200 / 3)
    assert result.num_examples == 3
    assert "nothing cut" in result.cuts

  def test_batches_are_those_of_our_features(self, add_task):
    predict = _Predictions("good")
    name = add_task()
    self._evaluate(name, predict=predict, split="train")
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

  def test_prompt_index_reaches_the_slots(self, add_task):
    rows = [row | {"prompt_index": i} for i, row in enumerate(_ROWS)]
    predict = _Predictions("good")
    self._evaluate(
      add_task(rows),
      predict=predict,
      split="train",
      builder=_builder(num_prompts=3),
    )
    tokens = np.concatenate(
      [b["encoder_input_tokens"] for b in predict.batches]
    )
    assert tokens[:3, 0].tolist() == [300, 302, 304]

  def test_metrics_of_scores(self, add_task):
    name = add_task(metric_fns=[_mean_score])
    (result,) = self._evaluate(
      name,
      score=lambda batch: -batch["decoder_loss_weights"].sum(axis=1),
      split="train",
    ).values()
    lengths = [len(_ids(row["targets"])) for row in _ROWS]
    assert result.metrics["mean_score"] == pytest.approx(-np.mean(lengths))

  def test_postprocessor_sees_decoded_text(self, add_task):
    def label(text, example=None, is_target=False):
      del example, is_target
      return {"good": 1, "bad": 0}[text]

    name = add_task(postprocess_fn=label)
    (result,) = self._evaluate(name, predict=_Predictions("bad")).values()
    assert result.metrics == {"accuracy": 50.0}

  def test_files_for_metrics_and_predictions(self, add_task, tmp_path):
    name = add_task()
    for step in (10, 20):
      self._evaluate(
        name, predict=_Predictions("bad"), output_dir=str(tmp_path), step=step
      )
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

  def test_mixture_evaluates_each_task(self, add_task, add_mixture):
    names = [add_task(), add_task(prefix="other")]
    mixture = add_mixture([(name, 1) for name in names])
    results = self._evaluate(mixture, predict=_Predictions("good"))
    assert set(results) == set(names)

  def test_only_the_first_examples(self, add_task):
    predict = _Predictions("good")
    (result,) = self._evaluate(
      add_task(), predict=predict, num_examples=1
    ).values()
    assert result.metrics == {"accuracy": 100.0}
    assert len(predict.batches) == 1

  def test_inputs_are_cut_and_targets_are_not(self, add_task):
    predict = _Predictions("good")
    (result,) = self._evaluate(
      add_task(), predict=predict, split="train", builder=_builder(inputs=8)
    ).values()
    assert "cut 1 examples" in result.cuts
    with pytest.raises(
      ValueError, match=r"'so good'\): the target has 5 token"
    ):
      self._evaluate(add_task(), predict=predict, builder=_builder(targets=4))

  def test_empty_input_is_named(self, add_task):
    rows = [{"inputs": "", "targets": "good"}]
    with pytest.raises(
      ValueError, match="example 0 .*: the input has no token"
    ):
      self._evaluate(add_task(rows), predict=_Predictions("good"))

  @pytest.mark.parametrize(
    ("options", "evaluation", "message"),
    [
      ({}, {"score": _mean_score}, "needs predictions, and no function"),
      ({"metric_fns": [_mean_score]}, {"predict": len}, "needs scores, and no"),
      ({"metric_fns": []}, {"predict": len}, "nothing to evaluate"),
      ({}, {"predict": len, "split": "test"}, "nothing to evaluate: no task"),
      ({}, {"predict": len, "use_cached": True}, "none of the cache folders"),
    ],
  )
  def test_what_seqio_would_skip(self, add_task, options, evaluation, message):
    with pytest.raises(ValueError, match=message):
      self._evaluate(add_task(**options), **evaluation)

  def test_function_that_loses_rows(self, add_task):
    with pytest.raises(ValueError, match="must return 2 rows, got an array of"):
      self._evaluate(add_task(), predict=lambda batch: np.zeros((1, 3), int))
