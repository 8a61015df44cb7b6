"""Batches: resuming exactly, sharding, and the padded last evaluation batch."""

import json

import numpy as np
import pytest

from prompt_tuning.data import objectives
from prompt_tuning.data.batches import Batches, evaluation_batches
from prompt_tuning.data.corpus import Corpus
from prompt_tuning.data.features import FeatureBuilder, FeatureLengths
from prompt_tuning.data.streams import (
  CorpusStream,
  ExamplesInMemory,
  MixtureStream,
)
from prompt_tuning.prompts import layout


def _examples(count):
  return [{"inputs": [10 + i, 1], "targets": [5, 1]} for i in range(count)]


def _builder(inputs=2, targets=2):
  return FeatureBuilder(
    FeatureLengths(inputs, targets), vocab_size=100, layout=layout.prefix(1)
  )


def _words(text):
  return [7] * len(text.split())


def _in_memory(seed=0, **options):
  return ExamplesInMemory(_examples(7), seed=seed, **options)


def _mixture():
  return MixtureStream(
    {"a": _in_memory(1), "b": _in_memory(2)}, rates={"a": 1, "b": 4}, seed=3
  )


def _corpus():
  words = np.random.default_rng(0).integers(3, 90, size=200)
  return CorpusStream(
    Corpus.from_documents([words]),
    objectives.prefix_lm,
    chunk_length=8,
    seed=0,
  )


def _batches(stream, batch_size=3, **options):
  return Batches(stream, _builder(8, 8), batch_size=batch_size, **options)


def _take(iterator, count):
  return [next(iterator) for _ in range(count)]


def _assert_equal(first, second):
  assert len(first) == len(second)
  for left, right in zip(first, second, strict=True):
    assert left.keys() == right.keys()
    for name in left:
      np.testing.assert_array_equal(left[name], right[name])


@pytest.mark.parametrize("make", [_in_memory, _mixture, _corpus])
@pytest.mark.parametrize("steps", [0, 1, 5])
def test_restored_run_equals_the_uninterrupted_one(make, steps):
  uninterrupted = _take(_batches(make()), steps + 6)
  stopped = _batches(make())
  _take(stopped, steps)
  state = json.loads(json.dumps(stopped.state()))
  resumed = _batches(make())
  resumed.restore(state)
  _assert_equal(_take(resumed, 6), uninterrupted[steps:])
  assert resumed.state()["examples_seen"] == 3 * (steps + 6)


@pytest.mark.parametrize("rows", [[0, 1, 2], [3, 4, 5], [0, 3], [5]])
def test_a_process_reads_its_rows_of_the_whole_batch(rows):
  whole = _take(_batches(_in_memory(), 6), 4)
  part = _take(_batches(_in_memory(), 6, rows=rows), 4)
  _assert_equal(part, [{n: x[rows] for n, x in b.items()} for b in whole])


def test_continues_with_another_batch_size():
  small = _batches(_in_memory(), 2)
  rows = [b["encoder_input_tokens"] for b in _take(small, 9)]
  large = _batches(_in_memory(), 6)
  before = _batches(_in_memory(), 3)
  _take(before, 4)
  large.restore(before.state())
  np.testing.assert_array_equal(
    next(large)["encoder_input_tokens"], np.concatenate(rows)[12:18]
  )


def test_an_epoch_ends_within_a_batch():
  rows = [
    b["encoder_input_tokens"][:, 1] for b in _take(_batches(_in_memory()), 7)
  ]
  epochs = np.concatenate(rows).reshape(3, 7)
  for epoch in epochs:
    assert sorted(epoch) == list(range(10, 17))


def test_more_rows_than_examples():
  batch = next(_batches(_in_memory(), 14))
  words = batch["encoder_input_tokens"][:, 1].tolist()
  assert sorted(words) == sorted([*range(10, 17)] * 2)


def test_finite_stream_drops_what_fills_no_batch():
  assert len(list(_batches(_in_memory(num_epochs=2)))) == 14 // 3
  assert list(_batches(_in_memory(num_epochs=1), 8)) == []


@pytest.mark.parametrize(
  ("other", "difference"),
  [
    (_in_memory(seed=5), "seed was 0 and is 5"),
    (ExamplesInMemory(_examples(6), seed=0), "count was 7 and is 6"),
    (_mixture(), "kind was 'examples' and is 'mixture'"),
  ],
)
def test_position_of_other_data(other, difference):
  state = _batches(_in_memory()).state()
  with pytest.raises(ValueError, match=f"other data: .*{difference}"):
    _batches(other).restore(state)


def test_position_of_another_kind():
  with pytest.raises(ValueError, match=r"got \['position'\]"):
    _batches(_in_memory()).restore({"position": 3})


def test_a_batch_without_rows():
  with pytest.raises(ValueError, match="BATCH_SIZE 0 must be positive"):
    Batches(_in_memory(), _builder(), batch_size=0)
  with pytest.raises(ValueError, match="BATCH_SIZE 0 must be positive"):
    list(evaluation_batches(_examples(3), _builder(), batch_size=0))
  with pytest.raises(ValueError, match="LENGTH_BUCKETS 0 must be positive"):
    list(
      evaluation_batches(
        _examples(3), _builder(), batch_size=2, length_buckets=0
      )
    )


@pytest.mark.parametrize("rows", [[], [4], [-1, 0]])
def test_rows_outside_the_batch(rows):
  with pytest.raises(ValueError, match=r"batch of 4 are from 0 to 3, got \["):
    Batches(_in_memory(), _builder(), batch_size=4, rows=rows)


class TestEvaluation:
  def test_every_example_once_in_order(self):
    batches = list(evaluation_batches(_examples(7), _builder(), batch_size=3))
    words = [b.features["encoder_input_tokens"][:, 1] for b in batches]
    assert [word.tolist() for word in words] == [
      [10, 11, 12],
      [13, 14, 15],
      [16, 0, 0],
    ]
    assert [b.indices.tolist() for b in batches] == [
      [0, 1, 2],
      [3, 4, 5],
      [6, -1, -1],
    ]
    assert batches[-1].is_real.tolist() == [True, False, False]

  def test_padding_rows_weigh_nothing(self):
    *_, last = evaluation_batches(_examples(7), _builder(), batch_size=3)
    for name, values in last.features.items():
      assert not values[1:].any(), name

  def test_error_names_the_example(self):
    examples = _examples(5)
    examples[4]["inputs"] = [1]
    batches = evaluation_batches(examples, _builder(), batch_size=2)
    with pytest.raises(ValueError, match="example 4: the input has no tokens"):
      list(batches)

  @pytest.mark.parametrize(
    "where",
    [
      layout.prefix(0),
      layout.prefix(3),
      layout.after_bos(3),
      layout.suffix_before_eos(3),
      layout.suffix_after_eos(3),
      layout.template("{soft:2} say: {inputs} or {soft:1}", encode=_words),
    ],
  )
  def test_rows_are_the_same_but_for_padding(self, where):
    rng = np.random.default_rng(0)
    examples = [
      {
        "inputs": [*rng.integers(10, 90, size=size).tolist(), 1],
        "targets": [5, 1],
        "prompt_index": int(rng.integers(2)),
      }
      for size in rng.integers(1, 50, size=20)  # Some are cut.
    ]

    def rows(length_buckets):
      builder = FeatureBuilder(
        FeatureLengths(30, 2), vocab_size=100, layout=where, num_prompts=2
      )
      found, shapes = {}, set()
      for batch in evaluation_batches(
        examples, builder, batch_size=3, length_buckets=length_buckets
      ):
        shapes |= {batch.features["encoder_input_tokens"].shape}
        for row, (number, _) in enumerate(batch.by_example(range(3))):
          found[number] = {
            name: np.atleast_1d(feature[row])
            for name, feature in batch.features.items()
          }
      assert builder.input_cuts.examples == 20
      assert builder.input_cuts.examples_cut > 0
      return found, shapes

    plain, shapes = rows(1)
    assert shapes == {(3, 30 + where.num_added)}
    grouped, shapes = rows(3)
    assert len(shapes) == 3
    assert sorted(grouped) == sorted(plain) == list(range(20))
    for number, features in plain.items():
      assert features.keys() == grouped[number].keys()
      for name, row in features.items():
        kept = grouped[number][name]
        np.testing.assert_array_equal(kept, row[: kept.size])
        assert not row[kept.size :].any()

  def test_example_without_inputs_is_named(self):
    examples = [*_examples(2), {"targets": [5, 1]}]
    with pytest.raises(ValueError, match="example 2 has no feature 'inputs'"):
      list(
        evaluation_batches(examples, _builder(), batch_size=2, length_buckets=2)
      )
