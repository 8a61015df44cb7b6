"""T5's loose match of WSC, by hand."""

import pytest

from prompt_tuning.metrics.referents import names_referent


@pytest.mark.parametrize(
  ("prediction", "referent", "named"),
  [
    ("Bob", "Bob", True),
    (" bob ", "Bob", True),
    ("the bunny", "bunny", True),
    ("fuzzy bunny", "The bunny", True),
    ("bunny", "the fuzzy bunny", True),
    ("fuzzy bunny", "fast bunny", False),
    ("Bob", "Bob's hat", False),
    ("Bob's hat", "Bob", False),
    ("Bob's", "Bob's hat", True),
    ("Ann", "Bob", False),
    # Part of a word is not the word.
    ("Bobby", "Bob", False),
    ("", "Bob", None),
    ("the", "Bob", None),
    ("their", "Bob", None),
    ("them", "Bob", False),
    ("Bob", "the", False),
  ],
)
def test_what_a_prediction_names(prediction, referent, named):
  assert names_referent(prediction, referent) is named
