"""PPT's patterns against what the authors' code makes of real examples."""

import json
import re

import pytest

from prompt_tuning.data import pattern_tasks, patterns, text_tasks
from prompt_tuning.data.prompt_pretraining import prompts
from prompt_tuning.data.vocabularies import SentencePieceVocabulary
from prompt_tuning.tasks import ppt, ppt_chinese, ppt_english, ppt_forms
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


@pytest.mark.parametrize("form", list(ppt_forms.Form))
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


class Characters:
  """A vocabulary of single characters, which knows its sentinels."""

  pad_id, eos_id, unk_id = 0, 1, 2
  fingerprint = "characters"

  def encode(self, text):
    parts = re.findall(r"<extra_id_\d+>|[^ ]", text)
    return [
      900_000 + int(p[10:-1]) if len(p) > 1 else 10 + ord(p) for p in parts
    ]

  def decode(self, ids):
    return "".join(
      f"<extra_id_{i - 900_000}>" if i >= 900_000 else chr(i - 10) for i in ids
    )


CHINESE = {
  "chnsenticorp": {"text_a": "房间很好", "label": 1},
  "amazon_zh": {"sentence": "不好用", "label": 1},
  "tnews": {"sentence": "股市大涨", "label": "114"},
  "lcqmc": {"text_a": "你好吗", "text_b": "你还好吗", "label": "1"},
  "cmnli": {"sentence1": "他走了", "sentence2": "他在", "label": "neutral"},
  "ocnli": {"sentence1": "他走了", "sentence2": "他在", "label": "entailment"},
  "ccpm": {"translation": "花开了", "choices": list("甲乙丙丁"), "answer": 2},
  "c3": {
    "context": "他走了",
    "question": "谁走了",
    "choice": ["他", "她"],
    "letter": "B",
  },
}


@pytest.mark.parametrize("form", list(ppt_forms.Form))
@pytest.mark.parametrize("task", CHINESE)
def test_chinese_tasks(task, form):
  assert set(CHINESE) == set(ppt_chinese.TASKS)
  vocabulary, fields = Characters(), CHINESE[task]
  pvp = ppt.pvp(task, form)
  pvp.check(vocabulary)
  example = pvp.example(fields, vocabulary)
  text = vocabulary.decode(example["inputs"])
  assert text.count("<extra_id_0>") == 1
  for value in fields.values():
    if (
      isinstance(value, str) and len(value) > 2 and value != fields.get("label")
    ):
      assert value in text
  for option in pvp.options if not isinstance(pvp.options, str) else ():
    assert f".{option}。" in text
  answer = vocabulary.decode(example["targets"])
  assert answer in {a.replace(" ", "") for a in pvp.answers}


def test_pairs_without_a_label_are_left_out(tmp_path):
  rows = [
    {"sentence1": "a", "sentence2": "b", "label": label}
    for label in ("neutral", "-", "entailment")
  ]
  path = tmp_path / "ocnli.jsonl"
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  task = ppt_chinese.TASKS["ocnli"]
  readers = pattern_tasks.from_files(
    {"train": str(path)}, ppt.pvp("ocnli", "plain"), expand=task.expand
  )
  labels = [row["label"] for row in readers["train"]()]
  assert labels == ["neutral", "entailment"]


def test_the_answer_of_c3_is_one_of_its_options(tmp_path):
  row = {"context": "a", "question": "b", "choice": ["c", "d"], "answer": "d"}
  path = tmp_path / "c3.jsonl"
  lines = [row, row | {"answer": "e"}]
  path.write_text("".join(json.dumps(each) + "\n" for each in lines))
  readers = pattern_tasks.from_files(
    {"train": str(path)},
    ppt.pvp("c3", "plain"),
    expand=ppt_chinese.TASKS["c3"].expand,
  )
  rows = readers["train"]()
  assert next(rows)["letter"] == "B"
  with pytest.raises(ValueError, match="line 2: the answer 'e' is none of"):
    next(rows)


@pytest.mark.parametrize("form", list(ppt_forms.Form))
@pytest.mark.parametrize("task", ppt_english.TASKS)
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
  for form in ppt_forms.Form:
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
  is_labelled = expected == "sentence_classification"
  folder = {"labelled_folder" if is_labelled else "folder": str(tmp_path)}
  with pytest.raises(ValueError, match=f"no prompt .*format={expected}"):
    prompts.of_format(wanted=wanted, **folder)
  place = tmp_path / f"format={expected}" / "RANDOM_SEED=0" / "prompts"
  place.mkdir(parents=True)
  (place / "best.npy").write_bytes(b"")
  found = prompts.of_format(wanted=wanted, **folder)
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
