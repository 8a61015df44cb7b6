"""What can be measured in a run is asked for in one way."""

import inspect

import pytest

from prompt_tuning.evaluate.tasks import TaskEvaluation
from prompt_tuning.runs.train import Evaluation
from prompt_tuning.train.held_out import HeldOutLoss


@pytest.mark.parametrize("kind", [TaskEvaluation, HeldOutLoss])
def test_every_evaluation_is_prepared_as_a_run_prepares_it(kind):
  # No type checker sees them meet: recipes bring them together.
  expected = inspect.signature(Evaluation.prepare)
  assert inspect.signature(kind.prepare) == expected
