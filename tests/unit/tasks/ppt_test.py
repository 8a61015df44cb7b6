"""PPT's patterns against what the authors' code makes of real examples."""

import json

import pytest

from prompt_tuning.data import patterns, text_tasks
from prompt_tuning.data.prompt_pretraining import prompts
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


@pytest.mark.parametrize("form", list(ppt.Form))
@pytest.mark.parametrize("task", ppt.NAMES)
def test_every_answer_is_one_piece(task, form, vocabulary):
  pvp = ppt.pvp(task, form)
  pvp.check(vocabulary)
  for word in pvp.verbalizer.values():
    assert len(patterns.word_ids(vocabulary, word)) == 1


def test_a_long_row_of_many_fields_keeps_its_slot(vocabulary):
  fields = {
    "question_title": "why is the sky blue ?",
    "question_content": "word " * 900,
    "best_answer": "because " * 300,
    "topic": 1,
  }
  for form in ppt.Form:
    ids = ppt.pvp("yahoo_answers", form).example(fields, vocabulary)["inputs"]
    assert len(ids) <= 512
    assert ids.tolist().count(32099) == 1
    words = [vocabulary.encode(text)[0] for text in ("word", "because")]
    long, short = (ids.tolist().count(word) for word in words)
    assert 2 < long / short < 4


def test_articles_of_race_are_questions(vocabulary, tmp_path):
  article = {
    "article": "it is blue",
    "questions": ["what ?", "who ?"],
    "options": [list("wxyz"), list("stuv")],
    "answers": ["B", "D"],
  }
  path = tmp_path / "race.jsonl"
  path.write_text(json.dumps(article) + "\n")
  files = {"race": {"train": str(path)}, "cb": {"train": "absent.jsonl"}}
  name = ppt.ppt_task(
    task="race",
    form="plain",
    files=files,
    vocabulary=vocabulary,
    name="race_of_articles",
  )
  task = text_tasks.get(name)
  assert task is not None
  rows = task.read("train")
  assert [row["question"] for row in rows] == ["what ?", "who ?"]
  assert [row["answer"] for row in rows] == ["B", "D"]
  assert rows[1]["option"] == list("stuv")
  with pytest.raises(ValueError, match=r"files for \['cb', 'race'\], and none"):
    ppt.ppt_task(task="rte", form="plain", files=files, vocabulary=vocabulary)


@pytest.mark.parametrize(
  ("task", "form", "expected"),
  [
    ("rte", "plain", "next_sentence_prediction"),
    ("race", "hybrid", "next_sentence_selection"),
    ("sst2", "plain", "sentence_classification"),
    ("sst2", "unified", "unified"),
  ],
)
def test_a_task_starts_from_the_prompt_of_its_format(
  task, form, expected, tmp_path
):
  wanted = ppt.format_of(task=task, form=form)
  assert wanted.value == expected
  with pytest.raises(ValueError, match=f"no prompt .*format={expected}"):
    prompts.of_format(wanted=wanted, folder=str(tmp_path))
  place = tmp_path / f"format={expected}" / "RANDOM_SEED=0" / "prompts"
  place.mkdir(parents=True)
  (place / "best.npy").write_bytes(b"")
  found = prompts.of_format(wanted=wanted, folder=str(tmp_path))
  assert found == str(place / "best.npy")


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
