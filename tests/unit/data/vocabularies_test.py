"""Vocabularies against seqio's own, and against a model trained here."""

import io
import pickle

import pytest
import sentencepiece

from prompt_tuning.data import vocabularies
from prompt_tuning.testing import shared

_TEXTS = [
  "",
  " ",
  "The quick brown fox.",
  "a  gorgeous, witty, seductive   movie . ",
  "naïve café, 東京 🙂\n\ttabs\x00",
  "I like <extra_id_0> and <extra_id_1>ly sandwiches <extra_id_99>",
  "jel<extra_id_0>",
  "</s> <pad> <unk>",
]
_CORPUS = ["the cat sat on the mat", "a dog sat on a log", "cats and dogs"] * 9


def _train(path, **overrides):
  options = {
    "vocab_size": 22,
    "pad_id": 0,
    "eos_id": 1,
    "unk_id": 2,
    "bos_id": -1,
    "minloglevel": 5,
  }
  model = io.BytesIO()
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(_CORPUS),
    model_writer=model,
    **(options | overrides),
  )
  path.write_bytes(model.getvalue())
  return str(path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  return _train(tmp_path_factory.mktemp("vocabulary") / "spiece.model")


class TestSentencePiece:
  def test_fixed_ids_and_size(self, trained):
    vocabulary = vocabularies.SentencePieceVocabulary(trained, extra_ids=10)
    assert vocabulary.vocab_size == 32
    assert (vocabulary.pad_id, vocabulary.eos_id, vocabulary.unk_id) == (
      0,
      1,
      2,
    )

  @pytest.mark.parametrize("index", [0, 1, 9])
  def test_extra_ids_count_down_from_the_top(self, trained, index):
    vocabulary = vocabularies.SentencePieceVocabulary(trained, extra_ids=10)
    ids = vocabulary.encode(f"the <extra_id_{index}> sat")
    assert ids.count(vocabulary.vocab_size - 1 - index) == 1

  def test_equals_the_plain_model_where_no_sentinel_occurs(self, trained):
    plain = sentencepiece.SentencePieceProcessor(model_file=trained)
    ours = vocabularies.SentencePieceVocabulary(trained)
    for text in _CORPUS[:3]:
      assert ours.encode(text) == plain.encode(text)
      assert ours.decode(ours.encode(text)) == text

  def test_batch_equals_one_by_one(self, trained):
    ours = vocabularies.SentencePieceVocabulary(trained)
    assert ours.encode_batch(_TEXTS) == [ours.encode(t) for t in _TEXTS]

  def test_decoding_stops_at_the_end_of_sequence(self, trained):
    ours = vocabularies.SentencePieceVocabulary(trained)
    ids = ours.encode("the cat")
    assert ours.decode([*ids, 1, *ids]) == "the cat"

  @pytest.mark.parametrize("extra_ids", [0, 100])
  def test_real_vocabulary_equals_seqio(self, extra_ids):
    seqio = pytest.importorskip("seqio", reason="the oracle of this test")
    path = str(shared.data_path("t5_vocab/spiece.model"))
    ours = vocabularies.SentencePieceVocabulary(path, extra_ids=extra_ids)
    theirs = seqio.SentencePieceVocabulary(path, extra_ids=extra_ids)
    assert ours.vocab_size == theirs.vocab_size == 32000 + extra_ids
    for text in _TEXTS:
      ids = list(theirs.encode(text))
      assert ours.encode(text) == ids
      # 32127 is a row of the embedding table that no piece owns.
      for tail in ([], [1, 500], [0, 0], [32127, 7, 2]):
        assert ours.decode(ids + tail) == theirs.decode(ids + tail)
    assert ours.seqio() == theirs

  def test_equal_by_content_not_by_place(self, trained, tmp_path):
    copy = tmp_path / "copy.model"
    with open(trained, "rb") as file:
      copy.write_bytes(file.read())
    first = vocabularies.SentencePieceVocabulary(trained)
    second = vocabularies.SentencePieceVocabulary(str(copy))
    assert first == second
    assert hash(first) == hash(second)
    other_extra_ids = vocabularies.SentencePieceVocabulary(trained, extra_ids=7)
    assert first != other_extra_ids
    assert first != "spiece.model"

  def test_survives_pickling(self, trained):
    ours = vocabularies.SentencePieceVocabulary(trained, extra_ids=3)
    again = pickle.loads(pickle.dumps(ours))
    assert again == ours
    assert again.encode("the cat") == ours.encode("the cat")

  def test_missing_file(self, tmp_path):
    with pytest.raises(ValueError, match=r"none\.model' cannot be read"):
      vocabularies.SentencePieceVocabulary(str(tmp_path / "none.model"))

  @pytest.mark.parametrize(
    "content", [b"", b"plain words, no model", bytes(range(256))]
  )
  def test_file_that_is_no_model(self, tmp_path, content):
    path = tmp_path / "bad.model"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is not a SentencePiece model"):
      vocabularies.SentencePieceVocabulary(str(path))

  def test_truncated_model(self, trained, tmp_path):
    path = tmp_path / "cut.model"
    with open(trained, "rb") as file:
      path.write_bytes(file.read()[:-9])
    with pytest.raises(ValueError, match="is not a SentencePiece model"):
      vocabularies.SentencePieceVocabulary(str(path))

  def test_model_with_other_fixed_ids(self, tmp_path):
    path = _train(
      tmp_path / "bos.model", pad_id=-1, unk_id=0, bos_id=1, eos_id=2
    )
    with pytest.raises(ValueError, match=r"pad_id=0, eos_id=1, unk_id=2"):
      vocabularies.SentencePieceVocabulary(path)

  @pytest.mark.parametrize("extra_ids", [-1, "100", 1.5, True])
  def test_extra_ids_are_a_count(self, trained, extra_ids):
    with pytest.raises(ValueError, match="extra_ids must be"):
      vocabularies.SentencePieceVocabulary(trained, extra_ids=extra_ids)


class TestBytes:
  @pytest.mark.parametrize("extra_ids", [0, 100])
  def test_equals_seqio(self, extra_ids):
    seqio = pytest.importorskip("seqio", reason="the oracle of this test")
    ours = vocabularies.ByteVocabulary(extra_ids=extra_ids)
    theirs = seqio.ByteVocabulary(extra_ids=extra_ids)
    assert ours.vocab_size == theirs.vocab_size
    for text in _TEXTS:
      ids = list(theirs.encode(text))
      assert ours.encode(text) == ids
      for tail in ([], [1, 70], [0, 0], [259, 300], [200, 70]):
        assert ours.decode(ids + tail) == theirs.decode(ids + tail)
    assert ours.seqio() == theirs

  def test_byte_is_id_minus_three(self):
    assert vocabularies.ByteVocabulary().encode("A\u00e9") == [
      ord("A") + 3,
      0xC3 + 3,
      0xA9 + 3,
    ]

  def test_identity(self):
    assert vocabularies.ByteVocabulary() == vocabularies.ByteVocabulary()
    other = vocabularies.ByteVocabulary(extra_ids=5)
    assert vocabularies.ByteVocabulary() != other
