"""The three forms in which a model may be told which task an example is of."""

import enum
from collections.abc import Iterator
from typing import Any

from prompt_tuning.data.vocabularies import Vocabulary
from prompt_tuning.types import enum_member

Rendered = dict[str, Any]
"""`inputs` and `targets`, strings, and what metrics want beside them."""


class TextForm(enum.Enum):
  """What stands in front of an example's text.

  PLAIN is Lester et al. (2021, appendix A): T5's text without the name of the
  task, which the soft prompt stands for. NAMED is T5's own (Raffel et al.,
  2020), as multi-task model tuning needs it. INDEXED puts a sentinel there that
  stands for the task: the k-th, `<extra_id_k>`, whose id is vocab_size - 1 - k.
  """

  PLAIN = "plain"
  NAMED = "named"
  INDEXED = "indexed"

  def apply(
    self, examples: Iterator[Rendered], *, name: str, index: int | None
  ) -> Iterator[Rendered]:
    """Puts in front of plain examples what this form has there.

    Args:
      examples: Rendered in the plain form.
      name: What T5 calls the task.
      index: The number of the task in its benchmark.

    Raises:
      ValueError: The form is INDEXED and the task has no number.
    """
    for example in examples:
      if self is TextForm.PLAIN:
        yield example
      elif self is TextForm.NAMED:
        yield example | {"inputs": f"{name} {example['inputs']}"}
      elif index is None:
        raise ValueError(f"task {name!r} has no number for the indexed form")
      else:
        yield example | {"inputs": f"{_sentinel(index)} {example['inputs']}"}

  def check(self, vocabulary: Vocabulary, *, index: int | None) -> None:
    """Checks that a vocabulary reads the sentinel as one token.

    Raises:
      ValueError: The form is INDEXED and it does not, as that of bytes.
    """
    if self is not TextForm.INDEXED or index is None:
      return
    expected = [vocabulary.vocab_size - 1 - index]
    found = vocabulary.encode(_sentinel(index))
    if found != expected:
      raise ValueError(
        f"the indexed form needs a vocabulary that reads {_sentinel(index)!r} "
        f"as the id {expected}, but {vocabulary} reads {found}; use a "
        "SentencePiece vocabulary with extra ids"
      )


def text_form_of(form: TextForm | str) -> TextForm:
  """Returns a text form by its name.

  Raises:
    ValueError: There is no such form.
  """
  return enum_member(TextForm, form, name="text_form")


def _sentinel(index: int) -> str:
  return f"<extra_id_{index}>"
