"""Where the examples of a task come from: the task itself, or seqio."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from prompt_tuning.data import streams, text_mixtures, text_tasks
from prompt_tuning.data.evaluation import Answer, Evaluator, TaskResult
from prompt_tuning.data.features import Example
from prompt_tuning.data.text_evaluation import TextEvaluator, check_evaluation
from prompt_tuning.data.views import View, examples_of
from prompt_tuning.data.vocabularies import Vocabulary

Targets = Mapping[tuple[int, ...], str]
"""The tokens of every target that may occur, and its text."""


class Provider(Protocol):
  """A task or mixture that was found by its name."""

  def check_vocabulary(self, vocabulary: Vocabulary) -> None:
    """Raises a ValueError if its ids are not those of a vocabulary."""
    ...

  def check_split(self, split: str) -> None:
    """Checks that a split can be read, before all of it is.

    Nothing is downloaded, and of a file no more than its first example is read.

    Raises:
      ValueError: It cannot be.
    """
    ...

  def check_evaluation(self, split: str) -> None:
    """Checks that a split can be evaluated, before it is read.

    Raises:
      ValueError: It cannot be read, or nothing measures it.
    """
    ...

  def examples(self, split: str) -> list[Example]:
    """Returns the examples of a split in order, tokenised and never trimmed.

    Raises:
      ValueError: It cannot be read, or this is a mixture.
    """
    ...

  def stream(
    self,
    split: str,
    *,
    seed: int,
    targets: Targets | None,
    view: View | None = None,
  ) -> streams.ExampleStream:
    """Returns endless shuffled examples, of a mixture at its rates.

    Args:
      split: Such as "train".
      seed: Decides the order and the draws.
      targets: Those that may occur; None takes any.
      view: What is seen of each task's split; None for all.

    Raises:
      ValueError: The split cannot be read or seen so, or a target is not among
        `targets`.
    """
    ...

  def evaluator(self, **settings: Any) -> Evaluator:
    """Reads what is evaluated; see `TextEvaluator` for the settings."""
    ...


def find_for(vocabulary: Vocabulary, name: str, **where: Any) -> Provider:
  """Returns a task or mixture whose ids are those of a vocabulary.

  Args:
    vocabulary: The model's.
    name: See `find` for it and the others.
    **where: See `find`.

  Raises:
    ValueError: As `find`; or it has another vocabulary.
  """
  provider = find(name, **where)
  provider.check_vocabulary(vocabulary)
  return provider


def find(
  name: str,
  *,
  module: str | None = None,
  use_cached: bool = False,
  cache_dirs: Sequence[str] = (),
) -> Provider:
  """Returns a task or mixture by its name.

  Args:
    name: MIXTURE_OR_TASK_NAME.
    module: MIXTURE_OR_TASK_MODULE, imported first, as it makes tasks known.
    use_cached: USE_CACHED_TASKS: read what seqio cached.
    cache_dirs: SEQIO_CACHE_DIRS, where to look for that.

  Raises:
    ValueError: The module cannot be imported, or nothing has this name; near
      names are listed.
  """
  text_tasks.import_module(module)
  task = text_tasks.get(name)
  if task is not None and not use_cached:
    return TextProvider(task)
  mixture = text_mixtures.get(name)
  if mixture is not None and not use_cached:
    return MixtureProvider(mixture)
  try:
    # Importing it takes seconds, which text tasks do not owe.
    from prompt_tuning.data.seqio_provider import SeqioProvider
  except ImportError as error:
    known = [*text_tasks.everything(), *text_mixtures.everything()]
    names = [task_or_mixture.name for task_or_mixture in known]
    raise ValueError(
      f"there is no text task or mixture {name!r} (near names: "
      f"{text_tasks.near(name, names)}), and seqio, whose task or cache it may "
      f"be, cannot be imported: {error}"
    ) from error
  return SeqioProvider(
    name, module=module, use_cached=use_cached, cache_dirs=cache_dirs
  )


@dataclasses.dataclass(frozen=True)
class TextProvider:
  """A text task.

  Attributes:
    task: The task.
  """

  task: text_tasks.TextTask

  def check_vocabulary(self, vocabulary: Vocabulary) -> None:
    """Raises a ValueError if the task's vocabulary is another."""
    if self.task.vocabulary.fingerprint != vocabulary.fingerprint:
      raise ValueError(
        f"task {self.task.name!r} has the vocabulary {self.task.vocabulary} "
        f"and the model {vocabulary}; their ids differ"
      )

  def check_split(self, split: str) -> None:
    """See `Provider`."""
    self.task.check_split(split)

  def check_evaluation(self, split: str) -> None:
    """See `Provider`."""
    check_evaluation(self.task, split)

  def examples(self, split: str) -> list[Example]:
    """See `Provider`."""
    return self.task.examples(split)

  def stream(
    self,
    split: str,
    *,
    seed: int,
    targets: Targets | None,
    view: View | None = None,
  ) -> streams.ExampleStream:
    """See `Provider`."""
    examples = examples_of(self.task, split, view)
    check_targets(self.task.name, examples, targets)
    return streams.ExamplesInMemory(examples, seed=seed)

  def evaluator(self, **settings: Any) -> Evaluator:
    """See `Provider`."""
    return TextEvaluator(self.task, **settings)


@dataclasses.dataclass(frozen=True)
class MixtureProvider:
  """A mixture of text tasks.

  Attributes:
    mixture: The mixture.
  """

  mixture: text_mixtures.TextMixture

  def check_vocabulary(self, vocabulary: Vocabulary) -> None:
    """Raises a ValueError if the tasks' vocabulary is another."""
    for task in self.mixture.tasks:
      TextProvider(task).check_vocabulary(vocabulary)

  def check_split(self, split: str) -> None:
    """See `Provider`; tasks without the split are left out."""
    for task in self.mixture.having(split):
      task.check_split(split)

  def check_evaluation(self, split: str) -> None:
    """See `Provider`; tasks without the split or metrics are left out."""
    for task in self._measured(split):
      check_evaluation(task, split)

  def examples(self, split: str) -> list[Example]:
    """Raises a ValueError: a mixture has no order."""
    raise ValueError(
      f"{self.mixture.name!r} is a mixture of "
      f"{[task.name for task in self.mixture.tasks]}; read one of its tasks"
    )

  def stream(
    self,
    split: str,
    *,
    seed: int,
    targets: Targets | None,
    view: View | None = None,
  ) -> streams.ExampleStream:
    """See `Provider`; tasks without the split are left out."""
    examples = {
      task.name: examples_of(task, split, view)
      for task in self.mixture.having(split)
    }
    for name, of_task in examples.items():
      check_targets(name, of_task, targets)
    return streams.MixtureStream(
      {
        name: streams.ExamplesInMemory(of_task, seed=seed)
        for name, of_task in examples.items()
      },
      rates={
        name: self.mixture.rate(len(of_task))
        for name, of_task in examples.items()
      },
      seed=seed,
    )

  def evaluator(self, **settings: Any) -> Evaluator:
    """See `Provider`; each task is evaluated for itself."""
    tasks = self._measured(settings.get("split", "validation"))
    return _Evaluators([TextEvaluator(task, **settings) for task in tasks])

  def _measured(self, split: str) -> list[text_tasks.TextTask]:
    measured = [t for t in self.mixture.having(split) if t.metric_fns]
    if not measured:
      raise ValueError(
        f"nothing to evaluate: no task of the mixture {self.mixture.name!r} "
        f"that has a split {split!r} has metrics"
      )
    return measured


@dataclasses.dataclass(frozen=True)
class _Evaluators:
  """Evaluates several tasks, one after another."""

  tasks: Sequence[TextEvaluator]

  def evaluate(
    self,
    *,
    predict: Answer | None = None,
    score: Answer | None = None,
    step: int | None = None,
  ) -> dict[str, TaskResult]:
    results: dict[str, TaskResult] = {}
    for task in self.tasks:
      results |= task.evaluate(predict=predict, score=score, step=step)
    return results


def check_targets(
  task: str, examples: Sequence[Example], allowed: Targets | None
) -> None:
  """Raises a ValueError if a label is missing, or one that may not occur."""
  without = [
    index
    for index, example in enumerate(examples)
    if example.get("targets_pretokenized") == text_tasks.UNLABELLED
  ]
  if without:
    raise ValueError(
      f"{len(without)} of {len(examples)} examples of task {task!r} have no "
      f"label, the first of them example {without[0]}; to train on them would "
      "teach nothing. Give a split that has labels, or their field by the name "
      "that the task reads"
    )
  if allowed is None:
    return
  for index, example in enumerate(examples):
    if tuple(np.asarray(example["targets"]).tolist()) not in allowed:
      text = example.get("targets_pretokenized", example["targets"])
      raise ValueError(
        f"task {task!r}, example {index}: the target {text!r} is not "
        f"among the class labels {list(allowed.values())}; CLASS_LABELS and "
        "the task do not belong together"
      )
