"""What the metrics of the data sets get to compare, and make of it."""

import pytest

from prompt_tuning.evaluate.tasks import summarize
from prompt_tuning.tasks import super_glue
from prompt_tuning.tasks.catalog import DATA_SETS


def judge(name, examples, predictions):
  """Returns the metrics of predictions, by the way that an evaluation goes."""
  data_set = DATA_SETS[name]
  examples = [e | {"targets_pretokenized": e["targets"]} for e in examples]
  targets = [
    data_set.postprocess_fn(e["targets"], example=e, is_target=True)
    for e in examples
  ]
  found = [
    data_set.postprocess_fn(text, example=e, is_target=False)
    for text, e in zip(predictions, examples, strict=True)
  ]
  figures = {}
  for metric in data_set.metric_fns:
    figures |= metric(targets, found)
  return figures


def labelled(*words):
  return [{"targets": word} for word in words]


@pytest.mark.parametrize("name", [n for n, d in DATA_SETS.items() if d.words])
def test_right_answers_score_100(name):
  data_set = DATA_SETS[name]
  examples = [e | {"group": "0-0"} for e in labelled(*data_set.words)]
  predictions = list(data_set.words)
  if name in ("mrpc_from_qqp", "qqp_from_mrpc"):
    predictions = list(DATA_SETS[name.split("_from_")[1]].words)
  figures = judge(name, examples, predictions)
  assert all(value == pytest.approx(100.0) for value in figures.values())
  assert figures or name in ("axb", "axg", "ax")


@pytest.mark.parametrize(
  ("name", "figures"),
  [
    ("boolq", {"accuracy"}),
    ("cb", {"accuracy", "mean_3class_f1"}),
    ("multirc", {"exact_match", "f1"}),
    ("cola", {"matthews_corrcoef"}),
    ("mrpc", {"accuracy", "f1"}),
    ("qqp", {"accuracy", "f1"}),
  ],
)
def test_each_set_has_its_figures(name, figures):
  data_set = DATA_SETS[name]
  examples = [e | {"group": "0-0"} for e in labelled(*data_set.words)]
  assert set(judge(name, examples, data_set.words)) == figures


def test_what_is_no_label_is_wrong():
  examples = labelled("entailment", "contradiction", "neutral", "neutral")
  said = ["entailment", "", "neutral", "maybe"]
  # F1: 1, 0, and 2/3 of 1 hit, 1 said, 2 there.
  assert judge("cb", examples, said) == {
    "accuracy": 50.0,
    "mean_3class_f1": pytest.approx(100 * (1 + 0 + 2 / 3) / 3),
  }


def test_wsc_takes_what_names_the_candidate_for_yes():
  examples = [
    {"targets": target, "label": label}
    for target, label in [
      ("the fuzzy bunny", 1),
      ("Ann", 0),
      ("Bob", 0),
      ("Bob", 1),
    ]
  ]
  # Right; right, for another is named; wrong; empty is neither.
  said = ["bunny", "Bob", "bob", ""]
  assert judge("wsc", examples, said) == {"accuracy": 50.0}


def test_similarity_of_no_number_is_a_number():
  examples = labelled("0.0", "2.4", "5.0")
  figures = judge("stsb", examples, ["0.2", "2.4", "5.0"])
  assert figures["spearman_corrcoef"] == pytest.approx(100.0)
  assert set(figures) == {"pearson_corrcoef", "spearman_corrcoef"}
  # As -1, each of them: the order is 0, 1, 2 against 2, 0.5, 0.5.
  figures = judge("stsb", examples, ["0.4", "much", "nan"])
  assert figures["spearman_corrcoef"] == pytest.approx(-86.6025403)


def test_answers_of_reading_take_the_best():
  examples = [{"targets": "Bob", "answers": ["Bob", "Bob Smith"]}]
  assert judge("squad", examples, ["bob smith."]) == {"em": 100.0, "f1": 100.0}
  examples = [e | {"group": "1-2"} for e in examples * 2]
  assert judge("record", examples, ["Bob", "Ann"])["em"] == 100.0


def test_answers_in_the_words_of_another_task_are_translated():
  examples = labelled("equivalent", "not_equivalent", "equivalent")
  said = ["duplicate", "not_duplicate", "not_duplicate"]
  assert judge("mrpc_from_qqp", examples, said) == {
    "accuracy": pytest.approx(200 / 3),
    "f1": pytest.approx(200 / 3),
  }


def test_the_score_of_super_glue_is_the_mean_of_means():
  figures = {name: {"accuracy": 0.0} for name in super_glue.DATA_SETS}
  figures["cb"] = {"accuracy": 80.0, "mean_3class_f1": 40.0}
  figures["multirc"] = {"f1": 60.0, "exact_match": 20.0}
  assert len(figures) == 8
  assert summarize(figures)["mean/score"] == pytest.approx((60 + 40) / 8)
