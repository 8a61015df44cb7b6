"""Targets behind a sentinel: what is trained, and what is judged."""

import pytest

from prompt_tuning import paths
from prompt_tuning.data import text_tasks
from prompt_tuning.data.views import SentinelTargets
from prompt_tuning.data.vocabularies import (
  ByteVocabulary,
  SentencePieceVocabulary,
)

VOCABULARY = SentencePieceVocabulary(
  str(paths.embedded_dir() / "sentencepiece.model")
)


def make(vocabulary):
  rows = [{"inputs": "the film was good", "targets": "good"}]
  return text_tasks.TextTask(
    name="views_toy",
    splits=text_tasks.in_memory({"train": rows}),
    vocabulary=vocabulary,
  )


def test_a_sentinel_stands_in_front_of_targets_alone():
  task = make(VOCABULARY)
  (plain,) = task.examples("train")
  (example,) = SentinelTargets().examples(task, "train")
  first = VOCABULARY.vocab_size - 1
  assert example["targets"].tolist() == [first, *plain["targets"].tolist()]
  assert example["inputs"].tolist() == plain["inputs"].tolist()
  # What metrics hold answers against.
  assert example["targets_pretokenized"] == "good"


@pytest.mark.parametrize(
  "text", ["<extra_id_0> good", "good", "<extra_id_0>good"]
)
def test_of_an_answer_the_rest_is_judged(text):
  assert SentinelTargets().answer(text) == "good"


def test_a_vocabulary_without_sentinels():
  with pytest.raises(ValueError, match="has no sentinel <extra_id_0>; give it"):
    SentinelTargets().examples(make(ByteVocabulary()), "train")


def test_rows_of_a_pattern_are_no_text():
  task = text_tasks.TextTask(
    name="views_toy",
    splits=text_tasks.in_memory({"train": [{"sentence": "a", "label": "0"}]}),
    vocabulary=VOCABULARY,
  )
  with pytest.raises(ValueError, match=r"fields \['label', 'sentence'\], of"):
    SentinelTargets().examples(task, "train")
