"""Tokenised text on disk: content, reuse, and what may not be mixed up."""

import json
import lzma

import numpy as np
import pytest

from prompt_tuning.data import corpus as corpus_lib
from prompt_tuning.data import vocabularies
from prompt_tuning.data.corpus import Corpus, open_corpus, tokenize_corpus
from prompt_tuning.testing import shared

_TEXTS = ["one text", "", "another, longer text", "é"]
_VOCABULARY = vocabularies.ByteVocabulary()


class _WideVocabulary(vocabularies.ByteVocabulary):
  """A vocabulary whose ids do not fit 16 bits."""

  @property
  def vocab_size(self):
    return 100_000

  def encode(self, text):
    return [token + 99_000 for token in super().encode(text)]


@pytest.fixture
def files(tmp_path):
  first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl.xz"
  first.write_text("".join(json.dumps({"text": t}) + "\n" for t in _TEXTS[:2]))
  with lzma.open(second, "wt", encoding="utf-8") as file:
    file.writelines(json.dumps({"text": t}) + "\n" for t in _TEXTS[2:])
  return [first, second]


def _documents(corpus):
  starts = [0, *corpus.ends[:-1]]
  return [
    corpus.tokens[start:end].tolist()
    for start, end in zip(starts, corpus.ends, strict=True)
  ]


@pytest.mark.parametrize("at_a_time", [1, 256])
def test_documents_in_order_without_the_empty(
  files, tmp_path, monkeypatch, at_a_time
):
  monkeypatch.setattr(corpus_lib, "_DOCUMENTS_AT_A_TIME", at_a_time)
  corpus = tokenize_corpus(files, _VOCABULARY, tmp_path / "out")
  assert [_VOCABULARY.decode(d) for d in _documents(corpus)] == [
    text for text in _TEXTS if text
  ]
  assert isinstance(corpus.tokens, np.memmap)
  assert corpus.tokens.dtype == np.uint16


def test_large_ids_are_kept(files, tmp_path):
  corpus = tokenize_corpus(files, _WideVocabulary(), tmp_path / "out")
  assert corpus.tokens.dtype == np.uint32
  assert corpus.tokens.min() > 99_000


def test_card_says_what_it_was_made_from(files, tmp_path):
  tokenize_corpus(files, _VOCABULARY, tmp_path / "out")
  card = json.loads((tmp_path / "out" / "card.json").read_text())
  assert [source["name"] for source in card["sources"]] == [
    "a.jsonl",
    "b.jsonl.xz",
  ]
  assert card["vocabulary"] == _VOCABULARY.fingerprint
  assert card["num_documents"] == 3
  assert card["num_tokens"] == sum(len(text.encode()) for text in _TEXTS)
  # Nothing of the machine.
  assert str(tmp_path) not in json.dumps(card)


def test_second_time_reads_what_is_there(files, tmp_path, monkeypatch):
  first = tokenize_corpus(files, _VOCABULARY, tmp_path / "out")
  monkeypatch.setattr(corpus_lib, "_write", None)
  second = tokenize_corpus(files, _VOCABULARY, tmp_path / "out")
  np.testing.assert_array_equal(first.tokens, second.tokens)
  assert first.fingerprint == second.fingerprint


def test_other_vocabulary_is_an_error(files, tmp_path):
  tokenize_corpus(files, _VOCABULARY, tmp_path / "out")
  other = vocabularies.ByteVocabulary(extra_ids=9)
  with pytest.raises(ValueError, match="has vocabulary 'bytes-0' where 'byte"):
    tokenize_corpus(files, other, tmp_path / "out")


def test_changed_file_is_an_error(files, tmp_path):
  tokenize_corpus(files, _VOCABULARY, tmp_path / "out")
  files[0].write_text('{"text": "new"}\n')
  with pytest.raises(ValueError, match=r"has sources .* remove the folder"):
    tokenize_corpus(files, _VOCABULARY, tmp_path / "out")


@pytest.mark.parametrize(
  ("line", "message"),
  [
    ("{", r"a\.jsonl, line 3: not JSON"),
    ('{"body": "x"}', r"line 3: field 'text' is missing; .*\['body'\]"),
    ('{"text": 5}', r"line 3: field 'text' is int, not text"),
  ],
)
def test_malformed_file_leaves_nothing(files, tmp_path, line, message):
  with files[0].open("a") as file:
    file.write(line + "\n")
  with pytest.raises(ValueError, match=message):
    tokenize_corpus(files, _VOCABULARY, tmp_path / "out")
  assert sorted(p.name for p in tmp_path.iterdir()) == ["a.jsonl", "b.jsonl.xz"]


def test_nothing_to_tokenise(tmp_path):
  with pytest.raises(ValueError, match="at least one file"):
    tokenize_corpus([], _VOCABULARY, tmp_path / "out")
  with pytest.raises(ValueError, match=r"cannot read '.*none\.jsonl'"):
    tokenize_corpus([tmp_path / "none.jsonl"], _VOCABULARY, tmp_path / "out")
  empty = tmp_path / "empty.jsonl"
  empty.write_text('{"text": ""}\n')
  with pytest.raises(ValueError, match="has a token"):
    tokenize_corpus([empty], _VOCABULARY, tmp_path / "out")


@pytest.mark.parametrize("name", ["card.json", "tokens.npy", "ends.npy"])
def test_incomplete_folder(files, tmp_path, name):
  tokenize_corpus(files, _VOCABULARY, tmp_path / "out")
  (tmp_path / "out" / name).unlink()
  with pytest.raises(ValueError, match="is not a complete tokenised corpus"):
    open_corpus(tmp_path / "out")


def test_folder_that_contradicts_its_card(files, tmp_path):
  tokenize_corpus(files, _VOCABULARY, tmp_path / "out")
  np.save(tmp_path / "out" / "ends.npy", np.array([3]))
  with pytest.raises(ValueError, match="where its card says 30 in 3"):
    open_corpus(tmp_path / "out")


def test_in_memory():
  corpus = Corpus.from_documents([[5, 6], [], np.array([7, 8, 9])])
  assert _documents(corpus) == [[5, 6], [7, 8, 9]]
  assert corpus.fingerprint != Corpus.from_documents([[5, 6]]).fingerprint
  with pytest.raises(ValueError, match="at least one token"):
    Corpus.from_documents([[], []])


def test_real_text(tmp_path):
  vocabulary = vocabularies.SentencePieceVocabulary(
    str(shared.data_path("t5_vocab/spiece.model"))
  )
  source = shared.data_path("corpus/c4_validation_sample.jsonl.xz")
  corpus = tokenize_corpus([source], vocabulary, tmp_path / "c4")
  assert corpus.ends.size == 1000
  with lzma.open(source, "rt", encoding="utf-8") as file:
    first = json.loads(file.readline())["text"]
  assert _documents(corpus)[0] == vocabulary.encode(first)
