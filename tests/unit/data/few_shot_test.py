"""Few-shot samples: balanced, disjoint, decided by the seed."""

import collections
import logging

import numpy as np
import pytest

from prompt_tuning import paths
from prompt_tuning.data.few_shot import FewShot, Part
from prompt_tuning.data.pattern_tasks import PatternTask
from prompt_tuning.data.patterns import PVP, Pattern
from prompt_tuning.data.vocabularies import SentencePieceVocabulary

VOCABULARY = SentencePieceVocabulary(
  str(paths.embedded_dir() / "sentencepiece.model")
)


class Task:
  """As much of a text task as is asked for."""

  name = "toy"

  def __init__(self, rows):
    self.rows = rows

  def examples(self, split):
    assert split == "train"
    return self.rows


def split(**sizes):
  """Returns examples of classes of given sizes, in a mixed order."""
  rows = [
    {"inputs": [i + 2, 1], "targets": [ord(name), 1], "name": name}
    for name, size in sizes.items()
    for i in range(size)
  ]
  np.random.default_rng(0).shuffle(rows)
  return rows


def both(examples, **settings):
  return [
    FewShot(part=part, **settings).examples(Task(examples), "train")
    for part in Part
  ]


def counts(part):
  return dict(collections.Counter(example["name"] for example in part))


def numbers(part):
  return [example["number"] for example in part]


@pytest.mark.parametrize("seed", range(5))
def test_parts_are_balanced_and_disjoint(seed):
  examples = split(a=300, b=40, c=1000)
  train, validation = both(examples, seed=seed)
  for part in (train, validation):
    assert sorted(counts(part).values()) == [10, 11, 11]
    assert all(
      {**examples[e["number"]], "number": e["number"]} == e for e in part
    )
    assert numbers(part) == sorted(set(numbers(part)))
  assert not set(numbers(train)) & set(numbers(validation))


def test_both_parts_are_as_many_as_was_asked_for():
  # Thirteen classes of five: half of five rounds to two.
  examples = split(**{name: 5 for name in "abcdefghijklm"})
  train, validation = both(examples)
  assert len(train) == len(validation) == 32
  assert not set(numbers(train)) & set(numbers(validation))


def test_the_seed_decides():
  examples = split(a=100, b=100)
  first, again, other = (
    numbers(FewShot(part="train", seed=seed).examples(Task(examples), "train"))
    for seed in (1, 1, 2)
  )
  assert first == again != other


def test_every_example_is_drawn_as_often():
  examples = split(a=50, b=50)
  drawn = collections.Counter(
    number
    for seed in range(300)
    for number in numbers(
      FewShot(part="validation", seed=seed).examples(Task(examples), "train")
    )
  )
  # Binomial: 300 draws of 16 out of 50.
  sigma = (300 * 0.32 * 0.68) ** 0.5
  assert max(abs(drawn[n] - 96) for n in range(100)) < 4.5 * sigma


def test_a_rare_class_is_shared_and_told(caplog):
  with caplog.at_level(logging.WARNING, logger="absl"):
    train, validation = both(split(a=119, b=115, c=16))
  assert counts(train) == {"a": 12, "b": 12, "c": 8}
  assert counts(validation) == {"a": 12, "b": 12, "c": 8}
  assert "classes are not balanced" in caplog.text


@pytest.mark.parametrize("num_train", [1, 4, 64])
def test_parts_of_other_sizes(num_train):
  examples = split(a=60, b=60)[:100]
  if num_train == 1:
    with pytest.raises(ValueError, match="of 2 classes each is to be among 1"):
      both(examples, num_train=num_train)
    return
  train, validation = both(examples, num_train=num_train, num_validation=32)
  assert (len(train), len(validation)) == (num_train, 32)
  assert not set(numbers(train)) & set(numbers(validation))


@pytest.mark.parametrize(
  ("sizes", "message"),
  [
    (
      {"a": 30, "b": 30},
      "'toy', split 'train': 32 .* 32 to select by .* there are 60; ask",
    ),
    ({"a": 99, "b": 1}, r"of 2 classes each .* there are 1 of \[98, 1\]"),
    ({chr(i): 5 for i in range(100, 140)}, "of 40 classes each is to be among"),
  ],
)
def test_too_few_examples(sizes, message):
  with pytest.raises(ValueError, match=message):
    both(split(**sizes))


def test_a_class_without_examples():
  rows = [{**row, "targets_pretokenized": row["name"]} for row in split(a=99)]
  with pytest.raises(ValueError, match=r"there is no example of \['b'\]"):
    both(rows, labels=["a", "b"])


@pytest.mark.parametrize("options", [(), ("no", "yes"), "choices"])
def test_a_class_of_a_pattern_without_examples(options):
  """But letters of an example's own options are no classes."""
  words = {"0": "A", "1": "B"} if options else {"0": "no", "1": "yes"}
  text = "{text}{options}<X>" if options else "{text}<X>"
  rows = [
    {"text": "film " * (n + 1), "label": "0", "choices": ["no", "yes"]}
    for n in range(99)
  ]
  task = PatternTask(
    name="toy",
    splits={"train": lambda: rows},
    vocabulary=VOCABULARY,
    pvp=PVP(
      pattern=Pattern(text=text, item="{letter}{option}"),
      verbalizer=words,
      options=options,
    ),
  )
  view = FewShot(part="train")
  if options == "choices":
    assert len(view.examples(task, "train")) == 32
    return
  word = "'B'" if options else "'yes'"
  with pytest.raises(ValueError, match=rf"there is no example of \[{word}\]"):
    view.examples(task, "train")


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"part": "test"}, "FewShot.part must be one of 'train', 'validation'"),
    ({"part": "train", "num_train": 0}, "num_train must be at least 1"),
  ],
)
def test_what_is_no_sample(settings, message):
  with pytest.raises(ValueError, match=message):
    FewShot(**settings)
