"""Streams: every example once an epoch, and each a function of its number."""

import collections
import functools
import json

import numpy as np
import pytest

from prompt_tuning.data import objectives
from prompt_tuning.data.corpus import Corpus
from prompt_tuning.data.streams import (
  CorpusStream,
  Documents,
  ExamplesInMemory,
  MixtureStream,
  Order,
)


def _examples(count, *, first=100):
  return [{"inputs": [first + i, 1], "targets": [5, 1]} for i in range(count)]


def _ids(stream, numbers):
  return [stream.example(number)["inputs"][0] for number in numbers]


def _text(ids, rng):
  del rng
  return {"inputs": ids, "targets": ids}


def _documents(*sizes):
  """Documents of consecutive numbers from 0."""
  ends = np.cumsum(sizes)
  return Corpus.from_documents(
    [range(end - size, end) for size, end in zip(sizes, ends, strict=True)]
  )


class TestExamplesInMemory:
  def test_every_example_once_an_epoch_in_another_order(self):
    stream = ExamplesInMemory(_examples(20), seed=3)
    epochs = [_ids(stream, range(20 * e, 20 * e + 20)) for e in range(3)]
    for epoch in epochs:
      assert sorted(epoch) == list(range(100, 120))
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert epochs[0] != sorted(epochs[0])
    assert stream.length is None

  def test_seed_decides_the_order(self):
    def order(seed):
      return _ids(ExamplesInMemory(_examples(20), seed=seed), range(20))

    assert order(1) == order(1)
    assert order(1) != order(2)

  def test_numbers_may_be_asked_in_any_order(self):
    numbers = [57, 3, 22, 3, 41, 0]
    expected = _ids(ExamplesInMemory(_examples(20), seed=3), range(60))
    stream = ExamplesInMemory(_examples(20), seed=3)
    assert _ids(stream, numbers) == [expected[number] for number in numbers]

  def test_as_given(self):
    stream = ExamplesInMemory(
      _examples(3), seed=0, num_epochs=2, order=Order.AS_GIVEN
    )
    assert stream.length == 6
    assert _ids(stream, range(6)) == [100, 101, 102] * 2

  def test_card_tells_other_data_apart(self):
    card = ExamplesInMemory(_examples(3), seed=0).card()
    assert card == ExamplesInMemory(_examples(3), seed=0).card()
    assert card != ExamplesInMemory(_examples(3, first=50), seed=0).card()
    assert card != ExamplesInMemory(_examples(3), seed=1).card()

  def test_card_tells_other_prompts_of_a_bank_apart(self):
    def card(*numbers):
      examples = [
        example | {"prompt_index": number}
        for example, number in zip(_examples(3), numbers, strict=True)
      ]
      return ExamplesInMemory(examples, seed=0).card()

    assert card(0, 1, 2) == card(0, 1, 2)
    assert card(0, 1, 2) != card(0, 2, 1)
    assert card(0, 0, 0) != ExamplesInMemory(_examples(3), seed=0).card()

  def test_no_examples(self):
    with pytest.raises(ValueError, match="there are no examples"):
      ExamplesInMemory([], seed=0)


class TestCorpusStream:
  @pytest.mark.parametrize("total", [10, 27, 30])
  def test_joined_chunks_are_a_circle_cut_anew_each_epoch(self, total):
    stream = CorpusStream(
      _documents(7, total - 7), _text, chunk_length=5, seed=1
    )
    assert stream.chunks_per_epoch == total // 5
    starts = set()
    for epoch in range(8):
      numbers = range(
        epoch * stream.chunks_per_epoch, (epoch + 1) * stream.chunks_per_epoch
      )
      chunks = [stream.example(number)["inputs"] for number in numbers]
      seen = np.concatenate(chunks)
      assert len(set(seen.tolist())) == seen.size == total // 5 * 5
      for chunk in chunks:
        assert ((chunk - chunk[0]) % total).tolist() == [0, 1, 2, 3, 4]
      starts.add(min(chunk[0] % 5 for chunk in chunks))
    assert len(starts) > 1

  def test_separate_chunks_stay_within_documents(self):
    corpus = _documents(12, 3, 1, 5, 6)
    stream = CorpusStream(
      corpus, _text, chunk_length=5, seed=1, documents=Documents.SEPARATE
    )
    chunks = [
      stream.example(number)["inputs"].tolist()
      for number in range(stream.chunks_per_epoch)
    ]
    # 12 = 5 + 5 + 2, 3 = 3, 1 is too short, 5 = 5, 6 = 5 and 1 too short.
    assert sorted(chunks) == [
      [0, 1, 2, 3, 4],
      [5, 6, 7, 8, 9],
      [10, 11],
      [12, 13, 14],
      [16, 17, 18, 19, 20],
      [21, 22, 23, 24, 25],
    ]

  def test_order_changes_with_the_epoch(self):
    stream = CorpusStream(
      _documents(100),
      _text,
      chunk_length=5,
      seed=1,
      documents=Documents.SEPARATE,
    )
    first, second = (_ids(stream, range(20 * e, 20 * e + 20)) for e in (0, 1))
    assert sorted(first) == sorted(second)
    assert first != second

  def test_noise_is_drawn_anew_each_epoch_and_again_on_return(self):
    objective = functools.partial(objectives.span_corruption, vocab_size=600)
    stream = CorpusStream(
      _documents(50),
      objective,
      chunk_length=50,
      seed=1,
      documents=Documents.SEPARATE,
    )
    epochs = [tuple(stream.example(n)["targets"].tolist()) for n in range(5)]
    assert len(set(epochs)) == 5
    assert tuple(stream.example(2)["targets"].tolist()) == epochs[2]

  def test_card_tells_other_noise_apart(self):
    def card(**noise):
      objective = functools.partial(
        objectives.span_corruption, vocab_size=600, **noise
      )
      stream = CorpusStream(_documents(50), objective, chunk_length=50, seed=1)
      return stream.card()

    # The defaults are told too, in case that they change one day.
    assert card()["objective"] == {
      "name": "span_corruption",
      "vocab_size": 600,
      "noise_density": 0.15,
      "mean_span_length": 3.0,
      "num_sentinels": 100,
    }
    assert card() == card(noise_density=0.15)
    assert card() != card(noise_density=0.3)
    assert card() != card(mean_span_length=2.0)

  def test_card_is_what_a_checkpoint_gives_back(self):
    def cut(ids, rng, *, marks):
      del rng, marks
      return {"inputs": ids, "targets": ids}

    card = CorpusStream(
      _documents(50),
      functools.partial(cut, marks=(3, 4)),
      chunk_length=5,
      seed=1,
    ).card()
    assert card["objective"]["marks"] == [3, 4]
    assert json.loads(json.dumps(card)) == card

  @pytest.mark.parametrize("documents", list(Documents))
  def test_too_little_text(self, documents):
    with pytest.raises(ValueError, match="does not fill a single chunk of 5"):
      CorpusStream(
        _documents(1, 1), _text, chunk_length=5, seed=0, documents=documents
      )

  def test_chunk_of_one_token(self):
    with pytest.raises(ValueError, match="chunk_length must be at least 2"):
      CorpusStream(_documents(9), _text, chunk_length=1, seed=0)


class TestMixtureStream:
  def _mixture(self, seed=0):
    return MixtureStream(
      {
        "small": ExamplesInMemory(_examples(10, first=100), seed=0),
        "large": ExamplesInMemory(_examples(50, first=200), seed=0),
      },
      rates={"large": 3.0, "small": 1.0},
      seed=seed,
    )

  def test_rates(self):
    draws = 6000
    ids = np.array(_ids(self._mixture(), range(draws)))
    error = 4 * np.sqrt(0.25 * 0.75 / draws)
    assert (ids < 200).mean() == pytest.approx(0.25, abs=error)

  def test_each_stream_goes_through_its_own_examples(self):
    # Beyond one block of draws, where counts carry over.
    ids = np.array(_ids(self._mixture(), range(9000)))
    small = ids[ids < 200]
    epochs = small[: small.size // 10 * 10].reshape(-1, 10)
    for epoch in epochs:
      assert sorted(epoch) == list(range(100, 110))

  def test_any_number_without_the_ones_before(self):
    expected = _ids(self._mixture(), range(9000))
    for number in (8999, 4096, 0):
      assert _ids(self._mixture(), [number]) == [expected[number]]

  def test_seed_decides_the_draws(self):
    first, second = (_ids(self._mixture(s), range(50)) for s in (0, 1))
    assert first != second

  def test_order_of_the_dictionaries_does_not_matter(self):
    streams = {
      "small": ExamplesInMemory(_examples(10, first=100), seed=0),
      "large": ExamplesInMemory(_examples(50, first=200), seed=0),
    }
    rates = {"small": 1.0, "large": 3.0}
    backwards = dict(reversed(streams.items()))
    mixture = MixtureStream(backwards, rates=rates, seed=0)
    assert _ids(mixture, range(60)) == _ids(self._mixture(), range(60))

  def test_counts_are_exact(self):
    ids = _ids(self._mixture(), range(5000))
    counts = collections.Counter(ids)
    for low, high in ((100, 110), (200, 250)):
      group = [counts[i] for i in range(low, high)]
      assert max(group) - min(group) <= 1

  @pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf")])
  def test_rate_is_positive(self, rate):
    stream = ExamplesInMemory(_examples(2), seed=0)
    with pytest.raises(ValueError, match="rate of 'a' must be positive"):
      MixtureStream({"a": stream}, rates={"a": rate}, seed=0)

  def test_names_must_agree(self):
    stream = ExamplesInMemory(_examples(2), seed=0)
    with pytest.raises(ValueError, match="needs a rate for each stream"):
      MixtureStream({"a": stream}, rates={"b": 1.0}, seed=0)

  def test_streams_must_be_endless(self):
    stream = ExamplesInMemory(_examples(2), seed=0, num_epochs=1)
    with pytest.raises(ValueError, match="stream 'a' ends"):
      MixtureStream({"a": stream}, rates={"a": 1.0}, seed=0)


def test_any_callable_is_an_objective():
  class Objective:
    def __call__(self, ids, rng, *, marks):
      return {"inputs": ids, "targets": ids}

  objective = functools.partial(Objective(), marks=np.array([1, 2]))
  corpus = Corpus.from_documents([np.arange(8, dtype=np.uint16)])
  stream = CorpusStream(corpus, objective, chunk_length=4, seed=0)
  described = stream.card()["objective"]
  assert described == {"name": "Objective", "marks": [1, 2]}
