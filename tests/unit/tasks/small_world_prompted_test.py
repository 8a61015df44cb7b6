"""The small world as patterns, and the documents that prompts learn on."""

import itertools
import json
import sys

import pytest

from prompt_tuning import paths
from prompt_tuning.data import patterns, text_tasks
from prompt_tuning.data.vocabularies import SentencePieceVocabulary
from prompt_tuning.tasks.ppt_forms import Form
from prompt_tuning.tasks.small_world import prompted, reports
from prompt_tuning.tasks.small_world.examples import examples

VOCABULARY = SentencePieceVocabulary(
  str(paths.embedded_dir() / "sentencepiece.model")
)


@pytest.mark.parametrize("form", list(Form))
@pytest.mark.parametrize("task", list(prompted.WORDS))
def test_every_word_of_a_form_is_one_piece(task, form):
  name = prompted.task(task=task, form=form)
  assert prompted.task(task=task, form=form) == name
  found = text_tasks.get(name)
  assert found is not None
  found.pvp.check(VOCABULARY)
  made = found.examples("validation")
  known = [
    row
    for row in examples(task, "validation")
    if row["targets"] in prompted.WORDS[task]
  ]
  assert len(made) == len(known) >= 400
  for example in made[:50]:
    assert len(example["targets"]) == 2
    assert VOCABULARY.unk_id not in example["inputs"]
    assert len(example["inputs"]) <= 56
  answers = prompted.answers(task=task, form=form)
  assert len({*VOCABULARY.encode(answers[0])}) == 2


def test_fields_are_the_parts_of_a_text():
  pvp = prompted.pvp("paraphrase", "plain")
  [row] = itertools.islice(prompted._rows("paraphrase", "train"), 1)
  text = examples("paraphrase", "train")[0]["inputs"]
  assert text == f"first : {row['first']} . second : {row['second']} ."
  ids = pvp.example(row, VOCABULARY)["inputs"].tolist()
  slot = patterns.sentinel(VOCABULARY, patterns.ANSWER)
  assert ids == [
    *VOCABULARY.encode(row["first"]),
    slot,
    *VOCABULARY.encode(row["second"]),
  ]


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"task": "topics"}, "PPT_TASK must be one of"),
    ({"form": "soft"}, "PPT_FORM must be one of"),
    ({"words": ("good",)}, r"one for each of \['negative', 'positive'\]"),
  ],
)
def test_no_such_task(settings, message):
  with pytest.raises(ValueError, match=message):
    prompted.pvp(**{"task": "sentiment", "form": "plain"} | settings)


def test_other_words_for_a_pattern():
  pvp = prompted.pvp(
    "sentiment", "hybrid", pattern="{text} a<X> film", words=("cat", "dog")
  )
  assert pvp.verbalizer == {"negative": "cat", "positive": "dog"}
  assert pvp.pattern.text == "{text} a<X> film"


def test_reports_are_of_known_words_and_of_one_theme():
  for sentences in itertools.islice(reports.reports(0), 200):
    assert len(sentences) >= 6
    for sentence in sentences:
      ids = VOCABULARY.encode(sentence)
      assert VOCABULARY.unk_id not in ids
      assert len(ids) >= 4
  first, again, other = (
    list(itertools.islice(reports.reports(seed), 5)) for seed in (0, 0, 1)
  )
  assert first == again != other


def test_a_file_of_reports(tmp_path, monkeypatch):
  output = tmp_path / "reports.jsonl"
  words = ["reports", f"--output={output}", "--num_documents=7"]
  monkeypatch.setattr(sys, "argv", words)
  reports.main()
  rows = [json.loads(line) for line in output.read_text().splitlines()]
  assert [row["text"] for row in rows] == list(
    itertools.islice(reports.reports(0), 7)
  )
