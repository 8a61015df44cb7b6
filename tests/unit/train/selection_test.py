"""Tests of selecting the best step and of stopping early."""

import math

import pytest

from prompt_tuning.train.selection import Best, Mode, Selection


def _follow(selection, values):
  best = None
  for step, value in enumerate(values):
    best = selection.update(best, {selection.metric: value}, step=step)
  return best


@pytest.mark.parametrize(
  ("mode", "values", "expected"),
  [
    (Mode.MAX, [1.0, 3.0, 2.0], Best(step=1, value=3.0, misses=1)),
    (Mode.MIN, [1.0, 3.0, 0.5], Best(step=2, value=0.5)),
    # Of equals the first stays: it was trained least.
    (Mode.MAX, [2.0, 2.0, 2.0], Best(step=0, value=2.0, misses=2)),
    (Mode.MAX, [1.0, math.nan, 0.0], Best(step=0, value=1.0, misses=2)),
    (Mode.MAX, [math.nan, 0.0], Best(step=1, value=0.0)),
    ("min", [1.0, 0.5], Best(step=1, value=0.5)),
  ],
)
def test_the_best_is_the_first_best(mode, values, expected):
  assert _follow(Selection("a/b", mode=mode), values) == expected


@pytest.mark.parametrize(
  ("patience", "values", "stops"),
  [
    (2, [1, 0, 0], True),
    (2, [1, 0, 2, 1], False),
    (2, [1, 0, 2, 1, 2], True),
    (None, [1] + [0] * 100, False),
    (1, [], False),
  ],
)
def test_patience_counts_evaluations_since_the_best(patience, values, stops):
  selection = Selection("a/b", patience=patience)
  assert selection.should_stop(_follow(selection, values)) is stops


def test_a_metric_that_was_not_evaluated_is_an_error():
  with pytest.raises(ValueError, match=r"'sst2/acuracy'.*sst2/accuracy"):
    Selection("sst2/acuracy").update(
      None, {"sst2/accuracy": 1.0, "rte/f1": 0.0}, step=0
    )


def test_an_unknown_mode_lists_those_there_are():
  message = r"Selection\.mode must be one of 'max', 'min', got 'highest'"
  with pytest.raises(ValueError, match=message):
    Selection("a/b", mode="highest")


@pytest.mark.parametrize("patience", [0, -1])
def test_patience_must_be_positive(patience):
  with pytest.raises(ValueError, match="patience"):
    Selection("a/b", patience=patience)
