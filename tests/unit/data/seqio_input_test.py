"""Tasks and Mixtures of seqio: read whole, mixed, cached."""

import json

import numpy as np
import pytest

from prompt_tuning.data import vocabularies
from prompt_tuning.data.batches import Batches
from prompt_tuning.data.features import FeatureBuilder, FeatureLengths
from prompt_tuning.prompts import layout

seqio = pytest.importorskip("seqio", reason="this is what is tested")
tf = pytest.importorskip("tensorflow", reason="seqio runs on it")

from prompt_tuning.data import seqio_input  # noqa: E402

_VOCABULARY = vocabularies.ByteVocabulary()
_ROWS = [
  {"inputs": "so good", "targets": "good"},
  {"inputs": "so very bad", "targets": "bad"},
  {"inputs": "é", "targets": "good"},
]


def _ids(text):
  return [*_VOCABULARY.encode(text), 1]


def _builder(inputs=16, targets=6, **options):
  return FeatureBuilder(
    FeatureLengths(inputs, targets),
    vocab_size=300,
    layout=layout.prefix(2),
    **options,
  )


class TestReading:
  def test_a_task_is_read_whole_and_in_order(self, add_task):
    examples = seqio_input.read_task(add_task(_ROWS), "train")
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
    name = add_task(_ROWS, prefix="sentiment")
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
      seqio_input.read_task(add_task(_ROWS), "test")

  def test_mixture_is_no_list(self, add_task, add_mixture):
    name = add_mixture([(add_task(_ROWS), 1)])
    with pytest.raises(ValueError, match="is a mixture of"):
      seqio_input.read_task(name, "train")

  def test_preprocessor_that_trims(self, add_plain_task):
    def trim(dataset, sequence_length):
      return dataset.take(sequence_length["inputs"])

    name = add_plain_task(_ROWS, [seqio.preprocessors.tokenize, trim])
    with pytest.raises(ValueError, match=r"trim of task .* wants the feature"):
      seqio_input.read_task(name, "train")

  def test_eos_after_trim_does_not_trim(self, add_plain_task):
    steps = [
      seqio.preprocessors.tokenize,
      seqio.preprocessors.append_eos_after_trim,
    ]
    examples = seqio_input.read_task(add_plain_task(_ROWS, steps), "train")
    assert examples[1]["inputs"].tolist() == _ids(_ROWS[1]["inputs"])


class TestVocabulary:
  def test_other_vocabulary(self, add_task):
    task = seqio_input.find(add_task(_ROWS))
    seqio_input.check_vocabulary(task, _VOCABULARY)
    other = vocabularies.ByteVocabulary(extra_ids=3)
    with pytest.raises(ValueError, match=r"feature 'inputs' of task .* differ"):
      seqio_input.check_vocabulary(task, other)


class TestStreams:
  def _take(self, name, count, **options):
    stream = seqio_input.training_stream(name, seed=4, **options)
    batches = Batches(stream, _builder(), batch_size=2)
    return batches, [next(batches) for _ in range(count)]

  def test_task_epochs(self, add_task):
    stream = seqio_input.training_stream(add_task(_ROWS), seed=0)
    texts = [stream.example(n)["inputs_pretokenized"] for n in range(6)]
    for epoch in (texts[:3], texts[3:]):
      assert sorted(epoch) == sorted(row["inputs"] for row in _ROWS)

  def test_mixture_draws_at_its_rates(self, add_task, add_mixture):
    often, seldom = add_task(_ROWS), add_task(_ROWS[:1], prefix="seldom")
    name = add_mixture([(often, 9.0), (seldom, 1.0)])
    stream = seqio_input.training_stream(name, seed=0)
    texts = [stream.example(n)["inputs_pretokenized"] for n in range(3000)]
    # "so good" is a third of one task and all of the other.
    assert np.mean([t == "so good" for t in texts]) == pytest.approx(
      0.9 / 3 + 0.1, abs=0.04
    )

  def test_nested_mixture_has_seqio_s_rates(self, add_task, add_mixture):
    first, second = add_task(_ROWS), add_task(_ROWS, prefix="second")
    inner = add_mixture([(first, 3.0), (second, 1.0)])
    outer = add_mixture([(inner, 2.0), (second, 2.0)])
    card = seqio_input.training_stream(outer, seed=0).card()
    # 3/4 of one half, and 1/4 of one half with the other half.
    assert card["rates"] == pytest.approx({first: 0.375, second: 0.625})

  def test_mixture_resumes_exactly(self, add_task, add_mixture):
    name = add_mixture(
      [(add_task(_ROWS), 1), (add_task(_ROWS, prefix="other"), 2)]
    )
    _, whole = self._take(name, 9)
    stopped, _ = self._take(name, 4)
    resumed, _ = self._take(name, 0)
    resumed.restore(json.loads(json.dumps(stopped.state())))
    for expected in whole[4:]:
      batch = next(resumed)
      for feature, values in expected.items():
        np.testing.assert_array_equal(batch[feature], values)

  def test_target_that_is_no_class_label(self, add_task):
    name = add_task(_ROWS)
    allowed = {tuple(_ids(text)): text for text in ("good", "bad")}
    stream = seqio_input.training_stream(name, seed=0, targets=allowed)
    assert len(stream.examples) == 3
    del allowed[tuple(_ids("bad"))]
    message = r"example 1: the target 'bad' is not among the class labels"
    with pytest.raises(ValueError, match=message):
      seqio_input.training_stream(name, seed=0, targets=allowed)

  def test_tasks_without_the_split_are_left_out(self, add_task, add_mixture):
    only_train = add_task(
      source=seqio_input.in_memory_source({"train": _ROWS[:1]})
    )
    name = add_mixture([(only_train, 1), (add_task(_ROWS), 1)])
    stream = seqio_input.training_stream(name, "validation", seed=0)
    assert len(stream.card()["streams"]) == 1
    with pytest.raises(ValueError, match=r"no task of the mixture .* 'test'"):
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
    name = add_task(_ROWS)
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
      seqio_input.read_task(add_task(_ROWS), "train", use_cached=True)

  def test_task_that_cannot_be_cached(self, add_plain_task):
    name = add_plain_task(_ROWS, [seqio.preprocessors.tokenize])
    with pytest.raises(ValueError, match="cannot be cached: it has no Cache"):
      seqio_input.read_task(name, "train", use_cached=True)
