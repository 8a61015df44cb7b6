"""What a run reads: texts of files, and running text with its noise."""

import dataclasses
import json

import pytest

from prompt_tuning.data.features import FeatureLengths
from prompt_tuning.data.inputs import CorpusInputs, CorpusMixture, FileInputs
from prompt_tuning.data.vocabularies import ByteVocabulary

VOCABULARY = ByteVocabulary(extra_ids=125)
LENGTHS = FeatureLengths(inputs=32, targets=32)


def _write(path, *rows):
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return str(path)


@pytest.fixture
def corpus(tmp_path):
  """Makes inputs of one corpus with other settings."""
  file = _write(tmp_path / "corpus.jsonl", *[{"text": "abc " * 50}] * 4)

  def make(**settings):
    settings = {"objective": "span_corruption"} | settings
    return CorpusInputs(
      files=[file], cache=str(tmp_path / "tokens"), **settings
    )

  return make


@pytest.mark.parametrize(
  "noise", [{"noise_density": 0.3}, {"mean_span_length": 2.0}]
)
def test_other_noise_is_other_data(corpus, noise):
  cards = [
    corpus(**settings).stream(VOCABULARY, LENGTHS, seed=0).card()
    for settings in ({}, noise)
  ]
  ((name, value),) = noise.items()
  assert cards[1]["objective"][name] == value
  assert cards[0]["objective"] != cards[1]["objective"]


def test_another_objective_is_other_data(corpus):
  objectives = [
    corpus(objective=objective).stream(VOCABULARY, LENGTHS, seed=0).card()
    for objective in ("span_corruption", "prefix_lm")
  ]
  names = [card["objective"]["name"] for card in objectives]
  assert names == ["span_corruption", "prefix_lm"]


def test_targets_too_short_for_the_noise(corpus):
  inputs = corpus(noise_density=0.5)
  lengths = FeatureLengths(inputs=32, targets=8)
  with pytest.raises(ValueError, match=r"TASK_FEATURE_LENGTHS: .*, got 8"):
    inputs.stream(VOCABULARY, lengths, seed=0)


def test_an_unknown_objective_lists_those_there_are(corpus):
  message = (
    r"CorpusInputs\.objective must be one of 'span_corruption', 'prefix_lm', "
    "got 'mlm'"
  )
  with pytest.raises(ValueError, match=message):
    corpus(objective="mlm")


def test_lines_of_a_file_may_name_a_prompt_of_a_bank(tmp_path):
  file = _write(
    tmp_path / "a.jsonl", {"inputs": "x", "n": 2}, {"inputs": "y", "n": 0}
  )
  plain = FileInputs(file=file).examples(VOCABULARY)
  assert all("prompt_index" not in example for example in plain)
  examples = FileInputs(file=file, prompt_index="n").examples(VOCABULARY)
  assert [example["prompt_index"] for example in examples] == [2, 0]


class TestTokensWithoutTheirFiles:
  def test_they_are_the_same_examples(self, corpus):
    made = corpus()
    drawn = [
      inputs.stream(VOCABULARY, LENGTHS, seed=0)
      for inputs in (made, dataclasses.replace(made, files=None))
    ]
    assert drawn[0].card() == drawn[1].card()
    left, right = (stream.example(3) for stream in drawn)
    assert left["inputs"].tolist() == right["inputs"].tolist()

  def test_another_vocabulary(self, corpus):
    corpus().stream(VOCABULARY, LENGTHS, seed=0)
    bare = dataclasses.replace(corpus(), files=None)
    with pytest.raises(
      ValueError, match="made with the vocabulary 'bytes-125'"
    ):
      bare.check(ByteVocabulary(), LENGTHS)

  def test_no_tokens_either(self, corpus):
    bare = dataclasses.replace(corpus(), files=None)
    with pytest.raises(ValueError, match="not a complete tokenised corpus"):
      bare.check(VOCABULARY, LENGTHS)


class TestMixtureOfCorpora:
  @pytest.fixture
  def mixture(self, tmp_path):
    """Makes a mixture of 30 chunks of "a" and 10 of "b"."""
    files = {
      name: [_write(tmp_path / f"{name}.jsonl", *[{"text": name * 62}] * count)]
      for name, count in (("a", 15), ("b", 5))
    }

    def make(**settings):
      settings = {"objective": "prefix_lm", "files": files} | settings
      return CorpusMixture(cache=str(tmp_path / "tokens"), **settings)

    return make

  @staticmethod
  def draw(mixture, count=400):
    stream = mixture.stream(VOCABULARY, LENGTHS, seed=0)
    texts = [
      VOCABULARY.decode(example["inputs"][:-1].tolist())
      for example in map(stream.example, range(count))
    ]
    return stream, texts

  @pytest.mark.parametrize(
    ("rates", "share"), [(None, 0.25), ({"a": 1, "b": 3}, 0.75)]
  )
  def test_each_comes_at_its_rate(self, mixture, rates, share):
    _, texts = self.draw(mixture(rates=rates))
    of_b = sum("b" in text for text in texts) / len(texts)
    sigma = (share * (1 - share) / len(texts)) ** 0.5
    assert abs(of_b - share) < 3 * sigma

  def test_no_chunk_holds_both(self, mixture):
    _, texts = self.draw(mixture())
    assert not any("a" in text and "b" in text for text in texts)

  def test_a_corpus_goes_through_all_its_chunks(self, mixture):
    stream, _ = self.draw(mixture(), count=0)
    alone = CorpusInputs(
      files=mixture().files["b"],
      cache=mixture().cache + "/b",
      objective="prefix_lm",
    ).stream(VOCABULARY, LENGTHS, seed=0)
    drawn = [stream.example(number)["inputs"].tolist() for number in range(60)]
    of_b = [ids for ids in drawn if "b" in VOCABULARY.decode(ids)]
    expected = [alone.example(n)["inputs"].tolist() for n in range(len(of_b))]
    assert of_b == expected

  def test_other_rates_are_other_data(self, mixture):
    cards = [
      mixture(rates=rates).stream(VOCABULARY, LENGTHS, seed=0).card()
      for rates in (None, {"a": 1, "b": 1})
    ]
    assert cards[0] != cards[1]

  @pytest.mark.parametrize(
    ("settings", "message"),
    [
      ({"files": ["a.jsonl"]}, r"CorpusMixture\.files: expected files by the"),
      ({"rates": {"a": 1}}, r"one for each of \['a', 'b'\], got \{'a': 1\}"),
      ({"rates": {"a": 1, "b": 0}}, "rate of 'b' must be positive, got 0"),
      ({"objective": "mlm"}, r"objective must be one of .* got 'mlm'"),
    ],
  )
  def test_what_is_no_mixture(self, mixture, settings, message):
    with pytest.raises(ValueError, match=message):
      mixture(**settings).stream(VOCABULARY, LENGTHS, seed=0)


@pytest.mark.parametrize(
  "text", ["tfds:c4/en@train", "tfds:c4/en:2.2.0", "tfds:"]
)
def test_a_split_of_tfds_needs_version_and_split(tmp_path, text):
  inputs = CorpusInputs(
    files=[text], cache=str(tmp_path / "tokens"), objective="prefix_lm"
  )
  with pytest.raises(
    ValueError, match=r"no split of TFDS; write name, version"
  ):
    inputs.check(VOCABULARY, LENGTHS)
