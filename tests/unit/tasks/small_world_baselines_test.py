"""What the tasks cost a model that only counts words."""

import pytest

from prompt_tuning.tasks.small_world.examples import examples

_TRAIN, _VALIDATION = 1500, 400


def _bag_of_words_accuracy(task):
  """Validation accuracy of logistic regression on word counts, in percent."""
  text = pytest.importorskip(
    "sklearn.feature_extraction.text", reason="the baseline is scikit-learn's"
  )
  from sklearn.linear_model import LogisticRegression

  train = examples(task, "train", num_examples=_TRAIN)
  validation = examples(task, "validation", num_examples=_VALIDATION)
  counter = text.CountVectorizer(token_pattern=r"\S+", lowercase=False)
  counts = counter.fit_transform([each["inputs"] for each in train])
  model = LogisticRegression(max_iter=500)
  model.fit(counts, [each["targets"] for each in train])
  unseen = counter.transform([each["inputs"] for each in validation])
  labels = [each["targets"] for each in validation]
  return 100.0 * model.score(unseen, labels)


@pytest.mark.parametrize(
  ("task", "chance"),
  [
    ("entailment", 100.0 / 3.0),
    ("paraphrase", 50.0),
    ("choice", 25.0),
  ],
)
def test_words_alone_do_not_solve_the_task(task, chance):
  assert _bag_of_words_accuracy(task) < chance + 12.0


def test_words_alone_leave_much_of_the_sentiment_open():
  assert _bag_of_words_accuracy("sentiment") < 80.0


def test_words_alone_do_tell_the_topic():
  assert _bag_of_words_accuracy("topic") > 95.0
