"""Few examples of a split, as many of each class: one part trains, one selects.

The few-shot protocol of Gu et al. (2022, sec. 4.1): 32 examples to train on and
32 others to select by, both balanced over classes and drawn from the training
split by a seed. The data set's own validation split is left to test on.
"""

import collections
import dataclasses
import enum
from collections.abc import Sequence

import numpy as np
from absl import logging

from prompt_tuning.data import patterns
from prompt_tuning.data.features import Example
from prompt_tuning.data.pattern_tasks import PatternTask
from prompt_tuning.data.text_tasks import TextTask
from prompt_tuning.data.views import NUMBER, View
from prompt_tuning.types import enum_member


class Part(enum.Enum):
  """What drawn examples are for."""

  TRAIN = "train"
  VALIDATION = "validation"


@dataclasses.dataclass(frozen=True, kw_only=True)
class FewShot(View):
  """Draws one of two disjoint parts of a split.

  A class is the tokens of a target. Where a class has too few examples for its
  share, both parts get a share of these in proportion, the other classes fill
  up, and the log says how many of each there are.

  Attributes:
    part: Which of the two.
    num_train: Examples to train on, over all classes.
    num_validation: Examples to select by.
    seed: Decides which.
    labels: The verbalizers of the task, each of which is to occur; of a task of
      pattern and verbalizer these are known, of others None asks for none.
  """

  part: Part | str
  num_train: int = 32
  num_validation: int = 32
  seed: int = 0
  labels: Sequence[str] | None = None

  def __post_init__(self):
    part = enum_member(Part, self.part, name="FewShot.part")
    object.__setattr__(self, "part", part)
    for name in ("num_train", "num_validation"):
      if getattr(self, name) < 1:
        raise ValueError(
          f"FewShot.{name} must be at least 1 example, got "
          f"{getattr(self, name)}"
        )

  def examples(self, task: TextTask, split: str) -> list[Example]:
    """Returns the examples of the part in their order, each with its `number`.

    Raises:
      ValueError: The split cannot be read, there are fewer examples than both
        parts take, or a class has none, or too few to be in both.
    """
    examples = task.examples(split)
    name = f"task {task.name!r}, split {split!r}"
    self._check_classes(task, examples, name)
    classes = _classes(examples)
    sizes = [len(members) for members in classes]
    total = self.num_train + self.num_validation
    if sum(sizes) < total:
      raise ValueError(
        f"{name}: {self.num_train} examples to train on and "
        f"{self.num_validation} to select by were asked for, and there are "
        f"{sum(sizes)}; ask for fewer"
      )
    if min(sizes) < 2 or len(classes) > min(
      self.num_train, self.num_validation
    ):
      rarest = examples[min(classes, key=len)[0]]
      text = rarest.get("targets_pretokenized", rarest["targets"])
      raise ValueError(
        f"{name}: of {len(classes)} classes each is to be among "
        f"{self.num_train} examples to train on and {self.num_validation} to "
        f"select by, and there are {min(sizes)} of {text!r}; ask for more, or "
        "give a task with a class label for a target"
      )
    numbers = self._draw(classes, name=name)
    return [{**examples[number], NUMBER: number} for number in numbers]

  def _check_classes(
    self, task: TextTask, examples: Sequence[Example], name: str
  ) -> None:
    """Raises a ValueError if a class of the task has no example."""
    words = self.labels
    # The letters of options that each example has for itself are no classes.
    if isinstance(task, PatternTask) and not isinstance(task.pvp.options, str):
      words = [patterns.bare(word) for word in task.pvp.verbalizer.values()]
    found = {example.get("targets_pretokenized") for example in examples}
    missing = [word for word in words or () if word not in found]
    if missing:
      raise ValueError(
        f"{name}: there is no example of {missing}, so that no sample of it is "
        "balanced; give a split that has every class"
      )

  def _draw(self, classes: Sequence[Sequence[int]], *, name: str) -> list[int]:
    sizes = np.asarray([len(members) for members in classes])
    share = self.num_train / (self.num_train + self.num_validation)
    most = np.clip(np.round(sizes * share).astype(int), 1, sizes - 1)
    train = _level(self.num_train, most)
    # What rounding has left over, of classes that both parts take all of.
    train += _level(self.num_train - int(train.sum()), sizes - 1 - train)
    validation = _level(self.num_validation, sizes - train)
    if max(np.ptp(train), np.ptp(validation)) > 1:
      logging.warning(
        "%s: classes are not balanced, for want of examples: %s to train on, "
        "%s to select by.",
        name,
        train.tolist(),
        validation.tolist(),
      )
    rng = np.random.default_rng(self.seed)
    drawn: list[int] = []
    for members, first, second in zip(classes, train, validation, strict=True):
      order = rng.permutation(members)
      is_train = self.part is Part.TRAIN
      drawn += (
        order[:first] if is_train else order[first : first + second]
      ).tolist()
    return sorted(drawn)


def _classes(examples: Sequence[Example]) -> list[list[int]]:
  """Returns the numbers of the examples of each class."""
  classes: dict[tuple[int, ...], list[int]] = collections.defaultdict(list)
  for number, example in enumerate(examples):
    classes[tuple(np.asarray(example["targets"]).tolist())].append(number)
  return [classes[target] for target in sorted(classes)]


def _level(total: int, most: np.ndarray) -> np.ndarray:
  """Splits a total as evenly as the largest shares allow, `total` at most."""
  shares = np.zeros_like(most)
  while total > 0 and np.any(shares < most):
    is_open = np.flatnonzero(shares < most)
    step = max(1, total // is_open.size)
    taken = is_open[:total]
    added = np.minimum(step, most[taken] - shares[taken])
    shares[taken] += added
    total -= int(added.sum())
  return shares
