"""Pattern-verbalizer pairs: how an example becomes a question for a T5.

Gu et al. (2022, sec. 3) write a task as a pattern, text around the fields of an
example with a slot for the answer, and a verbalizer, the word of each label. A
`Pattern` is that as data:

* `{sentence}` is a field of the example, tokenised by itself;
* `<X>` is the answer slot, the first sentinel: exactly one;
* `[?]` is a literal piece, which joins to what stands in front of it: `A` as it
  stands in `?A`, not as a word;
* `{options}` is a list of options behind the letters A to P: `[A][.]` option
  `[.]` and so on;
* everything else is text, tokenised by itself.

So `"{sentence} It was<X>[.]"` is a hard prompt for a review, and
`"{sentence}[?]{options}[?]The correct one is<X>"` a multiple choice. Soft
tokens stand in front of it, where every prompt stands; they are no part of it.

Where a row has no room, one field gives way, which the pattern names: the
answer slot, an option, a literal piece or another field never do. Rows have no
end of sequence, and targets are the sentinel and the word, as the released code
has it.
"""

import dataclasses
import re
import string
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from prompt_tuning.data.features import Example
from prompt_tuning.data.vocabularies import Vocabulary

ANSWER, END = "<extra_id_0>", "<extra_id_1>"
LETTERS = string.ascii_uppercase[:16]
"""Of options, in their order."""

_SLOT = "<X>"
_OPTIONS = "options"
_PARTS = re.compile(r"<X>|\{\w+\}|\[[^\]\s]+\]|[^<\[{]+|[<\[{]")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pattern:
  """Text around the fields of an example.

  Attributes:
    text: See the head of this module.
    gives_way: The field that is cut at its end where a row is too long; None
      where none may be.
    max_tokens: Of a row, soft tokens not counted.
    budgets: Tokens of single fields, or of each of the `options`, that are cut
      to them in any case.

  Raises:
    ValueError: There is not one answer slot, or `gives_way` or a budget is of
      no field.
  """

  text: str
  gives_way: str | None = None
  max_tokens: int = 512
  budgets: Mapping[str, int] = dataclasses.field(default_factory=dict)

  def __post_init__(self):
    if self.parts.count(_SLOT) != 1:
      raise ValueError(
        f"the pattern {self.text!r} must have one answer slot {_SLOT}, it has "
        f"{self.parts.count(_SLOT)}"
      )
    for name in (*self.budgets, *filter(None, [self.gives_way])):
      if name not in self.fields:
        raise ValueError(
          f"the pattern {self.text!r} has no field {name!r} to cut; its fields "
          f"are {list(self.fields)}"
        )

  @property
  def parts(self) -> list[str]:
    """Fields, literal pieces, the answer slot and runs of text, in order."""
    found = (part.strip() for part in _PARTS.findall(self.text))
    return [part for part in found if part]

  @property
  def fields(self) -> list[str]:
    """Names of the fields, `options` among them if there are any."""
    return [part[1:-1] for part in self.parts if part.startswith("{")]

  def render(
    self,
    fields: Mapping[str, Any],
    vocabulary: Vocabulary,
    *,
    options: Sequence[str] = (),
    where: str = "an example",
  ) -> np.ndarray:
    """Returns the token ids of an example's row, int32.

    Args:
      fields: The example's, text.
      vocabulary: Gives the ids.
      options: What stands behind the letters, if the pattern has options.
      where: What to call the example in an error.

    Raises:
      ValueError: A field is missing or no text, there are more options than
        letters or none where they are asked for, the vocabulary cannot write a
        literal piece, or the row does not fit whatever gives way.
    """
    if _OPTIONS in self.fields:
      _check_options(options, where)
    pieces = [
      (part, list(self._ids(part, fields, vocabulary, options, where)))
      for part in self.parts
    ]
    too_many = sum(len(ids) for _, ids in pieces) - self.max_tokens
    if too_many > 0:
      pieces = self._cut(pieces, too_many, where)
    return np.asarray([i for _, ids in pieces for i in ids], np.int32)

  def _ids(
    self,
    part: str,
    fields: Mapping[str, Any],
    vocabulary: Vocabulary,
    options: Sequence[str],
    where: str,
  ) -> Iterator[int]:
    if part == _SLOT:
      yield sentinel(vocabulary, ANSWER)
    elif part.startswith("["):
      yield literal(vocabulary, part[1:-1])
    elif part == f"{{{_OPTIONS}}}":
      for letter, option in zip(LETTERS, options, strict=False):
        yield literal(vocabulary, letter)
        yield literal(vocabulary, ".")
        yield from vocabulary.encode(option)[: self.budgets.get(_OPTIONS)]
        yield literal(vocabulary, ".")
    elif part.startswith("{"):
      name = part[1:-1]
      text = _text(fields, name, where)
      yield from vocabulary.encode(text)[: self.budgets.get(name)]
    else:
      yield from vocabulary.encode(part)

  def _cut(
    self, pieces: list[tuple[str, list[int]]], too_many: int, where: str
  ) -> list[tuple[str, list[int]]]:
    """Takes tokens from the field that gives way; one of them always stays."""
    way = f"{{{self.gives_way}}}"
    room = sum(len(ids) for part, ids in pieces if part == way) - too_many
    if room < 1:
      what = f"the field {self.gives_way!r}" if self.gives_way else "no field"
      raise ValueError(
        f"{where}: a row of {self.max_tokens} tokens is {too_many} too short, "
        f"and {what} gives way; raise max_tokens, or give other fields budgets"
      )
    return [(p, ids[:room] if p == way else ids) for p, ids in pieces]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PVP:
  """A pattern and a verbalizer.

  Attributes:
    pattern: The pattern.
    label_field: The field that holds the label.
    verbalizer: The word of each label, by the label as text; a literal piece
      is `[A]`.
    options: The options of a pattern that has them: texts, the same for all
      examples, or the name of a field that lists them.
    ends: Whether a target ends with the second sentinel, as in the pre-training
      of prompts.

  Raises:
    ValueError: There is no word, or the pattern has options and this none, or
      the other way round.
  """

  pattern: Pattern
  label_field: str = "label"
  verbalizer: Mapping[str, str]
  options: Sequence[str] | str = ()
  ends: bool = False

  def __post_init__(self):
    if not self.verbalizer:
      raise ValueError("a verbalizer needs a word for each label, got none")
    if bool(self.options) != (_OPTIONS in self.pattern.fields):
      raise ValueError(
        f"options are {self.options!r}, and the pattern {self.pattern.text!r} "
        f"{'has' if _OPTIONS in self.pattern.fields else 'lacks'} {{options}}"
      )

  @property
  def answers(self) -> tuple[str, ...]:
    """The words as a vocabulary reads and writes them, with their sentinel.

    They are what rank classification compares.
    """
    return tuple(dict.fromkeys(map(_answer, self.verbalizer.values())))

  def check(self, vocabulary: Vocabulary) -> None:
    """Checks that a vocabulary can write all but the fields.

    Raises:
      ValueError: It has no sentinels, or lacks a literal piece, or a piece of
        the pattern's words or of the verbalizer's.
    """
    for part in self.pattern.parts:
      if part == _SLOT:
        sentinel(vocabulary, ANSWER)
      elif not part.startswith("{"):
        word_ids(vocabulary, part)
    for word in self.verbalizer.values():
      word_ids(vocabulary, word)

  def example(
    self,
    fields: Mapping[str, Any],
    vocabulary: Vocabulary,
    *,
    where: str = "an example",
  ) -> Example:
    """Returns the fields with `inputs` and `targets`, token ids.

    `targets_pretokenized` is the word.

    Raises:
      ValueError: As `Pattern.render`; or the label has no word, or the
        vocabulary cannot write it.
    """
    options = self.options
    if isinstance(options, str):
      options = fields.get(options, ())
    inputs = self.pattern.render(
      fields, vocabulary, options=list(options), where=where
    )
    word = self._word(fields, where)
    targets = [sentinel(vocabulary, ANSWER), *word_ids(vocabulary, word)]
    targets += [sentinel(vocabulary, END)] if self.ends else []
    return {
      **fields,
      "inputs": inputs,
      "targets": np.asarray(targets, np.int32),
      "inputs_pretokenized": vocabulary.decode(inputs.tolist()),
      "targets_pretokenized": bare(word),
    }

  def _word(self, fields: Mapping[str, Any], where: str) -> str:
    label = fields.get(self.label_field)
    word = self.verbalizer.get(str(label))
    if word is None:
      raise ValueError(
        f"{where}: the label {label!r} in the field {self.label_field!r} has "
        f"no word; there are words for {list(self.verbalizer)}"
      )
    return word


def sentinel(vocabulary: Vocabulary, text: str) -> int:
  """Returns the id of a sentinel.

  Raises:
    ValueError: The vocabulary has none.
  """
  ids = vocabulary.encode(text)
  if len(ids) != 1:
    raise ValueError(
      f"the vocabulary {vocabulary} has no sentinel {text}, which patterns "
      "need; give it extra ids"
    )
  return ids[0]


def literal(vocabulary: Vocabulary, text: str) -> int:
  """Returns the id of a piece that joins to what stands in front of it.

  Raises:
    ValueError: The vocabulary has no such piece.
  """
  # Behind a sentinel no piece starts a word.
  ids = vocabulary.encode(ANSWER + text)[1:]
  if len(ids) != 1 or ids[0] == vocabulary.unk_id:
    raise ValueError(
      f"the vocabulary {vocabulary} has no piece [{text}]: it writes it as "
      f"{ids}; use another pattern"
    )
  return ids[0]


def word_ids(vocabulary: Vocabulary, word: str) -> list[int]:
  """Returns the tokens of words, or of a literal piece `[A]`.

  Raises:
    ValueError: The vocabulary cannot write it.
  """
  if is_literal(word):
    return [literal(vocabulary, word[1:-1])]
  ids = vocabulary.encode(word)
  if not ids or vocabulary.unk_id in ids:
    raise ValueError(
      f"the vocabulary {vocabulary} cannot write {word!r}, of a pattern or a "
      "verbalizer; choose other words"
    )
  return list(ids)


def is_literal(word: str) -> bool:
  """Returns whether a word is written as a literal piece."""
  return word.startswith("[") and word.endswith("]")


def bare(word: str) -> str:
  """Returns a word without the brackets of a literal piece."""
  return word[1:-1] if is_literal(word) else word


def _answer(word: str) -> str:
  return ANSWER + (bare(word) if is_literal(word) else f" {word}")


def _check_options(options: Sequence[str], where: str) -> None:
  if not 2 <= len(options) <= len(LETTERS):
    raise ValueError(
      f"{where}: a choice has 2 to {len(LETTERS)} options, got {len(options)}"
    )


def _text(fields: Mapping[str, Any], name: str, where: str) -> str:
  value = fields.get(name)
  if not isinstance(value, str):
    raise ValueError(
      f"{where}: the pattern's field {name!r} must be text, got {value!r}; the "
      f"fields are {sorted(fields)}"
    )
  return value
