"""Tests of averages between two lines of the log."""

import json

import pytest

from prompt_tuning.train.window import Window


def test_averages_but_for_the_learning_rate():
  window = Window()
  window.add({"loss": 1.0, "learning_rate": 0.1})
  window.add({"loss": 4.0, "learning_rate": 0.3})
  assert window.take() == {"loss": 2.5, "learning_rate": 0.3}


def test_taking_starts_anew():
  window = Window()
  window.add({"loss": 1.0})
  window.take()
  window.add({"loss": 5.0})
  assert window.take() == {"loss": 5.0}


@pytest.mark.parametrize("cut", [0, 1, 2, 3])
def test_a_window_goes_through_json_to_the_last_bit(cut):
  values = [0.1, 1 / 3, 1e-17]
  whole, first = Window(), Window()
  for value in values:
    whole.add({"loss": value})
  for value in values[:cut]:
    first.add({"loss": value})
  rest = Window.from_json(json.loads(json.dumps(first.as_json())))
  for value in values[cut:]:
    rest.add({"loss": value})
  assert rest.take() == whole.take()
