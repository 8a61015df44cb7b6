"""What an evaluation of tasks takes and gives, whoever carries it out."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import numpy as np

from prompt_tuning.data.batches import EvaluationBatch

Answer = Callable[
  [Iterable[EvaluationBatch]], Iterable[tuple[EvaluationBatch, np.ndarray]]
]
"""Batches to the same batches, each with what was found for its rows.

It takes them one after another, so that it may ask for one before it has the
answers of another. Found are predicted tokens, int32 [B, T], or log-likelihoods
of the targets, float [B], in nats.
"""


@dataclasses.dataclass(frozen=True)
class TaskResult:
  """What came out for one task.

  Attributes:
    metrics: By name, as the metric functions of the task give them.
    num_examples: Examples evaluated.
    cuts: One line about what did not fit.
  """

  metrics: dict[str, Any]
  num_examples: int
  cuts: str


class Evaluator(Protocol):
  """One or more tasks, whose examples were read."""

  def evaluate(
    self,
    *,
    predict: Answer | None = None,
    score: Answer | None = None,
    step: int | None = None,
  ) -> dict[str, TaskResult]:
    """Runs the functions over all examples and computes the metrics.

    Args:
      predict: For metrics of predictions. Rank classification gives the tokens
        of the verbalizer it chose.
      score: For metrics of scores.
      step: The training step, named in the files.

    Returns:
      Results by the name of the task.

    Raises:
      ValueError: A metric needs a function that is missing.
    """
    ...


def check_rows(values: np.ndarray, batch: EvaluationBatch) -> None:
  """Raises a ValueError unless there is a value for each row of a batch."""
  if values.shape[:1] != batch.is_real.shape:
    raise ValueError(
      f"an evaluation function must return {batch.is_real.size} rows, got an "
      f"array of shape {values.shape}"
    )
