"""Correlations against SciPy."""

import numpy as np
import pytest

from prompt_tuning.metrics import correlation

METRICS = {
  "pearson": (correlation.pearson, "pearson_corrcoef"),
  "spearman": (correlation.spearman, "spearman_corrcoef"),
}


def oracle(name, targets, predictions):
  stats = pytest.importorskip("scipy.stats", reason="is the oracle")
  return 100 * getattr(stats, f"{name}r")(targets, predictions)[0]


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("name", METRICS)
def test_it_equals_scipy(name, seed, ties):
  rng = np.random.default_rng(seed)
  targets = rng.normal(size=25)
  predictions = targets * rng.normal() + rng.normal(size=25)
  if ties:
    # As similarities are: 26 steps from 0 to 5.
    targets, predictions = np.round([targets, predictions], 1)
  metric, key = METRICS[name]
  wanted = oracle(name, targets, predictions)
  result = metric(targets.tolist(), predictions.tolist())
  assert result == {key: pytest.approx(wanted, abs=1e-8)}


@pytest.mark.parametrize("name", METRICS)
def test_the_same_is_perfect_and_its_opposite_is_the_worst(name):
  metric, key = METRICS[name]
  numbers = [0.2, 4.4, 5.0, 1.0]
  opposite = [-number for number in numbers]
  assert metric(numbers, numbers) == {key: pytest.approx(100.0)}
  assert metric(numbers, opposite) == {key: pytest.approx(-100.0)}


def test_ranks_do_not_care_for_distances():
  targets, predictions = [1.0, 2.0, 3.0], [1.0, 2.0, 900.0]
  assert correlation.spearman(targets, predictions) == {
    "spearman_corrcoef": pytest.approx(100.0)
  }
  assert correlation.pearson(targets, predictions)["pearson_corrcoef"] < 90


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("constant", [0.1, 3.8])
def test_the_same_answer_to_all_has_no_correlation(name, constant):
  metric, key = METRICS[name]
  assert metric([0.2, 0.4, 0.7], [constant] * 3) == {key: 0.0}
  assert metric([constant], [0.5]) == {key: 0.0}


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize(
  ("targets", "predictions", "message"),
  [
    ([], [], "there are no targets to evaluate"),
    ([1.0], [], "got 1 targets and 0 predictions"),
    ([1.0, 2.0], [1.0, float("nan")], "example 1.*finite"),
  ],
)
def test_what_cannot_be_compared(name, targets, predictions, message):
  with pytest.raises(ValueError, match=message):
    METRICS[name][0](targets, predictions)
