"""Where the soft prompt's slots stand among an example's tokens.

A soft token is a token id at or above `vocab_size`, a slot:
`vocab_size + prompt_index * P + position`, positions counted from left to
right. The paper puts the P slots in front of the input (Lester et al., 2021,
sec. 2); the reference code also knows them after the first token and at the
end; hybrid prompts stand between fixed words (Gu et al., 2022, sec. 2), which
are the same for all examples, or come with them, each slot as a `MARK`.

A `Layout` is data: the parts of a row in their order. `place` fills one row.
Only the input text is ever cut to fit: never a slot, a fixed word of a template
or the end of sequence.
"""

import dataclasses
import enum
import string
from collections.abc import Callable, Sequence

import numpy as np

from prompt_tuning.types import EOS_ID

MARK = -1
"""The id of a slot in an input that says itself where its slots stand."""
_FIELDS = "{inputs} and {soft:N}"


class Place(enum.Enum):
  """Parts of a row that come from the example."""

  FIRST = "first token"
  INPUTS = "input tokens"
  EOS = "end of sequence"


@dataclasses.dataclass(frozen=True)
class Soft:
  """A run of consecutive slots.

  Attributes:
    length: Number of slots, in tokens; at least 1.
  """

  length: int


@dataclasses.dataclass(frozen=True)
class Hard:
  """Fixed words of a template.

  Attributes:
    ids: Their token ids.
  """

  ids: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class PlacedRow:
  """One row of `encoder_input_tokens` before padding.

  Attributes:
    tokens: int32, at most `max_length` of them.
    tokens_cut: How many input tokens did not fit.
  """

  tokens: np.ndarray
  tokens_cut: int


@dataclasses.dataclass(frozen=True)
class Layout:
  """The parts of an encoder row, from left to right.

  Use `prefix`, `after_bos`, `suffix_before_eos`, `suffix_after_eos`,
  `template` or `marked`; the bare model is `prefix(0)`.

  Attributes:
    parts: Exactly one `Place.INPUTS` and one `Place.EOS`; `Place.FIRST`, where
      present, stands before `Place.INPUTS` and takes its first token.
    num_marks: Slots that stand in the input itself.
  """

  parts: tuple[Soft | Hard | Place, ...]
  num_marks: int = 0

  def __post_init__(self):
    for place in (Place.INPUTS, Place.EOS):
      if self.parts.count(place) != 1:
        raise ValueError(
          f"a layout needs exactly one {place}, got parts {self.parts}"
        )
    first = [i for i, part in enumerate(self.parts) if part is Place.FIRST]
    if first and first != [0]:
      raise ValueError(
        f"{Place.FIRST} can only be the first part, got parts {self.parts}"
      )
    for part in self.parts:
      if isinstance(part, Soft):
        _check_length(part.length, minimum=1)

  @property
  def num_slots(self) -> int:
    """P, the number of soft tokens in a row."""
    soft = sum(p.length for p in self.parts if isinstance(p, Soft))
    return soft + self.num_marks

  @property
  def num_added(self) -> int:
    """Tokens that a row holds besides the example's own: slots and words."""
    hard = sum(len(p.ids) for p in self.parts if isinstance(p, Hard))
    return self.num_slots + hard

  def row_tokens(self, num_ids: int, *, max_inputs: int) -> int:
    """Returns the tokens of a row.

    Args:
      num_ids: Of the input, its marks included.
      max_inputs: How many of them fit, marks not counted.
    """
    return min(num_ids - self.num_marks, max_inputs) + self.num_added

  def place(
    self,
    ids: Sequence[int] | np.ndarray,
    *,
    max_length: int,
    vocab_size: int,
    prompt_index: int = 0,
    name: str = "the example",
  ) -> PlacedRow:
    """Puts the slots and fixed words around one example's tokens.

    Args:
      ids: Token ids of the input; a last id of 1 is the end of sequence.
      max_length: L, tokens of the row, slots and fixed words included.
      vocab_size: Rows of the embedding table (`T5Config.vocab_size`).
      prompt_index: Which prompt of a bank the slots name.
      name: What to call the example in an error.

    Raises:
      ValueError: The input is empty, holds an id outside the embedding table
        or another number of marks, or the row has no room for a single input
        token or for the input's last mark.
    """
    ids = np.asarray(ids, np.int32)
    eos = ids[-1:] if ids.size and ids[-1] == EOS_ID else ids[:0]
    body = ids[: ids.size - eos.size]
    is_mark = self._marks(body, name)
    _check_ids(body[~is_mark], vocab_size=vocab_size, name=name)
    room = max_length - (self.num_added - self.num_marks) - eos.size
    if room < 1:
      raise ValueError(
        f"{name}: a row of {max_length} tokens cannot hold {self.num_slots} "
        f"slots, {self.num_added - self.num_slots} template tokens, "
        f"{eos.size} end of sequence and at least 1 input token; raise the "
        "inputs length or shorten the prompt"
      )
    first_slot = vocab_size + prompt_index * self.num_slots
    if self.num_marks:
      if np.any(is_mark[room:]):
        raise ValueError(
          f"{name}: a row of {max_length} tokens cuts slots that stand in the "
          "input; raise the inputs length, or cut the example's text"
        )
      body = body.copy()
      body[is_mark] = first_slot + np.arange(self.num_marks)
    tokens = self._fill(body[:room], eos, first_slot=first_slot)
    return PlacedRow(tokens, tokens_cut=max(0, body.size - room))

  def _marks(self, body: np.ndarray, name: str) -> np.ndarray:
    """Returns which tokens stand for slots; of a layout without marks, none."""
    if not self.num_marks:
      return np.zeros(body.shape, bool)
    is_mark = body == MARK
    if is_mark.sum() != self.num_marks:
      raise ValueError(
        f"{name}: the input marks {int(is_mark.sum())} slots, and the prompt "
        f"has {self.num_marks} soft tokens; make PROMPT_LENGTH the number of "
        "slots of the task's pattern"
      )
    return is_mark

  def _fill(
    self, body: np.ndarray, eos: np.ndarray, *, first_slot: int
  ) -> np.ndarray:
    takes_first = Place.FIRST in self.parts
    columns = []
    for part in self.parts:
      match part:
        case Soft(length):
          columns.append(np.arange(first_slot, first_slot + length))
          first_slot += length
        case Hard(hard_ids):
          columns.append(hard_ids)
        case Place.FIRST:
          columns.append(body[:1])
        case Place.INPUTS:
          columns.append(body[1:] if takes_first else body)
        case Place.EOS:
          columns.append(eos)
    return np.concatenate(columns).astype(np.int32)


def prefix(length: int) -> Layout:
  """Slots in front of the input (Lester et al., 2021, sec. 2)."""
  return Layout((*_soft(length), Place.INPUTS, Place.EOS))


def after_bos(length: int) -> Layout:
  """Slots after the first token of the input, which is never cut."""
  return Layout((Place.FIRST, *_soft(length), Place.INPUTS, Place.EOS))


def suffix_before_eos(length: int) -> Layout:
  """Slots after the input, the end of sequence behind them."""
  return Layout((Place.INPUTS, *_soft(length), Place.EOS))


def suffix_after_eos(length: int) -> Layout:
  """Slots behind the end of sequence."""
  return Layout((Place.INPUTS, Place.EOS, *_soft(length)))


def marked(length: int) -> Layout:
  """Slots where the input marks them, as a pattern of a task does."""
  _check_length(length, minimum=1)
  return Layout((Place.INPUTS, Place.EOS), num_marks=length)


def template(text: str, *, encode: Callable[[str], Sequence[int]]) -> Layout:
  """Slots between words, a hybrid prompt (Gu et al., 2022, sec. 2).

  `"{soft:10} {inputs} It was {soft:2} ."` is ten slots, the input, the words
  "It was", two slots, a full stop and the end of sequence. Blanks that only
  separate two fields are not encoded. Write `{{` and `}}` for braces.

  Args:
    text: The template: `{inputs}` once, `{soft:N}` any number of times.
    encode: Gives the token ids of fixed words, without an end of sequence.

  Raises:
    ValueError: `text` has another field, no or several `{inputs}`, or a
      `{soft:N}` whose N is not a positive integer.
  """
  parts: list[Soft | Hard | Place] = []
  for words, field, argument in _parse(text):
    if words.strip():
      parts.append(Hard(tuple(int(i) for i in encode(words))))
    if field == "soft":
      parts.append(Soft(_template_length(argument, text)))
    elif field == "inputs" and not argument:
      parts.append(Place.INPUTS)
    elif field is not None:
      raise ValueError(
        f"template {text!r} has the unknown field {{{field}}}; a template "
        f"knows {_FIELDS}"
      )
  if parts.count(Place.INPUTS) != 1:
    raise ValueError(
      f"template {text!r} must have {{inputs}} exactly once, it has "
      f"{parts.count(Place.INPUTS)}"
    )
  return Layout((*parts, Place.EOS))


def _soft(length: int) -> tuple[Soft, ...]:
  _check_length(length, minimum=0)
  return (Soft(length),) if length else ()


def _check_length(length: int, *, minimum: int) -> None:
  is_integer = isinstance(length, int) and not isinstance(length, bool)
  if not is_integer or length < minimum:
    raise ValueError(
      f"a prompt length must be an integer of at least {minimum}, got "
      f"{length!r}"
    )


def _parse(text: str) -> list[tuple[str, str | None, str]]:
  """Splits into (words, field name or None, argument)."""
  try:
    pieces = list(string.Formatter().parse(text))
  except ValueError as error:
    raise ValueError(
      f"template {text!r} is malformed: {error}; a template knows {_FIELDS}, "
      "and {{ and }} for braces"
    ) from error
  return [(words, field, spec or "") for words, field, spec, _ in pieces]


def _template_length(argument: str, text: str) -> int:
  if not argument.isdecimal() or int(argument) < 1:
    raise ValueError(
      f"template {text!r}: {{soft:N}} needs a positive number of slots, got "
      f"{{soft:{argument}}}"
    )
  return int(argument)


def _check_ids(body: np.ndarray, *, vocab_size: int, name: str) -> None:
  if body.ndim != 1 or body.size == 0:
    raise ValueError(
      f"{name}: the input has no tokens (shape {body.shape} without end of "
      "sequence); remove the example or give it text"
    )
  lowest, highest = body.min(), body.max()
  if lowest == MARK:
    raise ValueError(
      f"{name}: the input marks slots (id {MARK}) and the prompt's slots stand "
      "elsewhere; set PromptSpec.position to 'marked'"
    )
  if lowest < 0 or highest >= vocab_size:
    raise ValueError(
      f"{name}: the input holds token id {lowest if lowest < 0 else highest}, "
      f"outside the model's {vocab_size} embeddings; use the vocabulary that "
      "the model was trained with"
    )
