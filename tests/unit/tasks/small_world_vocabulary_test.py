import itertools

import pytest

from prompt_tuning import paths
from prompt_tuning.data.vocabularies import SentencePieceVocabulary
from prompt_tuning.tasks.small_world.documents import SKILLS, documents
from prompt_tuning.tasks.small_world.vocabulary import train_vocabulary


@pytest.fixture(scope="module")
def vocabulary():
  return SentencePieceVocabulary(
    str(paths.embedded_dir() / "sentencepiece.model")
  )


def test_it_fits_the_embedding_table_of_the_model(vocabulary):
  assert 640 - 128 < vocabulary.vocab_size <= 640


@pytest.mark.parametrize(
  "label", [label for skill in SKILLS.values() for label in skill.labels]
)
def test_a_label_is_one_piece(vocabulary, label):
  assert len(vocabulary.encode(label)) == 1


def test_documents_survive_the_round_trip(vocabulary):
  for text in itertools.islice(documents(11), 500):
    ids = vocabulary.encode(text)
    assert vocabulary.unk_id not in ids
    assert vocabulary.decode(ids) == text


def test_every_word_is_one_piece(vocabulary):
  texts = itertools.islice(documents(5), 30_000)
  words = {word for text in texts for word in text.split()}
  assert len(words) > 450
  assert [w for w in words if len(vocabulary.encode(w)) > 1] == []


@pytest.mark.slow
def test_training_again_gives_the_same_file():
  first, second = (
    train_vocabulary(num_pieces=400, num_documents=3000) for _ in range(2)
  )
  assert first == second
