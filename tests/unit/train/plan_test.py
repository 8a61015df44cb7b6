"""Tests of how long to train."""

import pytest

from prompt_tuning.train.plan import Plan


@pytest.mark.parametrize(
  "name", ["total_steps", "log_every", "eval_every", "save_every"]
)
@pytest.mark.parametrize("value", [0, -5, 2.0, "3", None])
def test_a_plan_counts_steps(name, value):
  with pytest.raises(ValueError, match=f"Plan.{name} must be a positive"):
    Plan(**({"total_steps": 10} | {name: value}))
