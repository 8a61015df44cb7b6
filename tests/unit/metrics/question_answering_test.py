"""Exact match and token F1, against cases done by hand and against T5."""

import json
import pathlib

import pytest

from prompt_tuning.metrics import question_answering as qa


@pytest.mark.parametrize(
  ("text", "normal"),
  [
    ("The  Cat, sat!", "cat sat"),
    ("an apple a day", "apple day"),
    ("U.S.", "us"),
    ("well-known", "wellknown"),
    ("theatre and antique", "theatre and antique"),
    ("the", ""),
    ("  \t\n", ""),
    ("Café — 50%", "café — 50"),
  ],
)
def test_normalisation(text, normal):
  assert qa.normalize_answer(text) == normal


@pytest.mark.parametrize(
  ("answer", "prediction", "em", "f1"),
  [
    ("The Eiffel Tower", "eiffel tower.", 1.0, 1.0),
    # 2 shared of 3 and of 2.
    ("big red dog", "red dog", 0.0, 2 * 1 * (2 / 3) / (1 + 2 / 3)),
    # A repeated word is shared only as often as it is in both.
    ("new york", "york york york", 0.0, 2 * (1 / 3) * 0.5 / (1 / 3 + 0.5)),
    ("one", "two", 0.0, 0.0),
    ("one", "", 0.0, 0.0),
    ("the", "a", 1.0, 0.0),
  ],
)
def test_hand_computed_pairs(answer, prediction, em, f1):
  assert qa.exact_match(answer, prediction) == em
  assert qa.token_f1(answer, prediction) == pytest.approx(f1)
  assert qa.token_f1(prediction, answer) == pytest.approx(f1)


def test_each_figure_takes_the_gold_answer_that_suits_it():
  result = qa.squad(
    [["in 1990", "the year 1990"], ["blue"]], ["year 1990", "dark blue"]
  )
  assert result == {
    "em": pytest.approx(50.0),
    "f1": pytest.approx(100 * (1 + 2 / 3) / 2),
  }


GOLDEN = pathlib.Path(__file__).parents[2] / "golden" / "squad_t5.json"


@pytest.mark.parametrize("case", json.loads(GOLDEN.read_text())["cases"])
def test_equals_t5(case):
  """The file says which code of T5 made these figures."""
  result = qa.squad(case["targets"], case["predictions"])
  assert result == {
    "em": pytest.approx(case["em"]),
    "f1": pytest.approx(case["f1"]),
  }
  normalized = [qa.normalize_answer(text) for text in case["predictions"]]
  assert normalized == case["normalized"]


@pytest.mark.parametrize(
  ("targets", "predictions", "message"),
  [
    ([], [], "there are no targets to evaluate"),
    ([["a"]], ["a", "b"], "got 1 targets and 2 predictions"),
    (["a bare string"], ["a"], "target 0 must be a list with at least one"),
    ([["a"], []], ["a", "b"], "target 1 must be a list .* got \\[\\]"),
  ],
)
def test_bad_targets_are_errors(targets, predictions, message):
  with pytest.raises(ValueError, match=message):
    qa.squad(targets, predictions)
