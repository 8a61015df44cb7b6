"""Metrics over groups, by hand and against scikit-learn."""

import numpy as np
import pytest

from prompt_tuning.metrics import grouped, question_answering
from prompt_tuning.metrics.grouped import Grouped


def answered(*questions):
  """Returns targets and predictions of questions, "10/11" for each."""
  targets, predictions = [], []
  for number, question in enumerate(questions):
    wanted, said = question.split("/")
    targets += [Grouped(number, int(label)) for label in wanted]
    predictions += [int(label) if label in "01" else label for label in said]
  return targets, predictions


@pytest.mark.parametrize(
  ("questions", "percent"),
  [
    (["10/10", "0/0"], 100.0),
    (["10/11", "0/0"], 50.0),
    # One wrong answer spoils its question, however many are right.
    (["10000/10001", "1/1", "0/0", "1/1"], 75.0),
    (["10/1x", "1/x"], 0.0),
  ],
)
def test_a_question_counts_where_all_its_answers_are_right(questions, percent):
  result = grouped.exact_match(*answered(*questions))
  assert result == {"exact_match": percent}


def test_groups_need_not_stand_together():
  targets = [Grouped(g, 1) for g in ("a", "b", "a", "b")]
  result = grouped.exact_match(targets, [1, 1, 0, 1])
  assert result == {"exact_match": 50.0}


@pytest.mark.parametrize("seed", range(20))
def test_f1_over_all_answers_equals_scikit_learn(seed):
  metrics = pytest.importorskip("sklearn.metrics", reason="is the oracle")
  rng = np.random.default_rng(seed)
  labels, said = rng.integers(0, 2, [2, 30]).tolist()
  targets = [Grouped(int(rng.integers(5)), label) for label in labels]
  wanted = 100 * metrics.f1_score(labels, said, zero_division=0.0)
  assert grouped.f1_over_all(targets, said) == {"f1": pytest.approx(wanted)}


def test_an_invalid_answer_is_the_wrong_one():
  # "x" for 0 is a false alarm: 1 hit, 2 said, 1 there.
  result = grouped.f1_over_all(*answered("10/1x"))
  assert result == {"f1": pytest.approx(200 / 3)}


def test_a_query_counts_once_and_takes_its_best_answer():
  targets = [
    Grouped("1-1", ["Bob Smith", "Robert"]),
    Grouped("1-1", ["Bob Smith", "Robert"]),
    Grouped("1-2", ["Rome"]),
  ]
  metric = grouped.once_each(question_answering.squad)
  # F1 of "Bob" and "Bob Smith" is 2/3.
  assert metric(targets, ["Bob", "Bob", "Rome"]) == {
    "em": 50.0,
    "f1": pytest.approx(100 * (2 / 3 + 1) / 2),
  }
  assert metric(targets, ["robert", "the pope", "Oslo"])["em"] == 50.0


@pytest.mark.parametrize(
  "metric",
  [
    grouped.exact_match,
    grouped.f1_over_all,
    grouped.once_each(question_answering.squad),
  ],
)
def test_nothing_to_compare_is_an_error(metric):
  with pytest.raises(ValueError, match="there are no targets to evaluate"):
    metric([], [])
  with pytest.raises(ValueError, match="got 1 targets and 2 predictions"):
    metric([Grouped(0, 1)], [1, 1])
