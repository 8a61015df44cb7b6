"""Tasks and Mixtures of seqio: read whole, mixed, cached."""

import json
import pathlib

import numpy as np
import pytest

from prompt_tuning import config
from prompt_tuning.data import text_tasks, vocabularies
from prompt_tuning.data.batches import Batches
from prompt_tuning.data.features import FeatureBuilder, FeatureLengths
from prompt_tuning.data.inputs import TaskInputs
from prompt_tuning.evaluate.tasks import TaskEvaluation
from prompt_tuning.metrics.classification import accuracy
from prompt_tuning.prompts import layout
from prompt_tuning.runs import train
from prompt_tuning.testing import fakes

seqio = pytest.importorskip("seqio", reason="this is what is tested")
tf = pytest.importorskip("tensorflow", reason="seqio runs on it")

from prompt_tuning.data import (  # noqa: E402
  seqio_cache,
  seqio_input,
  seqio_tasks,
)

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


def in_memory(splits):
  return seqio_tasks.ExamplesSource("rows", text_tasks.in_memory(splits))


def of_file(path, **options):
  splits = text_tasks.from_files({"train": str(path)}, **options)
  return seqio_tasks.ExamplesSource("rows", splits)


class _AlwaysGood:
  """A predictor that answers the same to everything."""

  def build(self, model, **unused):
    return lambda params, batch, rng: np.array([_ids("good")] * 2, np.int32)


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
    source = of_file(
      path, inputs="review: {t}", targets="y", verbalizers=["bad", "good"]
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
    source = of_file(path, inputs="{t}", targets="y", verbalizers=["a", "b"])
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
      ([{"inputs": "a", "targets": {"b"}}], r"example 0 must have .*\{'b'\}"),
    ],
  )
  def test_malformed_examples(self, rows, message):
    source = in_memory({"train": rows})
    with pytest.raises(ValueError, match=message):
      source.get_dataset("train")

  def test_shuffled_source_has_the_same_examples(self):
    source = in_memory({"train": _ROWS * 5})
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
    only_train = add_task(source=in_memory({"train": _ROWS[:1]}))
    name = add_mixture([(only_train, 1), (add_task(_ROWS), 1)])
    stream = seqio_input.training_stream(name, "validation", seed=0)
    assert len(stream.card()["streams"]) == 1
    with pytest.raises(ValueError, match=r"no task of the mixture .* 'test'"):
      seqio_input.training_stream(name, "test", seed=0)


@pytest.mark.usefixtures("restored_cache_dirs")
class TestCachedTasks:
  def test_cached_task_reads_as_the_uncached_one(self, add_task, tmp_path):
    name = add_task(_ROWS)
    direct = seqio_input.read_task(name, "train")
    seqio_cache.cache_task(name, tmp_path)
    seqio_input.find(name, cache_dirs=[str(tmp_path)])
    cached = seqio_input.read_task(name, "train", use_cached=True)
    assert len(cached) == len(direct) == 3
    for left, right in zip(cached, direct, strict=True):
      assert left.keys() == right.keys()
      for key in left:
        np.testing.assert_array_equal(left[key], right[key])

  def test_the_cache_is_what_is_read(self, add_task, tmp_path):
    rows = list(_ROWS)
    source = in_memory({"train": rows})
    name = add_task(source=source)
    seqio_cache.cache_task(name, tmp_path)
    seqio_input.find(name, cache_dirs=[str(tmp_path)])
    source._readers["train"] = None
    examples = seqio_input.read_task(name, "train", use_cached=True)
    assert len(examples) == 3

  def test_a_cached_tfds_task_needs_no_tfds_data(
    self, add_task, tmp_path, monkeypatch
  ):
    name = add_task(_ROWS)
    seqio_cache.cache_task(name, tmp_path)
    task = seqio_input.find(name, cache_dirs=[str(tmp_path)])
    absent = seqio.TfdsDataSource(
      tfds_name="glue/sst2:2.0.0", tfds_data_dir=str(tmp_path / "none")
    )
    monkeypatch.setattr(task, "_source", absent)
    assert "train" in seqio_input.splits(task, use_cached=True)
    seqio_input.check_split(task, "train", use_cached=True)
    assert len(seqio_input.read_task(name, "train", use_cached=True)) == 3

  def test_inputs_name_the_folder(self, add_task, tmp_path):
    name = add_task(_ROWS)
    seqio_cache.cache_task(name, tmp_path / "there")
    inputs = TaskInputs(
      task=name, use_cached=True, cache_dirs=[str(tmp_path / "there")]
    )
    inputs.check(_VOCABULARY, FeatureLengths(16, 6))
    examples = inputs.examples(_VOCABULARY)
    assert [e["inputs_pretokenized"] for e in examples] == [
      row["inputs"] for row in _ROWS
    ]

  def test_a_recipe_names_the_folder(self, add_task, tmp_path):
    name = add_task(_ROWS, metric_fns=[accuracy])
    seqio_cache.cache_task(name, tmp_path / "there")
    config.parse(
      ["models/byt5.gin", "sizes/byt5_small.gin", "runs/prompt_tune.gin"],
      [
        "INITIAL_CHECKPOINT_PATH='/no/such/checkpoint'",
        "MODEL_DIR='/no/such/model_dir'",
        f"MIXTURE_OR_TASK_NAME='{name}'",
        "TASK_FEATURE_LENGTHS={'inputs': 16, 'targets': 6}",
        "TRAIN_STEPS=1",
        "USE_CACHED_TASKS=True",
        f"SEQIO_CACHE_DIRS=('{tmp_path / 'there'}',)",
      ],
      entry=train.train,
    )
    arguments = config.arguments(train.train)
    assert len(arguments["inputs"].examples(_VOCABULARY)) == 3
    [evaluation] = arguments["evaluations"]
    assert evaluation.use_cached
    assert evaluation.cache_dirs == (str(tmp_path / "there"),)

  def test_evaluation_names_the_folder(self, add_task, tmp_path):
    source = in_memory({"validation": _ROWS})
    name = add_task(source=source, metric_fns=[accuracy])
    seqio_cache.cache_task(name, tmp_path / "there")
    source._readers["validation"] = None
    measure = TaskEvaluation(
      task=name,
      predictor=_AlwaysGood(),
      batch_size=2,
      use_cached=True,
      cache_dirs=[str(tmp_path / "there")],
    ).prepare(
      fakes.tiny_model(vocab_size=300),
      vocabulary=_VOCABULARY,
      lengths=FeatureLengths(16, 6),
      layout=layout.prefix(0),
      output_dir=str(tmp_path / "out"),
    )
    # Two of the three are good.
    assert measure({}, 0)[f"{name}/accuracy"] == pytest.approx(200 / 3)

  def test_a_folder_adds_to_those_that_seqio_knows(self, add_task, tmp_path):
    name = add_task(_ROWS)
    seqio_cache.cache_task(name, tmp_path)
    seqio.add_global_cache_dirs([str(tmp_path)])
    seqio_input.find(name, cache_dirs=[str(tmp_path / "another")])
    assert len(seqio_input.read_task(name, "train", use_cached=True)) == 3

  def test_absent_cache(self, add_task, tmp_path):
    name = add_task(_ROWS)
    message = r"is in none of the cache folders \[\];.* in SEQIO_CACHE_DIRS, or"
    with pytest.raises(ValueError, match=message):
      seqio_input.read_task(name, "train", use_cached=True)
    missing = str(tmp_path / "missing")
    seqio_input.find(name, cache_dirs=[missing])
    with pytest.raises(ValueError, match=f"{missing} does not exist"):
      seqio_input.read_task(name, "train", use_cached=True)

  def test_interrupted_caching(self, add_task, tmp_path):
    name = add_task(_ROWS)
    folder = pathlib.Path(seqio_cache.cache_task(name, tmp_path))
    (folder / "COMPLETED").unlink()
    seqio_input.find(name, cache_dirs=[str(tmp_path)])
    with pytest.raises(ValueError, match=f"{name} is incomplete, as it lacks"):
      seqio_input.read_task(name, "train", use_cached=True)

  def test_split_that_was_not_cached(self, add_task, tmp_path):
    name = add_task(_ROWS)
    seqio_cache.cache_task(name, tmp_path, splits=["validation"])
    seqio_input.find(name, cache_dirs=[str(tmp_path)])
    with pytest.raises(ValueError, match="holds no split 'train' of task"):
      seqio_input.read_task(name, "train", use_cached=True)

  def test_task_that_cannot_be_cached(self, add_plain_task):
    name = add_plain_task(_ROWS, [seqio.preprocessors.tokenize])
    with pytest.raises(ValueError, match="cannot be cached: it has no Cache"):
      seqio_input.read_task(name, "train", use_cached=True)


class TestChecks:
  def test_of_a_file_only_the_first_line_is_read(self, add_task, tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"t": "x", "y": "z"}\nnot JSON\n')
    source = of_file(path, inputs="{t}", targets="{y}")
    task = seqio_input.find(add_task(source=source))
    seqio_input.check_split(task, "train", use_cached=False)
    path.write_text('{"t": "x"}\n{"t": "x", "y": "z"}\n')
    with pytest.raises(ValueError, match="line 1: field 'y' is missing"):
      seqio_input.check_split(task, "train", use_cached=False)
    path.unlink()
    with pytest.raises(ValueError, match=r"cannot read .*a\.jsonl"):
      seqio_input.check_split(task, "train", use_cached=False)

  def test_examples_that_come_all_at_once_are_not_made(self, add_task):
    def make():
      raise AssertionError("this is what takes time")

    source = seqio_tasks.ExamplesSource("made", {"train": make})
    task = seqio_input.find(add_task(source=source))
    seqio_input.check_split(task, "train", use_cached=False)

  def test_a_mixture_is_checked_task_by_task(
    self, add_task, add_mixture, tmp_path
  ):
    lost = of_file(tmp_path / "lost.tsv", inputs="{a}", targets="{b}")
    tasks = [(add_task(_ROWS), 1), (add_task(source=lost), 1)]
    mixture = seqio_input.find(add_mixture(tasks))
    seqio_input.check_split(mixture, "validation", use_cached=False)
    with pytest.raises(ValueError, match=r"cannot read .*lost\.tsv"):
      seqio_input.check_split(mixture, "train", use_cached=False)
    with pytest.raises(ValueError, match=r"no task of the mixture .* 'test'"):
      seqio_input.check_split(mixture, "test", use_cached=False)
