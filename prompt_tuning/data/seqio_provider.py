"""Tasks and mixtures of seqio's, as the rest of the library asks for them."""

from collections.abc import Sequence
from typing import Any

from prompt_tuning.data import seqio_evaluation, seqio_input, streams
from prompt_tuning.data.evaluation import Evaluator
from prompt_tuning.data.features import Example
from prompt_tuning.data.providers import Targets
from prompt_tuning.data.views import View
from prompt_tuning.data.vocabularies import Vocabulary


class SeqioProvider:
  """A seqio Task or Mixture; see `Provider`."""

  def __init__(
    self,
    name: str,
    *,
    module: str | None = None,
    use_cached: bool = False,
    cache_dirs: Sequence[str] = (),
  ):
    """Finds it; see `providers.find`."""
    self._name = name
    self._use_cached = use_cached
    self._found = seqio_input.find(name, module=module, cache_dirs=cache_dirs)

  def check_vocabulary(self, vocabulary: Vocabulary) -> None:
    """See `seqio_input.check_vocabulary`."""
    seqio_input.check_vocabulary(self._found, vocabulary)

  def check_split(self, split: str) -> None:
    """See `seqio_input.check_split`."""
    seqio_input.check_split(self._found, split, use_cached=self._use_cached)

  def check_evaluation(self, split: str) -> None:
    """See `seqio_evaluation.check_tasks`."""
    seqio_evaluation.check_tasks(
      self._found, split, use_cached=self._use_cached
    )

  def examples(self, split: str) -> list[Example]:
    """See `seqio_input.read_task`."""
    return seqio_input.read_task(self._name, split, use_cached=self._use_cached)

  def stream(
    self,
    split: str,
    *,
    seed: int,
    targets: Targets | None,
    view: View | None = None,
  ) -> streams.ExampleStream:
    """See `seqio_input.training_stream`.

    Raises:
      ValueError: As it; or there is a view.
    """
    self._check_view(view)
    return seqio_input.training_stream(
      self._name,
      split,
      seed=seed,
      use_cached=self._use_cached,
      targets=targets,
    )

  def evaluator(
    self, *, view: View | None = None, **settings: Any
  ) -> Evaluator:
    """See `seqio_evaluation.TaskEvaluator`.

    Raises:
      ValueError: As it; or there is a view.
    """
    self._check_view(view)
    return seqio_evaluation.TaskEvaluator(
      self._name, use_cached=self._use_cached, **settings
    )

  def _check_view(self, view: View | None) -> None:
    if view is not None:
      raise ValueError(
        f"{self._name!r} is seqio's own, whose splits are read whole, and a "
        f"view of them was asked for: {view}. Describe it as a text task "
        "(README.md, Your own task), or leave the view out"
      )
