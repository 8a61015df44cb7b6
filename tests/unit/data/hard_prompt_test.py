"""Hard prompts: which examples stand in front, and what gives way."""

import collections

import pytest

from prompt_tuning.data import text_tasks
from prompt_tuning.data.hard_prompt import HardPrompt
from prompt_tuning.data.vocabularies import ByteVocabulary

VOCABULARY = ByteVocabulary()
LABELS = ("no", "yes")


def rows(split, count):
  return [
    {"inputs": f"{split} {n}", "targets": LABELS[n % 4 == 0]}
    for n in range(count)
  ]


@pytest.fixture
def task():
  splits = {"train": rows("known", 20), "validation": rows("asked", 6)}
  return text_tasks.TextTask(
    name="hard_prompt_toy",
    splits=text_tasks.in_memory(splits),
    vocabulary=VOCABULARY,
  )


def prompted(task, split="validation", **settings):
  plain = {
    "template": "Text: {inputs} Label: {targets}",
    "lengths": {"inputs": 1000, "targets": 4},
    "separator": "\n",
  }
  return HardPrompt(**plain | settings).examples(task, split)


def lines(example):
  text = VOCABULARY.decode(example["inputs"][:-1].tolist())
  assert text == example["inputs_pretokenized"]
  return text.split("\n")


def test_without_examples_it_is_the_question_in_words(task):
  examples = prompted(task, instruction="Yes or no?")
  assert [lines(e) for e in examples] == [
    ["Yes or no?", f"Text: asked {n} Label:"] for n in range(6)
  ]
  assert [e["targets_pretokenized"] for e in examples] == [
    row["targets"] for row in rows("asked", 6)
  ]


def test_examples_in_front_are_balanced_and_the_same_for_all(task):
  examples = prompted(task, num_shots=6)
  (shots,) = {tuple(lines(example)[:-1]) for example in examples}
  assert len(set(shots)) == 6
  known = {
    f"Text: {r['inputs']} Label: {r['targets']}" for r in rows("known", 20)
  }
  assert set(shots) <= known
  answers = collections.Counter(shot.split()[-1] for shot in shots)
  assert answers == {"no": 3, "yes": 3}


def test_the_seed_decides(task):
  first, again, other = (
    lines(prompted(task, num_shots=4, seed=seed)[0]) for seed in (1, 1, 2)
  )
  assert first == again != other


def test_no_question_stands_behind_its_own_answer(task):
  for number, example in enumerate(prompted(task, "train", num_shots=10)):
    *shots, question = lines(example)
    assert len(shots) == 10
    assert question == f"Text: known {number} Label:"
    assert not any(f"known {number} " in shot for shot in shots)


def test_what_does_not_fit_is_the_farthest_example(task, caplog):
  whole = prompted(task, num_shots=4)[0]
  *shots, question = lines(whole)
  room = len("\n".join([*shots[2:], question]).encode()) + 1
  with caplog.at_level("INFO", logger="absl"):
    cut = prompted(task, num_shots=4, lengths={"inputs": room, "targets": 4})
  assert lines(cut[0]) == [*shots[2:], question]
  assert all(len(example["inputs"]) <= room for example in cut)
  assert "2.00 of 4 examples in front of a question" in caplog.text


def test_a_question_alone_gives_its_last_words(task):
  room = len("Text: asked Label:") + 1
  for example in prompted(
    task, num_shots=2, lengths={"inputs": room, "targets": 4}
  ):
    assert lines(example) == ["Text: asked Label:"]


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"template": "{inputs}"}, "once and then end with {targets}"),
    ({"template": "{targets} {inputs}"}, "once and then end with {targets}"),
    ({"template": "{inputs} {x} {targets}"}, "once and then end"),
    ({"num_shots": -1}, "must not be negative, got -1"),
    (
      {"num_shots": 21},
      "21 examples in front .* 'train' has 20; ask",
    ),
    ({"lengths": {"inputs": 9, "targets": 4}}, "no room for a word"),
  ],
)
def test_what_is_no_hard_prompt(task, settings, message):
  with pytest.raises(ValueError, match=message):
    prompted(task, **settings)
