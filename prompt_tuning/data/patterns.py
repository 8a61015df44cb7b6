"""Pattern-verbalizer pairs: how an example becomes a question for a T5.

Gu et al. (2022, sec. 3) write a task as a pattern, text around the fields of an
example with a slot for the answer, and a verbalizer, the word of each label. A
`Pattern` is that as data:

* `{sentence}` is a field of the example, tokenised by itself;
* `<X>` is the answer slot, the first sentinel: exactly one;
* `[?]` is a literal piece, which joins to what stands in front of it: `A` as it
  stands in `?A`, not as a word;
* `{options}` is a list of options behind the letters A to P: `[A][.]` option
  `[.]` and so on, or as the pattern's `item` has it;
* `{soft:4}` is four soft tokens that stand there, if any is to stand elsewhere
  than in front (`PromptSpec.position` is "marked");
* everything else is text, tokenised by itself.

So `"{sentence} It was<X>[.]"` is a hard prompt for a review, and
`"{sentence}[?]{options}[?]The correct one is<X>"` a multiple choice. Soft
tokens that stand in front of all, where a prompt mostly stands, are no part of
it.

Where a row has no room, those fields give way that the pattern names: the
answer slot, a literal piece or another field never do, and of `options`, if
they are named, each one keeps a token. A sentinel in the text of a field is an
unknown piece, for the row has one slot. Rows have no end of sequence, and
targets are the sentinel and the word, as the released code has it.
"""

import dataclasses
import functools
import re
import string
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from prompt_tuning.data.features import WHOLE, Example
from prompt_tuning.data.vocabularies import Vocabulary
from prompt_tuning.prompts.layout import MARK

ANSWER, END = "<extra_id_0>", "<extra_id_1>"
LETTERS = string.ascii_uppercase[:16]
"""Of options, in their order."""

_SLOT = "<X>"
_OPTIONS = "options"
_SOFT = re.compile(r"\{soft:(\d+)\}")
_PARTS = re.compile(r"<X>|\{\w+\}|\{soft:\d+\}|\[[^\]\s]+\]|[^<\[{]+|[<\[{]")
_LETTER, _OPTION = "letter", "option"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pattern:
  """Text around the fields of an example.

  Attributes:
    text: See the head of this module.
    gives_way: The field that is cut at its end where a row is too long, or
      fields, which are then cut in proportion, each option by itself; None
      where none may be.
    max_tokens: Of a row, soft tokens not counted.
    budgets: Tokens of single fields, or of each of the `options`, that are cut
      to them in any case.
    item: How an option is written: its `{letter}`, or `[{letter}]` as a literal
      piece, and the `{option}`.

  Raises:
    ValueError: There is not one answer slot, a brace is of no field,
      `gives_way` or a budget is of no field, a budget is not positive, or an
      item lacks the option.
  """

  text: str
  gives_way: str | Sequence[str] | None = None
  max_tokens: int = 512
  budgets: Mapping[str, int] = dataclasses.field(default_factory=dict)
  item: str = "[{letter}][.]{option}[.]"

  def __post_init__(self):
    if f"{{{_OPTION}}}" not in self.item_parts:
      raise ValueError(
        f"an item must have {{option}}, got {self.item!r}; a pattern writes "
        "every option by it"
      )
    if self.parts.count(_SLOT) != 1:
      raise ValueError(
        f"the pattern {self.text!r} must have one answer slot {_SLOT}, it has "
        f"{self.parts.count(_SLOT)}"
      )
    strange = [
      part
      for part in self.item_parts
      if part == _SLOT
      or (part[0] == "{" and part[1:-1] not in (_LETTER, _OPTION))
    ]
    if strange:
      raise ValueError(
        f"an item is made of {{letter}}, {{option}} and words, got {strange} "
        f"in {self.item!r}"
      )
    for part in (*self.parts, *self.item_parts):
      if part == "{" or ("}" in part and part[0] not in "{["):
        raise ValueError(
          f"the pattern {self.text!r}, with the item {self.item!r}, has a "
          "brace of no field; fields are written {name}, of letters, digits "
          "and _"
        )
    for name, budget in self.budgets.items():
      if budget < 1:
        raise ValueError(
          f"the pattern {self.text!r}: the budget of {name!r} must be a "
          f"positive number of tokens, got {budget}"
        )
    for name in (*self.budgets, *self.giving_way):
      if name not in self.fields:
        raise ValueError(
          f"the pattern {self.text!r} has no field {name!r} to cut; its fields "
          f"are {list(self.fields)}"
        )

  @property
  def giving_way(self) -> tuple[str, ...]:
    """The fields that are cut where a row is too long."""
    if isinstance(self.gives_way, str):
      return (self.gives_way,)
    return tuple(self.gives_way or ())

  @property
  def parts(self) -> list[str]:
    """Fields, literal pieces, slots and runs of text, in order."""
    return _split(self.text)

  @property
  def item_parts(self) -> list[str]:
    """As `parts`, of an option."""
    return _split(self.item)

  @property
  def fields(self) -> list[str]:
    """Names of the fields, `options` among them if there are any."""
    return [
      part[1:-1]
      for part in self.parts
      if part.startswith("{") and not _SOFT.fullmatch(part)
    ]

  @property
  def num_slots(self) -> int:
    """Soft tokens that stand in the pattern."""
    found = filter(None, map(_SOFT.fullmatch, self.parts))
    return sum(int(match[1]) for match in found)

  def render(
    self,
    fields: Mapping[str, Any],
    vocabulary: Vocabulary,
    *,
    options: Sequence[str] = (),
    where: str = "an example",
  ) -> np.ndarray:
    """Returns the token ids of an example's row, int32; a `MARK` for a slot.

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
    pieces = list(self._pieces(fields, vocabulary, options, where))
    tokens = sum(len(ids) for _, ids in pieces) - self.num_slots
    too_many = tokens - self.max_tokens
    if too_many > 0:
      pieces = self._cut(pieces, too_many, where)
    return np.asarray([i for _, ids in pieces for i in ids], np.int32)

  def _pieces(
    self,
    fields: Mapping[str, Any],
    vocabulary: Vocabulary,
    options: Sequence[str],
    where: str,
  ) -> Iterator[tuple[str, list[int]]]:
    """Yields the parts of a row with their tokens, each option by itself."""
    for part in self.parts:
      if part == f"{{{_OPTIONS}}}":
        for letter, option in zip(LETTERS, options, strict=False):
          yield from self._item(letter, option, vocabulary)
      elif part == _SLOT:
        yield part, [sentinel(vocabulary, ANSWER)]
      elif soft := _SOFT.fullmatch(part):
        yield part, [MARK] * int(soft[1])
      elif part.startswith("{"):
        text = _text(fields, part[1:-1], where)
        yield part, self._field(part[1:-1], text, vocabulary)
      else:
        yield part, word_ids(vocabulary, part)

  def _item(
    self, letter: str, option: str, vocabulary: Vocabulary
  ) -> Iterator[tuple[str, list[int]]]:
    for part in self.item_parts:
      if part == f"{{{_OPTION}}}":
        yield f"{{{_OPTIONS}}}", self._field(_OPTIONS, option, vocabulary)
      else:
        yield part, word_ids(vocabulary, _lettered(part, letter))

  def _field(self, name: str, text: str, vocabulary: Vocabulary) -> list[int]:
    """Returns the tokens of text of an example, without a slot of its own."""
    sentinels = _sentinels(vocabulary)
    ids = vocabulary.encode(text)[: self.budgets.get(name)]
    return [vocabulary.unk_id if i in sentinels else i for i in ids]

  def _cut(
    self, pieces: list[tuple[str, list[int]]], too_many: int, where: str
  ) -> list[tuple[str, list[int]]]:
    """Takes tokens from what gives way; one of each always stays."""
    ways = [f"{{{name}}}" for name in self.giving_way]
    sizes = {
      place: len(ids)
      for place, (part, ids) in enumerate(pieces)
      if part in ways and ids
    }
    room = sum(sizes.values()) - too_many
    if room < max(1, len(sizes)):
      named = " and ".join(map(repr, self.giving_way))
      what = f"the field {named}" if self.giving_way else "no field"
      raise ValueError(
        f"{where}: a row of {self.max_tokens} tokens is {too_many} too short, "
        f"and {what} gives way; raise max_tokens, or give other fields budgets"
      )
    kept = _in_proportion(sizes, room)
    return [
      (part, ids[: kept.get(place)]) for place, (part, ids) in enumerate(pieces)
    ]


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
    ValueError: There is no word; the pattern has options and this none, or the
      other way round; or there are more options than letters.
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
    if self.options and not isinstance(self.options, str):
      _check_options(self.options, f"the pattern {self.pattern.text!r}")

  @property
  def answers(self) -> tuple[str, ...]:
    """The words as a vocabulary reads and writes them, with their sentinel.

    They are what rank classification compares.
    """
    return answers_of(self.verbalizer)

  def check(self, vocabulary: Vocabulary) -> None:
    """Checks that a vocabulary can write all but the fields.

    Raises:
      ValueError: It has no sentinels, or lacks a literal piece, or a piece of
        the pattern's words or of the verbalizer's.
    """
    parts = self.pattern.parts
    if _OPTIONS in self.pattern.fields:
      parts += [_lettered(part, "A") for part in self.pattern.item_parts]
    for part in parts:
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
      ValueError: As `Pattern.render`; or the label has no word, the vocabulary
        cannot write it, or it is a letter that no option has.
    """
    options = self.options
    if isinstance(options, str):
      options = _listed(fields, options, where)
    inputs = self.pattern.render(
      fields, vocabulary, options=list(options), where=where
    )
    word = self._word(fields, where)
    if self.options and bare(word) in tuple(LETTERS[len(options) :]):
      raise ValueError(
        f"{where}: the answer is the letter {bare(word)}, and there are "
        f"{len(options)} options"
      )
    targets = [sentinel(vocabulary, ANSWER), *word_ids(vocabulary, word)]
    targets += [sentinel(vocabulary, END)] if self.ends else []
    return {
      **fields,
      "inputs": inputs,
      "targets": np.asarray(targets, np.int32),
      WHOLE: True,
      "inputs_pretokenized": vocabulary.decode(inputs[inputs != MARK].tolist()),
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


@functools.lru_cache(maxsize=8)
def _sentinels(vocabulary: Vocabulary) -> frozenset[int]:
  """Returns the ids of the sentinels that text can name."""
  encoded = (vocabulary.encode(f"<extra_id_{n}>") for n in range(100))
  named = frozenset(ids[0] for ids in encoded if len(ids) == 1)
  return named - {vocabulary.unk_id}


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


def answers_of(verbalizer: Mapping[str, str]) -> tuple[str, ...]:
  """Returns the words of a verbalizer as `PVP.answers` has them."""
  return tuple(dict.fromkeys(map(_answer, verbalizer.values())))


def answered(text: str) -> str:
  """Returns the word of an answer, without what stands around it."""
  return text.removeprefix(ANSWER).split(END)[0].strip()


def _answer(word: str) -> str:
  return ANSWER + (bare(word) if is_literal(word) else f" {word}")


def _split(text: str) -> list[str]:
  found = (part.strip() for part in _PARTS.findall(text))
  return [part for part in found if part]


def _in_proportion(sizes: Mapping[int, int], room: int) -> dict[int, int]:
  """Splits `room` over places by their sizes; each gets one at least."""
  total, kept = sum(sizes.values()), dict[int, int]()
  for place, size in sizes.items():
    rest = len(sizes) - len(kept) - 1
    share = round(size * room / total)
    kept[place] = max(1, min(share, room - sum(kept.values()) - rest))
  return kept


def _lettered(part: str, letter: str) -> str:
  return part.replace(f"{{{_LETTER}}}", letter)


def _check_options(options: Sequence[str], where: str) -> None:
  if not 2 <= len(options) <= len(LETTERS):
    raise ValueError(
      f"{where}: a choice has 2 to {len(LETTERS)} options, got {len(options)}"
    )


def _listed(fields: Mapping[str, Any], name: str, where: str) -> Sequence[str]:
  value = fields.get(name)
  is_list = isinstance(value, list | tuple)
  if not is_list or not all(isinstance(each, str) for each in value):
    raise ValueError(
      f"{where}: the field {name!r} must be a list of options, texts, got "
      f"{value!r}"
    )
  return value


def _text(fields: Mapping[str, Any], name: str, where: str) -> str:
  value = fields.get(name)
  if not isinstance(value, str):
    raise ValueError(
      f"{where}: the pattern's field {name!r} must be text, got {value!r}; the "
      f"fields are {sorted(fields)}"
    )
  return value
