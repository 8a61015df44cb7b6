"""PPT's patterns against what the authors' code makes of real examples."""

import json

import pytest

from prompt_tuning.data import patterns
from prompt_tuning.data.vocabularies import SentencePieceVocabulary
from prompt_tuning.tasks import ppt
from prompt_tuning.testing import shared

FORMS = {"prompt": "plain", "unified": "unified", "model_tuning": "hard"}
SETS = ("sst2", "sst5", "cb", "rte", "boolq", "race")


@pytest.fixture(scope="module")
def vocabulary():
  path = shared.data_path("t5_vocab/spiece.model")
  return SentencePieceVocabulary(str(path))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("task", SETS)
def test_rows_are_equal_token_for_token(task, form, vocabulary):
  made = json.loads(shared.fixture_path("ppt_templates.json").read_text())[task]
  pvp = ppt.pvp(task, FORMS[form])
  for fields, expected in zip(made["examples"], made[form], strict=True):
    example = pvp.example(fields, vocabulary)
    assert example["inputs"].tolist() == expected["enc_input_ids"]
    assert example["targets"].tolist() == expected["label_ids"]
    assert [0, *example["targets"][:-1]] == expected["dec_input_ids"]


@pytest.mark.parametrize("task", SETS)
def test_a_hybrid_row_has_the_words_and_room_for_soft_tokens(task):
  hybrid, hard = (ppt.pvp(task, form) for form in ("hybrid", "hard"))
  assert hybrid.pattern.text == hard.pattern.text
  assert hard.pattern.max_tokens - hybrid.pattern.max_tokens in (100, 7)


@pytest.mark.parametrize("form", list(ppt.Form))
@pytest.mark.parametrize("task", SETS)
def test_answers_are_written_as_they_are_ranked(task, form, vocabulary):
  pvp = ppt.pvp(task, form)
  for answer, word in zip(
    pvp.answers, dict.fromkeys(pvp.verbalizer.values()), strict=True
  ):
    ids = vocabulary.encode(answer)
    assert len(ids) == 2
    assert ids == [32099, *patterns.word_ids(vocabulary, word)]
    assert vocabulary.decode(ids) == answer


@pytest.mark.parametrize(
  ("task", "form", "message"),
  [
    ("sst3", "plain", r"PPT_TASK must be one of \['sst2', .* got 'sst3'"),
    ("sst2", "soft", "PPT_FORM must be one of 'plain'"),
  ],
)
def test_no_such_task_or_form(task, form, message):
  with pytest.raises(ValueError, match=message):
    ppt.pvp(task, form)
