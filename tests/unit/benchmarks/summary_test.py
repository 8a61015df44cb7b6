import pytest

from benchmarks import summary
from benchmarks.summary import Spread


def test_spread_is_the_median_and_the_quartiles():
  spread = Spread.over([5, 1, 4, 2, 3])
  assert spread == Spread(2.0, 3.0, 4.0)
  assert spread.text(1) == "3.0 (2.0-4.0)"


def test_ratios_are_taken_round_by_round():
  # The machine was four times slower in the second round.
  seconds = {"ours": [1.0, 4.0, 1.0], "other": [2.0, 8.0, 2.0]}
  assert summary.ratios(seconds, of="ours", to="other") == Spread(2, 2, 2)
  assert summary.ratios(seconds, of="other", to="ours").median == 0.5


def test_rates_are_taken_round_by_round():
  spread = summary.rates([10.0, 30.0], [1.0, 2.0])
  assert spread.median == pytest.approx(12.5)


def test_table_is_markdown():
  text = summary.table(["a", "bb"], {"twice": lambda name: name * 2})
  assert text == (
    "|    | twice |\n| -- | ----- |\n| a  | aa    |\n| bb | bbbb  |\n"
  )
