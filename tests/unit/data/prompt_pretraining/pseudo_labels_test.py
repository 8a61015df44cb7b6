"""Sentences for a labeller, and what becomes of its labels."""

import json

import numpy as np
import pytest

from prompt_tuning import paths
from prompt_tuning.data.features import FeatureLengths
from prompt_tuning.data.prompt_pretraining import documents as documents_lib
from prompt_tuning.data.prompt_pretraining.pseudo_labels import (
  THRESHOLDS,
  PseudoLabelInputs,
  SentenceInputs,
)
from prompt_tuning.data.vocabularies import SentencePieceVocabulary

VOCABULARY = SentencePieceVocabulary(
  str(paths.embedded_dir() / "sentencepiece.model")
)
LENGTHS = FeatureLengths(inputs=64, targets=3)
WORDS = {"0": "bad", "1": "good"}
SURE = {"0": 0.9, "1": 0.6}


def write(folder, rows):
  path = folder / "labelled.jsonl"
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return str(path)


def rows(count=400):
  """Every second one is below its threshold."""
  for number in range(count):
    label, is_sure = number % 2, number // 2 % 2
    yield {
      "inputs": f"the film was {'good' if label else 'bad'} . {number}",
      "label": label,
      "confidence": [[0.8, 0.95], [0.5, 0.7]][label][is_sure],
    }


def inputs(file, **settings):
  plain = {"verbalizer": WORDS, "thresholds": SURE}
  return PseudoLabelInputs(files=[file], **plain | settings)


def test_only_what_the_labeller_was_sure_of(tmp_path):
  file = write(tmp_path, rows())
  streams = [
    inputs(file, split=split).stream(VOCABULARY, LENGTHS, seed=0)
    for split in ("train", "validation")
  ]
  found = [
    {s.fields(n)["sentence"] for n in range(s.examples_per_epoch)}
    for s in streams
  ]
  expected = {
    row["inputs"]
    for row in rows()
    if row["confidence"] > SURE[str(row["label"])]
  }
  assert found[0] | found[1] == expected
  assert found[0].isdisjoint(found[1])
  assert 0 < len(found[1]) < 0.15 * len(expected)


def test_a_question_is_a_sentence_and_its_word(tmp_path):
  stream = inputs(write(tmp_path, rows())).stream(VOCABULARY, LENGTHS, seed=3)
  for number in range(20):
    fields = stream.fields(number)
    example = stream.example(number)
    sentence = VOCABULARY.encode(fields["sentence"])
    assert example["inputs"].tolist() == [
      *sentence,
      *VOCABULARY.encode("<extra_id_0>"),
    ]
    word = "good" if "good" in fields["sentence"] else "bad"
    expected = [f"<extra_id_0> {word}", "<extra_id_1>"]
    ids = [i for text in expected for i in VOCABULARY.encode(text)]
    assert example["targets"].tolist() == ids


def test_numbers_and_seed_decide(tmp_path):
  file = write(tmp_path, rows())
  first, again, other = (
    inputs(file).stream(VOCABULARY, LENGTHS, seed=seed) for seed in (1, 1, 2)
  )
  numbers = (0, 5, 1000)
  assert [first.fields(n) for n in numbers] == [
    again.fields(n) for n in numbers
  ]
  assert [first.fields(n) for n in numbers] != [
    other.fields(n) for n in numbers
  ]
  assert first.card() == again.card() != other.card()
  json.dumps(first.card())


def test_by_default_labels_are_the_five_words_of_infer(tmp_path):
  lines = [
    {
      "inputs": f"the film . {n}",
      "label": f"<extra_id_0> {word}",
      "confidence": 0.96,
    }
    for word in THRESHOLDS
    for n in range(30)
  ]
  made = PseudoLabelInputs(files=[write(tmp_path, lines)])
  stream = made.stream(VOCABULARY, LENGTHS, seed=0)
  words = {stream.fields(n)["label"] for n in range(stream.examples_per_epoch)}
  assert (
    words == set(THRESHOLDS) == {*("terrible", "bad", "maybe", "good", "great")}
  )


@pytest.mark.parametrize(
  ("row", "message"),
  [
    ({"label": 7}, r"line 401: the label '7' .* none of \['0', '1'\]"),
    (
      {"confidence": 1.5},
      "line 401: .*number from 0 to 1 in 'confidence', got",
    ),
    ({"confidence": "sure"}, "and 'sure'"),
    ({"confidence": True}, "and True"),
    ({"inputs": 3}, "expected text in the field 'inputs'"),
    ({"label": None}, "field 'label' is null"),
  ],
)
def test_a_line_that_does_not_match_is_named(tmp_path, row, message):
  bad = {"inputs": "the film", "label": 0, "confidence": 0.99} | row
  with pytest.raises(ValueError, match=message):
    inputs(write(tmp_path, [*rows(), bad])).stream(VOCABULARY, LENGTHS, seed=0)


def test_a_label_that_is_never_sure_is_named(tmp_path):
  lines = [
    row for row in rows() if row["label"] == 0 or row["confidence"] < 0.6
  ]
  message = (
    r"no sentence is labelled 1 .*above \[0.6\] \(labelled so at all: \["
  )
  with pytest.raises(ValueError, match=message):
    inputs(write(tmp_path, lines)).stream(VOCABULARY, LENGTHS, seed=0)


def test_words_are_checked_before_anything_is_read():
  made = inputs("absent.jsonl", verbalizer={"0": "unheard-of", "1": "good"})
  with pytest.raises(ValueError, match="cannot write 'unheard-of'"):
    made.check(VOCABULARY, LENGTHS)
  with pytest.raises(ValueError, match="one for each label of the verbalizer"):
    inputs("absent.jsonl", thresholds={"0": 0.5})
  with pytest.raises(ValueError, match="must be from 0 to below 1, for a"):
    inputs("absent.jsonl", thresholds={"0": 0.5, "1": 1.0})


def test_sentences_to_label_are_those_of_the_documents(tmp_path):
  documents = [["the film was good .", "no .", f"{n} " * 5] for n in range(9)]
  path = tmp_path / "documents.jsonl"
  text = "".join(json.dumps({"text": each}) + "\n" for each in documents)
  path.write_text(text)

  def sentences(**settings):
    return SentenceInputs(
      files=[str(path)],
      cache=str(tmp_path / "cache"),
      pattern="{sentence} it was<X> .",
      num_workers=1,
      **settings,
    ).examples(VOCABULARY)

  found = sentences()
  assert len(found) == 18
  assert found[0]["inputs_pretokenized"] == "the film was good ."
  assert found[0]["inputs"].tolist() == [
    *VOCABULARY.encode("the film was good . it was"),
    *VOCABULARY.encode("<extra_id_0>"),
    *VOCABULARY.encode("."),
  ]
  # A longer one is cut, and its answer slot is not.
  short = sentences(max_tokens=len(found[0]["inputs"]) - 1)[0][
    "inputs"
  ].tolist()
  assert short[-2:] == found[0]["inputs"].tolist()[-2:]
  assert len(short) < len(found[0]["inputs"])
  some = sentences(num_sentences=5, seed=1)
  assert [e["inputs_pretokenized"] for e in some] == [
    e["inputs_pretokenized"] for e in sentences(num_sentences=5, seed=1)
  ]
  assert len(some) == 5
  assert {e["inputs_pretokenized"] for e in some} <= {
    e["inputs_pretokenized"] for e in found
  }
  assert np.asarray(some[0]["targets"]).size == 1
  assert [e["inputs_pretokenized"] for e in some[1:3]] == [
    some[n]["inputs_pretokenized"] for n in (1, 2)
  ]


def test_sentences_of_plain_text_are_those_of_records(tmp_path):
  documents = ["The film was good. No.\nThe plot was bad.", "The book was it."]
  (tmp_path / "a.txt").write_text("\n\n".join(documents) + "\n")
  rows = [json.dumps({"text": text}) + "\n" for text in documents]
  (tmp_path / "a.jsonl").write_text("".join(rows))
  plain, records = (
    documents_lib.read_documents(
      [str(tmp_path / f"a.{kind}")],
      VOCABULARY,
      tmp_path / kind,
      num_workers=1,
    )
    for kind in ("txt", "jsonl")
  )
  np.testing.assert_array_equal(plain.text, records.text)
  np.testing.assert_array_equal(plain.document_ends, [3, 4])
  np.testing.assert_array_equal(plain.sentence_ends, records.sentence_ends)
