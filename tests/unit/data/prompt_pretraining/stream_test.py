"""Questions about running text: what is asked, how often, the same again."""

import collections
import json

import numpy as np
import pytest

from prompt_tuning.data.features import FeatureBuilder, FeatureLengths
from prompt_tuning.data.patterns import LETTERS
from prompt_tuning.data.prompt_pretraining import documents as documents_lib
from prompt_tuning.data.prompt_pretraining import examples
from prompt_tuning.data.prompt_pretraining.stream import PretrainingInputs
from prompt_tuning.data.prompt_pretraining.wording import (
  BUDGETS,
  Format,
  Wording,
)
from prompt_tuning.data.vocabularies import ByteVocabulary
from prompt_tuning.testing import shared

LENGTHS = FeatureLengths(inputs=1024, targets=3)
QUESTIONS = [form for form in Format if form is not Format.SENTENCE]


class Vocabulary(ByteVocabulary):
  """Bytes, that know their sentinels by name."""

  def __init__(self):
    super().__init__(extra_ids=100)

  def encode(self, text):
    ids = []
    for number in (0, 1):
      name = f"<extra_id_{number}>"
      if text.startswith(name):
        ids.append(self.vocab_size - 1 - number)
        text = text.removeprefix(name)
    return [*ids, *super().encode(text)]

  def encode_batch(self, texts):
    return [self.encode(text) for text in texts]


VOCABULARY = Vocabulary()


def sentence(document, number):
  return f"doc {document} has sentence {number} of its own"


def write(path, documents):
  rows = (json.dumps({"text": text}) + "\n" for text in documents)
  path.write_text("".join(rows))
  return str(path)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
  documents = [[sentence(d, n) for n in range(5 + d % 9)] for d in range(300)]
  # Neither is asked about: too few sentences, or all of them too short.
  documents += [["too few sentences here"] * 4, ["a b"] * 20]
  return write(tmp_path_factory.mktemp("text") / "docs.jsonl", documents)


@pytest.fixture(scope="module")
def make(file, tmp_path_factory):
  folder = tmp_path_factory.mktemp("cache")

  def make(form, *, seed=0, **settings):
    plain = {"files": [file], "cache": str(folder / "all"), "num_workers": 1}
    inputs = PretrainingInputs(form=form, **plain | settings)
    return inputs.stream(VOCABULARY, LENGTHS, seed=seed)

  return make


def place(text):
  words = text.split()
  return int(words[1]), int(words[4])


def test_pairs_are_what_their_label_says(make):
  stream = make("next_sentence_prediction")
  counts = collections.Counter()
  for number in range(3000):
    fields = stream.fields(number)
    (one, i), (other, j) = place(fields["first"]), place(fields["second"])
    counts[fields["label"]] += 1
    expected = "no" if one != other else "yes" if abs(i - j) == 1 else "maybe"
    assert fields["label"] == expected
    assert fields["first"] != fields["second"]
  sigma = (3000 * (1 / 3) * (2 / 3)) ** 0.5
  assert all(abs(counts[k] - 1000) < 3 * sigma for k in ("no", "maybe", "yes"))


@pytest.mark.parametrize("form", ["next_sentence_selection", "unified"])
def test_choices_have_one_answer_and_their_sources(make, form):
  stream = make(form)
  sizes = collections.Counter()
  letters = collections.Counter()
  for number in range(1500):
    fields = stream.fields(number)
    options = fields["options"]
    sizes[len(options)] += 1
    letters[LETTERS.index(fields["answer"]) / len(options) < 0.5] += 1
    assert len(set(options)) == len(options)
    own, i = place(fields["query"])
    answer = options[LETTERS.index(fields["answer"])]
    assert place(answer)[0] == own
    assert abs(place(answer)[1] - i) == 1
    wrong = [place(option) for option in options if option != answer]
    assert not any(d == own and abs(j - i) <= 1 for d, j in wrong)
    same, elsewhere = examples.SHARES[len(options)]
    by_document = collections.Counter(d for d, _ in wrong)
    assert by_document.pop(own, 0) <= same
    needed = sum(1 for amount in elsewhere if amount)
    assert len(by_document) >= needed
  counts = {6} if form == "next_sentence_selection" else set(range(2, 17))
  assert set(sizes) == counts
  if form == "unified":
    sigma = (1500 * (1 / 15) * (14 / 15)) ** 0.5
    assert all(abs(sizes[n] - 100) < 4 * sigma for n in counts)
  assert 0.4 < letters[True] / 1500 < 0.65


def test_the_tables_are_the_papers():
  assert set(examples.SHARES) == set(BUDGETS) == set(range(2, 17))
  for count, (same, elsewhere) in examples.SHARES.items():
    assert 1 + same + sum(elsewhere) == count
  assert BUDGETS[4] == (400, 50)
  assert BUDGETS[7] == (250, 30)
  assert BUDGETS[16] == (150, 20)


@pytest.mark.parametrize("form", QUESTIONS)
def test_examples_are_token_ids_that_fit(make, form):
  stream = make(form)
  for number in range(40):
    example = stream.example(number)
    assert len(example["inputs"]) <= 1024
    assert example["inputs"].tolist().count(VOCABULARY.vocab_size - 1) == 1
    assert example["targets"][0] == VOCABULARY.vocab_size - 1
    assert example["targets"][-1] == VOCABULARY.vocab_size - 2


def test_the_number_of_options_is_ones_own(make):
  stream = make("unified", num_options=(2, 4))
  sizes = {len(stream.fields(number)["options"]) for number in range(50)}
  assert sizes == {2, 4}
  with pytest.raises(
    ValueError, match=r"has 2 to 16 options, got .* \[3, 17\]"
  ):
    make("unified", num_options=(3, 17))


def test_the_words_are_ones_own(make):
  wording = Wording(
    pair="{first} then{second} ?<X>", relations=("never", "perhaps", "sure")
  )
  stream = make("next_sentence_prediction", wording=wording)
  word = {"no": "never", "maybe": "perhaps", "yes": "sure"}
  for number in range(9):
    fields, example = stream.fields(number), stream.example(number)
    assert example["targets_pretokenized"] == word[fields["label"]]
    assert example["inputs_pretokenized"].startswith(fields["first"] + "then")
  assert stream.card() != make("next_sentence_prediction").card()


def test_sentences_need_a_labeller():
  with pytest.raises(ValueError, match="needs a labeller; take PseudoLabel"):
    PretrainingInputs(files=[], cache="", form="sentence_classification")


def test_numbers_and_seed_decide(make):
  first, again, other = (
    [make("unified", seed=seed).fields(n) for n in (7, 3, 900)]
    for seed in (1, 1, 2)
  )
  assert first == again
  assert first != other


def test_what_a_checkpoint_keeps_is_what_it_was(make):
  card = make("unified", wording=Wording()).card()
  assert json.loads(json.dumps(card)) == card


def test_a_sentence_without_a_question_gives_way(tmp_path):
  documents = [[sentence(d, n) for n in range(6)] for d in range(60)]
  # Beside each other the same, or longer than any row.
  documents += [["the very same sentence"] * 6] * 20
  documents += [["so long a list " * 200] * 6] * 20
  inputs = PretrainingInputs(
    files=[write(tmp_path / "a.jsonl", documents)],
    cache=str(tmp_path / "cache"),
    form="next_sentence_selection",
    num_workers=1,
  )
  stream = inputs.stream(VOCABULARY, LENGTHS, seed=0)
  for number in range(stream.examples_per_epoch):
    fields = stream.fields(number)
    assert fields["query"] != fields["options"][LETTERS.index(fields["answer"])]
    assert "list" not in fields["query"]


@pytest.mark.parametrize("form", QUESTIONS)
def test_a_short_row_keeps_its_slot(make, form, file, tmp_path):
  lengths = FeatureLengths(inputs=900, targets=12)
  long = PretrainingInputs(
    files=[file], cache=str(tmp_path / "cache"), form=form, num_workers=1
  ).stream(VOCABULARY, lengths, seed=0)
  builder = FeatureBuilder(lengths, vocab_size=VOCABULARY.vocab_size)
  slot = VOCABULARY.vocab_size - 1
  for number in range(40):
    batch = builder.batch([long.example(number)])
    assert (batch["encoder_input_tokens"] == slot).sum() == 1


def test_an_epoch_begins_once_from_each_sentence(make):
  stream = make("next_sentence_prediction")
  size = stream.examples_per_epoch
  begun = [stream.fields(number)["first"] for number in range(size)]
  assert len(set(begun)) == size


def test_splits_share_no_document(make):
  found = [
    {
      place(fields[key])[0]
      for fields in map(
        make("next_sentence_prediction", split=split).fields, range(400)
      )
      for key in ("first", "second")
    }
    for split in ("train", "validation")
  ]
  assert found[0].isdisjoint(found[1])
  assert 6 <= len(found[1]) < 35


@pytest.mark.parametrize("workers", [2, 3])
def test_the_number_of_processes_changes_nothing(
  file, tmp_path, workers, monkeypatch
):
  monkeypatch.setattr(documents_lib, "_DOCUMENTS_AT_A_TIME", 7)
  made = [
    documents_lib.read_documents(
      [file], VOCABULARY, tmp_path / str(n), num_workers=n
    )
    for n in (1, workers)
  ]
  for name in ("text", "sentence_ends", "token_counts", "document_ends"):
    np.testing.assert_array_equal(*(getattr(each, name) for each in made))


def test_plain_text_is_cut_into_sentences(tmp_path):
  file = write(tmp_path / "a.jsonl", ["One here. Two there.", "", ["Three."]])
  found = documents_lib.read_documents(
    [file], VOCABULARY, tmp_path / "out", num_workers=1
  )
  assert [found.sentence(n) for n in range(3)] == [
    *("One here.", "Two there.", "Three."),
  ]
  assert [found.document_of(n) for n in range(3)] == [0, 0, 1]
  assert found.token_counts.tolist() == [9, 10, 6]


@pytest.mark.parametrize(
  ("documents", "message"),
  [
    ([["one sentence is here"] * 9], "1 of 1 documents are in the split"),
    ([["too short"] * 3] * 50, "0 of 50 documents are in the split 'train'"),
    ([[]], "no document of .* has a sentence"),
    ([3], "line 1: field 'text' is int, no text and no list"),
  ],
)
def test_what_no_question_can_be_made_of(tmp_path, documents, message):
  inputs = PretrainingInputs(
    files=[write(tmp_path / "a.jsonl", documents)],
    cache=str(tmp_path / "cache"),
    form="unified",
    num_workers=1,
  )
  with pytest.raises(ValueError, match=message):
    inputs.stream(VOCABULARY, LENGTHS, seed=0)


def test_another_corpus_does_not_take_the_cache(file, tmp_path):
  other = write(tmp_path / "b.jsonl", [["a sentence"] * 5])
  cache = tmp_path / "cache"
  documents_lib.read_documents([file], VOCABULARY, cache, num_workers=1)
  with pytest.raises(ValueError, match=r"have sources .* was asked for; "):
    documents_lib.read_documents([other], VOCABULARY, cache, num_workers=1)
  with pytest.raises(ValueError, match="field 'body' is missing"):
    documents_lib.read_documents(
      [file], VOCABULARY, tmp_path / "new", text_field="body", num_workers=1
    )
  assert not (tmp_path / "new").exists()


def test_real_text(tmp_path):
  file = shared.data_path("corpus/wiki_validation.jsonl.xz")
  stream = PretrainingInputs(
    files=[str(file)], cache=str(tmp_path / "cache"), form="unified"
  ).stream(VOCABULARY, LENGTHS, seed=0)
  for number in range(50):
    fields = stream.fields(number)
    assert len(set(fields["options"])) == len(fields["options"])
