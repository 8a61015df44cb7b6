"""Mixtures of text tasks, which need neither seqio nor TensorFlow.

A mixture is known by its name as a task is, to seqio too where that is at hand.
"""

import dataclasses
import sys
from collections.abc import Callable, Iterable

from prompt_tuning.data import text_tasks

Rate = Callable[[int], float]
"""The number of a task's training examples to how often it comes, relative to
the others."""


def equal(num_examples: int) -> float:
  """The rate of tasks that come equally often."""
  del num_examples
  return 1.0


@dataclasses.dataclass(frozen=True)
class Proportional:
  """The rate of tasks that come as often as they have examples.

  See Raffel et al. (2020, sec. 3.5.2).

  Attributes:
    maximum: K, from which more examples are no more often; None for no limit.
  """

  maximum: int | None = None

  def __post_init__(self):
    if self.maximum is not None and self.maximum < 1:
      raise ValueError(f"maximum must be at least 1, got {self.maximum}")

  def __call__(self, num_examples: int) -> float:
    """Returns the number of examples, K at most."""
    return float(min(num_examples, self.maximum or num_examples))


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextMixture:
  """A mixture of text tasks.

  Attributes:
    name: A name that no task and no other mixture has.
    tasks: Its tasks.
    rate: How often each comes.
  """

  name: str
  tasks: tuple[text_tasks.TextTask, ...]
  rate: Rate = equal

  def having(self, split: str) -> list[text_tasks.TextTask]:
    """Returns the tasks that have a split.

    Raises:
      ValueError: None has.
    """
    having = [task for task in self.tasks if split in task.splits]
    if not having:
      names = [task.name for task in self.tasks]
      raise ValueError(
        f"no task of the mixture {self.name!r} has a split {split!r}; its "
        f"tasks are {names}"
      )
    return having


def add(name: str, tasks: Iterable[str], *, rate: Rate = equal) -> TextMixture:
  """Makes a mixture known by its name.

  Args:
    name: See `TextMixture`.
    tasks: Names of text tasks, which are known already.
    rate: How often each comes.

  Raises:
    ValueError: The name is taken, a task is unknown or named twice, there are
      none, or their vocabularies differ.
  """
  if name in _MIXTURES or text_tasks.get(name) is not None:
    raise ValueError(
      f"there is a task or mixture {name!r} already; mixtures need names of "
      "their own"
    )
  names = list(tasks)
  mixture = TextMixture(name=name, tasks=_known(name, names), rate=rate)
  if sys.modules.get("seqio") is not None:
    from prompt_tuning.data import seqio_tasks

    seqio_tasks.register_mixture(mixture)
  _MIXTURES[name] = mixture
  text_tasks.MIXTURE_NAMES.add(name)
  return mixture


def remove(name: str) -> None:
  """Forgets a mixture; seqio, if it knows it, does not."""
  del _MIXTURES[name]
  text_tasks.MIXTURE_NAMES.discard(name)


def get(name: str) -> TextMixture | None:
  """Returns the mixture of a name, if there is one."""
  return _MIXTURES.get(name)


def everything() -> list[TextMixture]:
  """Returns all mixtures, in the order in which they were added."""
  return list(_MIXTURES.values())


def _known(mixture: str, names: list[str]) -> tuple[text_tasks.TextTask, ...]:
  tasks = [text_tasks.get(name) for name in names]
  known = tuple(task for task in tasks if task is not None)
  unknown = [n for n, task in zip(names, tasks, strict=True) if task is None]
  if unknown or not names or len(set(names)) < len(names):
    raise ValueError(
      f"mixture {mixture!r} needs different text tasks that were added before, "
      f"got {names}, of which {unknown} are unknown"
    )
  first, *others = known
  for task in others:
    if task.vocabulary.fingerprint != first.vocabulary.fingerprint:
      raise ValueError(
        f"mixture {mixture!r}: the tasks {first.name!r} and {task.name!r} have "
        f"different vocabularies, {first.vocabulary} and {task.vocabulary}"
      )
  return known


_MIXTURES: dict[str, TextMixture] = {}
