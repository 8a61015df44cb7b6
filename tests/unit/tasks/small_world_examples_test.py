import collections
import itertools

import pytest

from prompt_tuning.tasks.small_world import documents, lexicon
from prompt_tuning.tasks.small_world.draw import Draw, held_out
from prompt_tuning.tasks.small_world.examples import examples

TASKS = tuple(documents.SKILLS)


def _inputs(task, split, **kwargs):
  return [example["inputs"] for example in examples(task, split, **kwargs)]


def _combinations(text):
  """Held-out combinations in a text, found by reading it, not by drawing it."""
  found = set()
  for skill in documents.SKILLS.values():
    for instruction in skill.instructions:
      text = text.removeprefix(instruction)
  for sentence in text.replace(";", ".").split(" . "):
    words = sentence.split()
    for first, second in _statements(sentence, words):
      if held_out(first, second):
        found.add((first, second))
  return found


_VALUES = {
  *lexicon.PLACES, *lexicon.JOBS, *lexicon.FOODS, *lexicon.COLOURS,
  *lexicon.PETS, *lexicon.TOWNS,
}  # fmt: skip
_ADJECTIVES = {*lexicon.POSITIVE, *lexicon.NEGATIVE}


def _statements(sentence, words):
  """Pairs of words that a sentence says something of.

  One statement a sentence is read: who (a name) with a value, or a judged part
  with an adjective of the same clause.
  """
  names = [word for word in words if word in lexicon.NAMES]
  values = [word for word in words if word in _VALUES]
  if len(names) == 1 and "told" not in words and "first" not in words:
    yield from ((names[0], value) for value in values)
  for clause in sentence.replace(" and ", " , ").split(" , "):
    tokens = clause.split()
    parts = [a for the, a in itertools.pairwise(tokens) if the == "the"]
    for part in parts[:1]:
      for word in tokens:
        if word in _ADJECTIVES:
          yield part, word


@pytest.mark.parametrize("task", TASKS)
def test_examples_are_the_same_every_time(task):
  assert examples(task, "train", num_examples=50) == examples(
    task, "train", num_examples=50
  )


@pytest.mark.parametrize("task", TASKS)
def test_a_seed_gives_other_examples(task):
  first = _inputs(task, "train", num_examples=50)
  second = _inputs(task, "train", num_examples=50, seed=1)
  assert len(set(first) & set(second)) < 25


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("split", ["train", "validation"])
def test_labels_are_balanced(task, split):
  counts = collections.Counter(
    example["targets"] for example in examples(task, split)
  )
  assert set(counts) == set(documents.SKILLS[task].labels)
  assert max(counts.values()) - min(counts.values()) <= 1


@pytest.mark.parametrize("task", TASKS)
def test_no_text_is_in_both_splits_or_twice_in_one(task):
  train, validation = _inputs(task, "train"), _inputs(task, "validation")
  assert len(train) == len(set(train))
  assert len(validation) == len(set(validation))
  assert not set(train) & set(validation)


def test_every_validation_story_holds_a_held_out_combination():
  assert all(
    _combinations(text) for text in _inputs("entailment", "validation")
  )


def test_most_validation_reviews_show_a_held_out_combination():
  # Those that say it with a verb ("we despise the plot") are not read here.
  texts = _inputs("sentiment", "validation")
  assert sum(bool(_combinations(text)) for text in texts) > 0.5 * len(texts)


@pytest.mark.parametrize("task", ["sentiment", "entailment"])
def test_training_examples_hold_none(task):
  assert not any(_combinations(text) for text in _inputs(task, "train"))


def test_quizzes_ask_for_unseen_properties_of_a_thing():
  for split, expected in (("train", False), ("validation", True)):
    for example in examples("choice", split):
      question, options = example["inputs"].split(" ? ")
      words = options.split()
      thing = words[words.index(example["targets"]) + 1]
      assert held_out(question.removeprefix("which one "), thing) is expected


@pytest.mark.parametrize("task", TASKS)
def test_sequels_do_not_begin_with_a_label(task):
  skill = documents.SKILLS[task]
  draw = Draw(0, "train")
  for _ in range(200):
    for sequel in skill.draw(draw).sequels:
      assert sequel.split()[0] not in skill.labels


def test_an_unknown_task_lists_the_known_ones():
  with pytest.raises(ValueError, match=r"expected one of sentiment, .*'mood'"):
    examples("mood", "train")


def test_an_unknown_split_lists_the_known_ones():
  with pytest.raises(ValueError, match=r"expected one of train, .*'test'"):
    examples("topic", "test", num_examples=1)


def test_the_corpus_holds_no_held_out_combination():
  for text in itertools.islice(documents.documents(3), 3000):
    assert not _combinations(text), text


@pytest.mark.parametrize("task", TASKS)
def test_the_corpus_holds_no_validation_text(task):
  corpus = "\n".join(itertools.islice(documents.documents(4), 5000))
  assert not [text for text in _inputs(task, "validation") if text in corpus]
