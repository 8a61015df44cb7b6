"""What a run is refused for before anything large is read.

Runs begin with this, so that a mistyped task is not found out after 44 GB of
weights; dry runs are this and shapes.
"""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from prompt_tuning.backbone import Backbone
from prompt_tuning.data.features import FeatureLengths
from prompt_tuning.data.vocabularies import Vocabulary
from prompt_tuning.evaluate.ensemble import EnsembleEvaluation
from prompt_tuning.evaluate.tasks import TaskEvaluation
from prompt_tuning.model.t5 import T5
from prompt_tuning.train.held_out import HeldOutLoss


@runtime_checkable
class Checkable(Protocol):
  """Inputs that can be checked without reading them."""

  def check(self, vocabulary: Vocabulary, lengths: FeatureLengths) -> None:
    """Raises a ValueError for what shows before they are read."""
    ...


def check_inputs(
  inputs: object, *, backbone: Backbone, lengths: FeatureLengths
) -> None:
  """Checks that inputs can be read, looking at a first example at most.

  Args:
    inputs: Such as `TaskInputs`; what has no `check` is not checked.
    backbone: What reads them.
    lengths: TASK_FEATURE_LENGTHS.

  Raises:
    ValueError: There is no such task (near names are listed), split, cache or
      file; or what is there does not fit the backbone or the lengths.
  """
  if isinstance(inputs, Checkable):
    inputs.check(backbone.vocabulary, lengths)


def check_evaluations(
  evaluations: Sequence[Any], *, backbone: Backbone, lengths: FeatureLengths
) -> None:
  """Checks that evaluations can be prepared; see `check_inputs`.

  Args:
    evaluations: Such as `TaskEvaluation`; other kinds than the project's own
      are not checked.
    backbone: What is evaluated.
    lengths: TASK_FEATURE_LENGTHS.

  Raises:
    ValueError: As `check_inputs`; or a task has no metrics, or the class labels
      cannot be ranked.
  """
  for evaluation in evaluations:
    match evaluation:
      case TaskEvaluation() | EnsembleEvaluation():
        evaluation.check(
          T5(backbone.config), vocabulary=backbone.vocabulary, lengths=lengths
        )
      case HeldOutLoss():
        for inputs in evaluation.parts:
          check_inputs(inputs, backbone=backbone, lengths=lengths)
