"""Label metrics against scikit-learn and against cases done by hand."""

import numpy as np
import pytest

from prompt_tuning.metrics import classification


def random_labels(seed, num_classes, *, invalid=False):
  """Returns targets and predictions, of which some are no label (-1)."""
  rng = np.random.default_rng(seed)
  size = int(rng.integers(1, 60))
  targets = rng.integers(0, num_classes, size).tolist()
  lowest = -1 if invalid else 0
  return targets, rng.integers(lowest, num_classes, size).tolist()


def sklearn_metrics():
  return pytest.importorskip(
    "sklearn.metrics", reason="scikit-learn is the oracle of these metrics"
  )


@pytest.mark.parametrize("seed", range(30))
def test_accuracy_equals_scikit_learn(seed):
  targets, predictions = random_labels(seed, 4, invalid=True)
  wanted = 100 * sklearn_metrics().accuracy_score(targets, predictions)
  result = classification.accuracy(targets, predictions)
  assert result == {"accuracy": pytest.approx(wanted)}


@pytest.mark.parametrize("positive_label", [0, 1])
@pytest.mark.parametrize("seed", range(30))
def test_f1_equals_scikit_learn(seed, positive_label):
  targets, predictions = random_labels(seed, 2)
  wanted = 100 * sklearn_metrics().f1_score(
    targets, predictions, pos_label=positive_label, zero_division=0.0
  )
  for metric in (classification.f1, classification.f1_with_invalid):
    labels = {"positive_label": positive_label}
    if metric is classification.f1_with_invalid:
      labels["negative_label"] = 1 - positive_label
    result = metric(targets, predictions, **labels)
    assert result == {"f1": pytest.approx(wanted)}


@pytest.mark.parametrize("seed", range(30))
def test_f1_with_invalid_equals_scikit_learn_on_flipped_predictions(seed):
  targets, predictions = random_labels(seed, 2, invalid=True)
  flipped = [
    1 - t if p == -1 else p for t, p in zip(targets, predictions, strict=True)
  ]
  wanted = 100 * sklearn_metrics().f1_score(targets, flipped, zero_division=0.0)
  result = classification.f1_with_invalid(targets, predictions)
  assert result == {"f1": pytest.approx(wanted)}


@pytest.mark.parametrize("invalid", [False, True])
@pytest.mark.parametrize("num_classes", [2, 3, 5])
@pytest.mark.parametrize("seed", range(15))
def test_macro_f1_equals_scikit_learn(seed, num_classes, invalid):
  targets, predictions = random_labels(seed, num_classes, invalid=invalid)
  labels = range(num_classes)
  wanted = 100 * sklearn_metrics().f1_score(
    targets,
    predictions,
    labels=list(labels),
    average="macro",
    zero_division=0.0,
  )
  result = classification.macro_f1(targets, predictions, labels=labels)
  assert result == {f"mean_{num_classes}class_f1": pytest.approx(wanted)}


@pytest.mark.parametrize("invalid", [False, True])
@pytest.mark.parametrize("num_classes", [2, 3, 4])
@pytest.mark.parametrize("seed", range(15))
def test_matthews_equals_scikit_learn(seed, num_classes, invalid):
  targets, predictions = random_labels(seed, num_classes, invalid=invalid)
  wanted = 100 * sklearn_metrics().matthews_corrcoef(targets, predictions)
  result = classification.matthews(targets, predictions)
  assert result == {"matthews_corrcoef": pytest.approx(wanted)}


def test_whatever_is_no_label_is_one_label_more():
  targets = ["yes", "no"] * 4
  predictions = ["yes", "no", "yes", "no", "yes", "foo", "bar", "baz"]
  as_t5 = [{"yes": 1, "no": 0}.get(each, -1) for each in predictions]
  wanted = 100 * sklearn_metrics().matthews_corrcoef(
    [{"yes": 1, "no": 0}[each] for each in targets], as_t5
  )
  found = classification.matthews(targets, predictions, labels=("no", "yes"))
  assert found == {"matthews_corrcoef": pytest.approx(wanted)}


def test_the_same_answer_to_all_has_no_matthews_correlation():
  assert classification.matthews([0, 1, 1], [1, 1, 1]) == {
    "matthews_corrcoef": 0.0
  }


def test_an_invalid_prediction_is_wrong_and_never_dropped():
  targets, predictions = ["yes", "no", "no", "yes"], ["yes", "hm", "no", "hm"]
  labels = {"positive_label": "yes", "negative_label": "no"}
  assert classification.accuracy(targets, predictions) == {"accuracy": 50.0}
  # 1 hit, 1 prediction, 2 targets; the invalid "hm" for "no" is a false alarm
  # in the second only.
  f1 = classification.f1(targets, predictions, positive_label="yes")
  assert f1 == {"f1": pytest.approx(200 / 3)}
  with_invalid = classification.f1_with_invalid(targets, predictions, **labels)
  assert with_invalid == {"f1": pytest.approx(50.0)}
  # "no": 1 hit, 1 prediction, 2 targets, as "yes".
  macro = classification.macro_f1(targets, predictions, labels=["yes", "no"])
  assert macro == {"mean_2class_f1": pytest.approx(200 / 3)}


def test_figures_are_plain_floats_of_numpy_labels_too():
  result = classification.accuracy(np.array([0, 1]), np.array([0, 0]))
  assert result == {"accuracy": 50.0}
  assert type(result["accuracy"]) is float


@pytest.mark.parametrize(
  "metric",
  [
    classification.accuracy,
    classification.f1,
    classification.f1_with_invalid,
    classification.matthews,
    lambda t, p: classification.macro_f1(t, p, labels=[0, 1]),
    classification.prediction_spread,
  ],
)
@pytest.mark.parametrize(
  ("targets", "predictions", "message"),
  [
    ([], [], "there are no targets to evaluate"),
    ([0, 1], [1], "got 2 targets and 1 predictions"),
  ],
)
def test_nothing_to_compare_is_an_error(metric, targets, predictions, message):
  with pytest.raises(ValueError, match=message):
    metric(targets, predictions)


@pytest.mark.parametrize(
  "metric",
  [
    classification.f1_with_invalid,
    lambda t, p: classification.macro_f1(t, p, labels=[0, 1]),
  ],
)
def test_a_target_that_is_no_label_is_an_error(metric):
  with pytest.raises(ValueError, match="target 1 is 2, which is none of"):
    metric([0, 2], [0, 1])


def test_spread_counts_predictions():
  spread = classification.prediction_spread(
    ["a", "b", "b", "b"], ["b", "a", "b", "c"]
  )
  assert spread.counts == {"b": 2, "a": 1, "c": 1}
  assert (spread.top, spread.top_share) == ("b", 50.0)
  assert not spread.collapsed


@pytest.mark.parametrize(
  ("targets", "predictions", "collapsed"),
  [
    ([0, 1] * 100, [1] * 200, True),
    ([0, 1] * 100, [1] * 199 + [0], True),
    ([0, 1] * 100, [1] * 197 + [0] * 3, False),
    ([1] * 200, [1] * 200, False),
    ([0] * 60 + [1] * 140, [1] * 200, True),
  ],
)
def test_collapse_is_one_answer_to_different_questions(
  targets, predictions, collapsed
):
  spread = classification.prediction_spread(targets, predictions)
  assert spread.collapsed is collapsed


def test_majority_label_is_the_most_frequent_then_the_earliest():
  assert classification.majority_label([2, 0, 0, 2, 1]) == 2
  assert classification.majority_label(["a", "b", "b"]) == "b"
  with pytest.raises(ValueError, match="there are no targets"):
    classification.majority_label([])
