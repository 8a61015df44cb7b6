"""Fields and labels of a raw record, as TFDS or a file has them.

The same data set names its fields in several ways: TFDS flattens and renames
what SuperGLUE's JSONL nests, GLUE's TSV have names of their own, and copies of
the data often say `text_a` and `text_b`. Labels are numbers, words or booleans.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from prompt_tuning.data.text_tasks import UNLABELLED

Record = Mapping[str, Any]
"""One example of a data set before it is text."""

_NO_LABEL = (None, -1, "-1", "")


def field(record: Record, *names: str) -> Any:
  """Returns the first of the named fields that a record has.

  Args:
    record: The record.
    *names: The field's name, and what it is called elsewhere.

  Raises:
    ValueError: The record has none of them, or null.
  """
  for name in names:
    if record.get(name) is not None:
      return record[name]
  asked = " or ".join(map(repr, names))
  raise ValueError(
    f"a record must have the field {asked}, got one with {sorted(record)}"
  )


def text(record: Record, *names: str) -> str:
  """Returns a field that is text.

  Raises:
    ValueError: The record lacks it, or it is something else.
  """
  value = field(record, *names)
  if not isinstance(value, str):
    raise ValueError(
      f"the field {names[0]!r} must be text, got {value!r} of the type "
      f"{type(value).__name__}"
    )
  return value


def texts(record: Record, *names: str) -> list[str]:
  """Returns a field that is a list of texts; see `text`.

  Raises:
    ValueError: There is no such field, or it is something else.
  """
  values = field(record, *names)
  if isinstance(values, str | Mapping) or not all(
    isinstance(value, str) for value in values
  ):
    raise ValueError(
      f"the field {names[0]!r} must be a list of texts, got {values!r}"
    )
  return list(values)


def label_word(record: Record, words: Sequence[str], *names: str) -> str:
  """Returns the word of a record's label, or `UNLABELLED` where it has none.

  Args:
    record: The record.
    words: The words of labels 0, 1, ...
    *names: What the field of the label may be called; by default `label`.

  Raises:
    ValueError: The label is none of the words, nor the number of one.
  """
  names = names or ("label",)
  given = [record[name] for name in names if record.get(name) is not None]
  if not given or given[0] in _NO_LABEL:
    return UNLABELLED
  label = given[0]
  if isinstance(label, bool):
    label = int(label)
  numbers = {str(number): word for number, word in enumerate(words)}
  spoken = {word.lower(): word for word in words}
  found = numbers.get(str(label)) or spoken.get(str(label).lower())
  if found is None:
    raise ValueError(
      f"the label must be one of {list(words)} or its number, counted from 0, "
      f"got {label!r}"
    )
  return found


def group(record: Record, *names: str) -> str:
  """Returns the numbers in a record's `idx`, joined by hyphens.

  Args:
    record: The record.
    *names: What the numbers are called, from the outermost.

  Raises:
    ValueError: `idx` is missing, or has no such numbers.
  """
  numbers = field(record, "idx")
  if not isinstance(numbers, Mapping) or not set(names) <= set(numbers):
    raise ValueError(
      f"the field 'idx' must have the numbers {list(names)}, got {numbers!r}"
    )
  return "-".join(str(numbers[name]) for name in names)


def numbered(record: Record) -> dict[str, Any]:
  """Returns the number that a data set gives a record, if it gives one."""
  number = record.get("idx")
  return (
    {} if number is None or isinstance(number, Mapping) else {"idx": number}
  )
