"""Patterns: what they are made of, what gives way, and what is no pattern."""

import pathlib
import random

import numpy as np
import pytest

from prompt_tuning import paths
from prompt_tuning.data.features import FeatureBuilder, FeatureLengths
from prompt_tuning.data.patterns import ANSWER, END, LETTERS, PVP, Pattern
from prompt_tuning.data.vocabularies import (
  ByteVocabulary,
  SentencePieceVocabulary,
)

VOCABULARY = SentencePieceVocabulary(
  str(paths.embedded_dir() / "sentencepiece.model")
)
SLOT = VOCABULARY.encode(ANSWER)[0]
CHOICE = "{sentence}[?]{options}[?]which one<X>"
WORDS = ("film", "good", "first", "second", "music", "which", "one", "yes")
LETTER_IDS = [VOCABULARY.encode(ANSWER + c)[1] for c in "ABCD"]
# Of real text, with all sixteen letters.
REAL = SentencePieceVocabulary(
  str(
    pathlib.Path(__file__).parents[3]
    / "docs/results/ladder/sentencepiece.model"
  )
)


def pair(text="{sentence} is<X>[.]", **settings):
  pattern = {
    key: settings.pop(key)
    for key in ("gives_way", "max_tokens", "budgets", "item")
    if key in settings
  }
  words = {"verbalizer": {"0": "bad", "1": "good"}} | settings
  return PVP(pattern=Pattern(text=text, **pattern), **words)


def test_the_parts_of_a_row():
  example = pair().example(
    {"sentence": "the film", "label": 1, "id": "x"}, VOCABULARY
  )
  stop = VOCABULARY.encode(ANSWER + ".")[1]
  expected = [*VOCABULARY.encode("the film"), *VOCABULARY.encode("is")]
  assert example["inputs"].tolist() == [*expected, SLOT, stop]
  assert example["targets"].tolist() == [SLOT, *VOCABULARY.encode("good")]
  assert example["targets_pretokenized"] == "good"
  assert example["id"] == "x"


def test_pre_training_ends_a_target():
  example = pair(ends=True).example(
    {"sentence": "the film", "label": "0"}, VOCABULARY
  )
  assert example["targets"].tolist()[-1] == VOCABULARY.encode(END)[0]


@pytest.mark.parametrize("seed", range(200))
def test_slot_options_and_other_fields_outlive_any_cut(seed):
  rng = random.Random(seed)

  def words(most):
    return " ".join(rng.choices(WORDS, k=rng.randint(1, most)))

  count = rng.randint(2, 4)
  options = [words(6) for _ in range(count)]
  fields = {"sentence": words(300), "question": words(8)}
  fixed = 6 + 3 * count
  needed = fixed + 1 + sum(len(o.split()) for o in options)
  needed += len(fields["question"].split())
  pattern = Pattern(
    text="{sentence}[?]{question}[?]{options}[?]which one<X>",
    gives_way="sentence",
    max_tokens=needed + rng.randint(0, 200),
  )
  ids = pattern.render(fields, VOCABULARY, options=options).tolist()
  assert len(ids) <= pattern.max_tokens
  assert ids.count(SLOT) == 1
  whole = Pattern(text=pattern.text, gives_way="sentence", max_tokens=10_000)
  uncut = whole.render(fields, VOCABULARY, options=options).tolist()
  lost = len(uncut) - len(ids)
  kept = len(fields["sentence"].split()) - lost
  assert kept >= 1
  assert ids == uncut[:kept] + uncut[kept + lost :]
  assert all(ids.count(letter) == 1 for letter in LETTER_IDS[:count])


@pytest.mark.parametrize("seed", range(100))
def test_every_option_outlives_any_cut_where_options_give_way(seed):
  """Whatever the texts and the row, down to a token for each."""
  rng = random.Random(seed)

  def words(most):
    return " ".join(rng.choices(WORDS, k=rng.randint(1, most)))

  count = rng.randint(2, 16)
  options = [words(60) for _ in range(count)]
  fields = {"query": words(300)}
  text = "{query}[?]{options}[?]The correct one is<X>"
  whole = Pattern(text=text, max_tokens=100_000)
  uncut = whole.render(fields, REAL, options=options).tolist()
  query, texts = REAL.encode(fields["query"]), [*map(REAL.encode, options)]
  tail = REAL.encode("The correct one is")
  # The query, two marks, four tokens of each option, the words and the slot.
  least = 1 + 2 + 4 * count + len(tail) + 1
  most = rng.randint(least, least + 200)
  pattern = Pattern(text=text, gives_way=("query", "options"), max_tokens=most)
  ids = pattern.render(fields, REAL, options=options).tolist()
  assert len(ids) <= most
  if len(uncut) <= most:
    assert ids == uncut
  slot = REAL.encode(ANSWER)[0]
  assert ids[-len(tail) - 1 :] == [*tail, slot]
  assert ids.count(slot) == 1
  # Each letter is followed by the beginning of its option.
  letters = [REAL.encode(ANSWER + c)[1] for c in LETTERS[:count]]
  stop = REAL.encode(ANSWER + ".")[1]
  place = -1
  for letter, option in zip(letters, texts, strict=True):
    place = next(
      n
      for n in range(place + 1, len(ids))
      if ids[n : n + 3] == [letter, stop, option[0]]
    )
  assert ids[0] == query[0]


def test_a_field_that_stands_twice_is_cut_twice():
  pattern = Pattern(text="{a}<X>{a}", gives_way="a", max_tokens=9)
  ids = pattern.render({"a": "film " * 8}, VOCABULARY).tolist()
  assert len(ids) == 9
  assert ids.index(SLOT) == 4


@pytest.mark.parametrize("text", [ANSWER, "\uff1cextra_id_0\uff1e"])
def test_a_sentinel_in_a_field_is_no_slot(text):
  """However it is spelt: sentencepiece makes wide letters narrow."""
  fields = {"sentence": f"film {text} good", "label": 1}
  ids = pair().example(fields, VOCABULARY)["inputs"].tolist()
  assert ids.count(SLOT) == 1
  assert ids.index(SLOT) > ids.index(VOCABULARY.encode("good")[0])


def test_budgets_cut_a_field_and_every_option():
  pattern = Pattern(text=CHOICE, budgets={"sentence": 2, "options": 1})
  ids = pattern.render(
    {"sentence": "film film film"}, VOCABULARY, options=["good one", "yes yes"]
  )
  expected = Pattern(text=CHOICE).render(
    {"sentence": "film film"}, VOCABULARY, options=["good", "yes"]
  )
  np.testing.assert_array_equal(ids, expected)


@pytest.mark.parametrize("max_tokens", range(3, 9))
def test_several_fields_give_way_in_proportion(max_tokens):
  pattern = Pattern(
    text="{a}<X>{b}", gives_way=("a", "b"), max_tokens=max_tokens
  )
  fields = {"a": "film film", "b": "good good good good good good"}
  ids = pattern.render(fields, VOCABULARY).tolist()
  place = ids.index(SLOT)
  assert len(ids) == max_tokens
  assert 1 <= place <= 2
  assert abs(place - (max_tokens - 1) / 4) <= 1


def test_an_option_is_written_as_its_item_says():
  made = pair(
    "{sentence}{options}<X>",
    item="{letter} {option}",
    options=("good", "which one"),
    verbalizer={"0": "A", "1": "B"},
  )
  made.check(VOCABULARY)
  example = made.example({"sentence": "film", "label": 1}, VOCABULARY)
  text = VOCABULARY.encode("film A good B which one")
  assert example["inputs"].tolist() == [*text, SLOT]
  assert example["targets"].tolist() == [SLOT, *VOCABULARY.encode("B")]


def test_soft_tokens_stand_in_a_pattern():
  text = "{soft:2}{sentence}{soft:1}<X>[.]"
  pattern = Pattern(text=text, gives_way="sentence", max_tokens=3)
  assert pattern.fields == ["sentence"]
  assert pattern.num_slots == 3
  fields = {"sentence": "film music good"}
  ids = pattern.render(fields, VOCABULARY).tolist()
  stop = VOCABULARY.encode(ANSWER + ".")[1]
  # They take no room of the text.
  assert ids == [-1, -1, *VOCABULARY.encode("film"), -1, SLOT, stop]
  example = pair(text).example(fields | {"label": 1}, VOCABULARY)
  assert "film music good" in example["inputs_pretokenized"]


@pytest.mark.parametrize(
  ("make", "message"),
  [
    (lambda: pair(item="{letter}"), "an item must have {option}, got"),
    (lambda: pair("{sentence}"), "one answer slot <X>, it has 0"),
    (lambda: pair("<X>{sentence}<X>"), "one answer slot <X>, it has 2"),
    (lambda: pair(gives_way="text"), "no field 'text' to cut"),
    (lambda: pair(budgets={"text": 3}), "no field 'text' to cut"),
    (lambda: pair(item="{leter} {option}"), r"words, got \['{leter}'\] in"),
    (lambda: pair(item="<X> {option}"), r"words, got \['<X>'\] in"),
    (lambda: pair("{sen tence}<X>"), "a brace of no field; fields are"),
    (lambda: pair("{sentence}}<X>"), "a brace of no field; fields are"),
    (lambda: pair(budgets={"sentence": 0}), "'sentence' must be a positive"),
    (
      lambda: pair(CHOICE, options=["yes"] * 17),
      "a choice has 2 to 16 options, got 17",
    ),
    (lambda: pair(verbalizer={}), "needs a word for each label"),
    (lambda: pair(CHOICE), "options are .* has {options}"),
    (lambda: pair(options=("a", "b")), "lacks {options}"),
  ],
)
def test_what_is_no_pair(make, message):
  with pytest.raises(ValueError, match=message):
    make()


@pytest.mark.parametrize(
  ("settings", "fields", "message"),
  [
    ({}, {"label": 1}, "here: the pattern's field 'sentence' must be text"),
    ({}, {"sentence": ["a"], "label": 1}, "'sentence' must be text, got"),
    ({}, {"sentence": "film"}, "label None in the field 'label' has no word"),
    ({}, {"sentence": "film", "label": 2}, "label 2 .* words for \\['0', '1'"),
    ({"max_tokens": 3}, {"sentence": "film", "label": 1}, "no field gives way"),
    (
      {"max_tokens": 3, "gives_way": "sentence"},
      {"sentence": "film", "label": 1},
      "row of 3 tokens is 1 too short, and the field 'sentence' gives way",
    ),
    (
      {"verbalizer": {"1": "unheard-of"}},
      {"sentence": "film", "label": 1},
      "cannot write 'unheard-of', of a pattern",
    ),
    (
      {"text": "{sentence}[~]<X>"},
      {"sentence": "film", "label": 1},
      r"has no piece \[~\]",
    ),
    (
      {"text": CHOICE, "options": "choices"},
      {"sentence": "film", "label": 1, "choices": ["yes"] * 17},
      "a choice has 2 to 16 options, got 17",
    ),
    (
      {"text": CHOICE, "options": "choices", "verbalizer": {"2": "[C]"}},
      {"sentence": "film", "label": 2, "choices": ["yes", "good"]},
      "here: the answer is the letter C, and there are 2 options",
    ),
  ],
)
def test_what_is_no_example(settings, fields, message):
  with pytest.raises(ValueError, match=message):
    pair(**settings).example(fields, VOCABULARY, where="here")


def test_items_are_checked_against_the_vocabulary():
  made = pair(CHOICE, options=("a", "b"), item="[~]{option}")
  with pytest.raises(ValueError, match=r"has no piece \[~\]"):
    made.check(VOCABULARY)


def test_a_row_that_its_lengths_would_cut_is_refused():
  example = pair().example({"sentence": "film " * 9, "label": 1}, VOCABULARY)
  lengths = FeatureLengths(inputs=8, targets=2)
  builder = FeatureBuilder(lengths, vocab_size=VOCABULARY.vocab_size)
  with pytest.raises(ValueError, match="row of a pattern has 12 tokens, and"):
    builder.batch([example])


def test_options_are_a_list():
  made = pair(CHOICE, options="choices")
  fields = {"sentence": "film", "label": 1, "choices": "cat dog"}
  with pytest.raises(
    ValueError, match=r"here: the field 'choices' must be a l"
  ):
    made.example(fields, VOCABULARY, where="here")


def test_a_vocabulary_without_sentinels():
  with pytest.raises(ValueError, match="has no sentinel <extra_id_0>"):
    Pattern(text="{a}<X>").render({"a": "b"}, ByteVocabulary())


def test_there_are_sixteen_letters():
  assert LETTERS == "ABCDEFGHIJKLMNOP"
