"""The forms of a task of PPT (Gu et al., 2022).

Each has forms: `plain`, without words around the fields, for prompts alone and
for pre-trained ones; `hard`, the words of model tuning, which with a soft
prompt in front make hybrid prompt tuning; `unified`, a multiple choice.

A row of the released code has 512 tokens, 100 soft ones among them; of RACE,
610 and 517. What is left of it is a pattern's.
"""

import dataclasses
import enum
from collections.abc import Iterable, Iterator, Mapping, Sequence

from prompt_tuning.data.pattern_tasks import Expand
from prompt_tuning.data.patterns import LETTERS, PVP, Pattern
from prompt_tuning.data.prompt_pretraining.wording import Format
from prompt_tuning.data.sources import Record

SOFT = 100
"""Tokens of a row that the paper's prompt takes."""
_ENGLISH_CHOICE = "{options}[?]The correct one is<X>"


class Form(enum.Enum):
  """What stands around the fields; HYBRID is HARD with room for soft tokens."""

  PLAIN = "plain"
  HYBRID = "hybrid"
  UNIFIED = "unified"
  HARD = "hard"


@dataclasses.dataclass(frozen=True, kw_only=True)
class PromptedTask:
  """A task of labels in its forms.

  Attributes:
    plain: Text of the pattern.
    hard: Text of the pattern.
    asked: Text of the unified pattern in front of the options.
    words: The word of each label, by the label as text in the order of the
      options.
    gives_way: The field that is cut, or the fields.
    format: What a prompt for it is pre-trained on, unless its form is unified.
    metrics: Names of metrics.
    label_field: The field of the label.
    choice: Text of the unified pattern from the options on.
    item: How an option is written; see `Pattern.item`.
    expand: Makes the examples of a line that holds several.
  """

  plain: str
  hard: str
  asked: str
  words: Mapping[str, str]
  gives_way: str | Sequence[str]
  format: Format
  metrics: Sequence[str] = ("accuracy",)
  label_field: str = "label"
  choice: str = _ENGLISH_CHOICE
  item: str = Pattern.item
  expand: Expand | None = None

  def pvp(self, form: Form) -> PVP:
    """Returns the pair of a form."""
    # The released code cuts the passage before it puts options behind it.
    budget = 512 if form is Form.HARD else 512 - SOFT
    if form is not Form.UNIFIED:
      text = self.plain if form is Form.PLAIN else self.hard
      return PVP(
        pattern=Pattern(text=text, gives_way=self.gives_way, max_tokens=budget),
        verbalizer=self.words,
        label_field=self.label_field,
      )
    options = list(self.words.values())
    return PVP(
      pattern=Pattern(
        text=self.asked + self.choice,
        gives_way=self.gives_way,
        # The words of the choice, and four tokens for each option.
        max_tokens=budget + 7 + 4 * len(options),
        item=self.item,
      ),
      verbalizer=letters(list(self.words)),
      label_field=self.label_field,
      options=options,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChoiceTask:
  """A task whose options are the example's, in its forms.

  Attributes:
    plain: Text of the pattern of all forms without words of their own.
    hard: Text of the pattern with words.
    gives_way: The field that is cut.
    options: The field that lists the options.
    labels: What the field of the answer holds, in the order of the options.
    label_field: That field.
    max_tokens: Of a row, and of one without a soft prompt.
    item: How an option is written; see `Pattern.item`.
    expand: Makes the examples of a line that holds several.
  """

  plain: str
  hard: str
  gives_way: str
  options: str
  labels: Sequence[str] = LETTERS[:4]
  label_field: str = "answer"
  max_tokens: tuple[int, int] = (512 - SOFT, 512)
  item: str = Pattern.item
  expand: Expand | None = None

  format = Format.CHOICE
  metrics: Sequence[str] = ("accuracy",)

  def pvp(self, form: Form) -> PVP:
    """Returns the pair of a form."""
    has_words = form in (Form.HARD, Form.HYBRID)
    return PVP(
      pattern=Pattern(
        text=self.hard if has_words else self.plain,
        gives_way=self.gives_way,
        max_tokens=self.max_tokens[form is Form.HARD],
        item=self.item,
      ),
      label_field=self.label_field,
      verbalizer=letters(self.labels),
      options=self.options,
    )


def letters(labels: Sequence[str]) -> dict[str, str]:
  """Returns labels with the literal pieces of their options' letters."""
  return {
    label: f"[{letter}]" for label, letter in zip(labels, LETTERS, strict=False)
  }


def numbered(words: Iterable[str], *, first: int = 0) -> dict[str, str]:
  """Returns words by the number of their label, as text."""
  return {str(label): word for label, word in enumerate(words, start=first)}


def with_fields(record: Record, rows: Iterable[Mapping]) -> Iterator[Record]:
  """Yields a line once with each of some further fields."""
  for fields in rows:
    yield Record({**record.fields, **fields}, record.where)
