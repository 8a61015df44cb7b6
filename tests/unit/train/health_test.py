"""Tests of stopping runs that cannot succeed."""

import math

import numpy as np
import pytest

from prompt_tuning.testing import fakes
from prompt_tuning.train import health

FINE = {"loss": 1.0, "grad_norm": 2.0, "update_norm": 0.1, "learning_rate": 0.3}


@pytest.fixture
def batch():
  return fakes.tiny_batch(np.random.default_rng(0), prompt_length=3)


def test_finite_metrics_pass(tmp_path, batch):
  health.check_finite(FINE, batch, step=1, model_dir=tmp_path)
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["loss", "grad_norm", "update_norm"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_step_and_batch_are_named_and_saved(tmp_path, batch, name, value):
  with pytest.raises(health.NonFiniteError) as caught:
    health.check_finite(FINE | {name: value}, batch, step=7, model_dir=tmp_path)
  text = str(caught.value)
  assert f"Step 7 is not finite: {name} {value}" in text
  assert str(tmp_path / "non_finite_batch_7.npz") in text
  assert str(batch["encoder_input_tokens"][0, :5].tolist())[:-1] in text
  assert f"largest input id is {fakes.VOCAB_SIZE + 2}" in text
  with np.load(tmp_path / "non_finite_batch_7.npz") as saved:
    assert set(saved) == set(batch)
    for key, expected in batch.items():
      np.testing.assert_array_equal(saved[key], expected)


def test_the_cause_is_told_even_if_the_batch_cannot_be_saved(tmp_path, batch):
  with pytest.raises(
    health.NonFiniteError, match=r"Step 2.*could not be saved"
  ):
    health.check_finite(
      FINE | {"loss": math.nan}, batch, step=2, model_dir=tmp_path / "missing"
    )


def test_three_updates_of_zero_stop_the_run():
  check = health.MovementCheck()
  still = FINE | {"update_norm": 0.0, "num_tokens": 0.0}
  check.check(still, step=1)
  check.check(still, step=2)
  with pytest.raises(ValueError, match=r"until step 3.*num_tokens is 0\.0"):
    check.check(still, step=3)


def test_warm_up_from_zero_is_no_standstill():
  check = health.MovementCheck()
  for step in range(10):
    check.check(FINE | {"update_norm": 0.0, "learning_rate": 0.0}, step=step)


def test_a_run_that_moved_once_may_stand_still():
  check = health.MovementCheck()
  check.check(FINE, step=1)
  for step in range(2, 10):
    check.check(FINE | {"update_norm": 0.0}, step=step)
