"""What metrics compare: made of the text of a target or of a prediction.

Each is a `postprocess_fn` of a task, see `text_tasks.TextTask`.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

from prompt_tuning.metrics.grouped import Grouped
from prompt_tuning.metrics.referents import names_referent

NO_NUMBER = -1.0
"""The number of a prediction that is none; T5's."""
NO_REFERENT = -1
"""The label of a prediction that names nothing; T5's."""


def label(text: str, **unused: Any) -> str:
  """Returns a label's word."""
  return text.strip()


def grouped_label(
  text: str, *, example: Mapping[str, Any], is_target: bool
) -> Grouped | str:
  """Returns a label's word, for a target with its example's `group`."""
  word = text.strip()
  return Grouped(example["group"], word) if is_target else word


def similarity(text: str, **unused: Any) -> float:
  """Returns a number, `NO_NUMBER` for text that is no finite one."""
  try:
    number = float(text)
  except ValueError:
    return NO_NUMBER
  return number if math.isfinite(number) else NO_NUMBER


def answers(
  text: str, *, example: Mapping[str, Any], is_target: bool
) -> list[str] | str:
  """Returns an answer, for a target all `answers` of its example."""
  return list(example["answers"]) if is_target else text


def grouped_answers(
  text: str, *, example: Mapping[str, Any], is_target: bool
) -> Grouped | str:
  """As `answers`, for a target with its example's `group`."""
  if is_target:
    return Grouped(example["group"], list(example["answers"]))
  return text


def referent(text: str, *, example: Mapping[str, Any], is_target: bool) -> int:
  """Returns WSC's label: does the text name the candidate of its example?

  1 or 0; of a target it is known, and a prediction that names nothing has
  `NO_REFERENT`.
  """
  if is_target:
    return int(example["label"])
  named = names_referent(text, example["targets_pretokenized"])
  return NO_REFERENT if named is None else int(named)


def translated(words: Mapping[str, str]) -> Callable[..., str]:
  """Returns what makes labels of one task those of another.

  Args:
    words: The other task's word for each word of the first. Text that is none
      of these stays as it is, so that targets may be the other task's already.
  """

  def translate(text: str, **unused: Any) -> str:
    return words.get(text.strip(), text.strip())

  return translate
