"""What a run sees of a split: all of it, some examples, other texts."""

import abc
import dataclasses

from prompt_tuning.data import sources
from prompt_tuning.data.features import Example
from prompt_tuning.data.text_tasks import TextExample, TextTask

NUMBER = "number"
"""The field of a chosen example that says which of its split it is, from 0."""
SENTINEL = "<extra_id_0>"


class View(abc.ABC):
  """A way to see a split, such as `few_shot.FewShot`."""

  @abc.abstractmethod
  def examples(self, task: TextTask, split: str) -> list[Example]:
    """Returns what is seen of a split, tokenised and never trimmed.

    Raises:
      ValueError: The split cannot be read, or does not allow it.
    """

  def answer(self, text: str) -> str:
    """Returns what of an answer the task's metrics are to judge."""
    return text


@dataclasses.dataclass(frozen=True)
class SentinelTargets(View):
  """Every target starts with a sentinel, as those of span corruption do.

  So a T5 that was never LM-adapted is asked for what it knows to write (Lester
  et al., 2021, sec. 3.2, "span corruption + sentinel").
  """

  def examples(self, task: TextTask, split: str) -> list[Example]:
    """Returns all examples, the first sentinel in front of their targets.

    Raises:
      ValueError: The split cannot be read, or the vocabulary has no sentinels.
    """
    if len(task.vocabulary.encode(SENTINEL)) != 1:
      raise ValueError(
        f"task {task.name!r}: its vocabulary {task.vocabulary} has no sentinel "
        f"{SENTINEL}; give it extra ids"
      )
    rows = text_rows(task, split)
    texts = [{**row, "targets": f"{SENTINEL} {row['targets']}"} for row in rows]
    return [
      {**example, "targets_pretokenized": row["targets"]}
      for example, row in zip(
        sources.tokenize_examples(texts, task.vocabulary), rows, strict=True
      )
    ]

  def answer(self, text: str) -> str:
    """Returns the answer without the sentinel."""
    return text.removeprefix(SENTINEL).lstrip()


def text_rows(task: TextTask, split: str) -> list[TextExample]:
  """Returns the examples of a split as text.

  Raises:
    ValueError: It cannot be read, or is not of `inputs` and `targets`.
  """
  rows = task.read(split)
  if not {"inputs", "targets"} <= set(rows[0]):
    raise ValueError(
      f"task {task.name!r} has the fields {sorted(rows[0])}, of which a "
      "pattern makes a row; put the words into the pattern: this is for tasks "
      "of inputs and targets"
    )
  return rows


def examples_of(
  task: TextTask, split: str, view: View | None = None
) -> list[Example]:
  """Returns what a view shows of a split; without one, all.

  Raises:
    ValueError: As `View.examples`.
  """
  return task.examples(split) if view is None else view.examples(task, split)
