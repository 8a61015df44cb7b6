"""Reports: what is shown, and that a collapse does not pass unnoticed."""

import pytest

from prompt_tuning.evaluate import report
from prompt_tuning.metrics.classification import accuracy


def test_table_has_a_line_for_each_result_and_says_what_was_trained():
  table = report.result_table(
    [
      report.Result(name="majority class", metrics={"accuracy": 50.0}),
      report.Result(
        name="prompt-tuned",
        metrics={"accuracy": 92.25, "f1": 9.5},
        parameters_trained=5120,
      ),
      report.Result(
        name="model-tuned", metrics={}, parameters_trained=2_000_000
      ),
    ],
    total_parameters=2_000_000,
  )
  assert table.splitlines() == [
    "                accuracy   f1  parameters trained",
    "majority class      50.0    -                   0",
    "prompt-tuned        92.2  9.5     5,120 (0.256 %)",
    "model-tuned            -    -   2,000,000 (100 %)",
  ]


def test_table_without_results_is_an_error():
  with pytest.raises(ValueError, match="no results to show"):
    report.result_table([])


def test_majority_is_that_of_the_training_data():
  result = report.majority_result(
    ["yes", "yes", "no"], ["no", "no", "no", "yes"], metric_fn=accuracy
  )
  assert result.metrics == {"accuracy": 25.0}
  assert result.parameters_trained == 0


def test_samples_mark_what_is_wrong_and_shorten_long_inputs():
  text = report.prediction_samples(
    [
      report.Prediction(
        inputs="a\nfine  day", target="good", prediction="good"
      ),
      report.Prediction(
        inputs="x" * 50 + "y" * 50, target="bad", prediction="good"
      ),
      report.Prediction(inputs="unseen", target="bad", prediction="bad"),
    ],
    limit=2,
    width=25,
  )
  assert text.splitlines() == [
    "a fine day",
    "  -> 'good' (right)",
    "x" * 10 + " ... " + "y" * 10,
    "  -> 'good' (wrong, should be 'bad')",
  ]


def test_histogram_counts_what_was_said_and_what_is_true():
  text = report.prediction_histogram(
    ["a", "b", "b", "c"], ["b", "b", "b", "hm"]
  )
  assert text.splitlines() == [
    "answer  predicted  true",
    "b               3     2",
    "hm              1     0",
    "a               0     1",
    "c               0     1",
  ]


def test_histogram_warns_of_a_collapse():
  text = report.prediction_histogram(["a", "b"] * 50, ["b"] * 100)
  assert "WARNING: 100.0 % of the predictions are 'b'" in text
  assert "WARNING" not in report.prediction_histogram(["a", "b"], ["b", "a"])


def test_histogram_of_free_text_lists_the_most_frequent():
  answers = [str(number) for number in range(30)]
  text = report.prediction_histogram(answers, answers, limit=3)
  assert len(text.splitlines()) == 5
  assert text.endswith("... and 27 other answers")
