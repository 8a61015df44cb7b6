"""What the data sets' texts are made of: fields under their names, punctuation.

The texts are those of T5 (Raffel et al., 2020, appendix D), which the paper
keeps (Lester et al., 2021, appendix A).
"""

import re
import string
from collections.abc import Sequence

from prompt_tuning.tasks import records
from prompt_tuning.tasks.text_form import Rendered

# ASCII's, as in the regular expressions of TensorFlow that T5 uses.
_PUNCTUATION = re.compile(f"([{re.escape(string.punctuation)}])")
_SPACE = re.compile(r"[ \t\n\f\r]+")


def name_fields(fields: dict[str, str]) -> str:
  """Returns texts one after another, each behind its name and a colon."""
  return " ".join(f"{name}: {value}" for name, value in fields.items())


def classify(
  record: records.Record,
  fields: dict[str, str],
  *,
  words: Sequence[str],
  label: Sequence[str] = ("label",),
) -> Rendered:
  """Returns an example whose target is the word of its label.

  Args:
    record: The record.
    fields: The texts of the input by name, in order.
    words: The words of labels 0, 1, ...
    label: What the field of the label may be called.

  Raises:
    ValueError: The label has no word.
  """
  target = records.label_word(record, words, *label)
  return {
    "inputs": name_fields(fields),
    "targets": target,
  } | records.numbered(record)


def space_punctuation(value: str) -> str:
  """Puts spaces around ASCII punctuation and makes one of several."""
  return _SPACE.sub(" ", _PUNCTUATION.sub(r" \1 ", value))


def single_spaces(value: str) -> str:
  """Makes one space of several."""
  return _SPACE.sub(" ", value)
