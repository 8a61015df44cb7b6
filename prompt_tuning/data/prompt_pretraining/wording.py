"""The words of the questions: patterns and verbalizers of prompt pre-training.

They are those of the downstream tasks' plain and unified forms, for a prompt is
to fit these (Gu et al., 2022, sec. 3.2).
"""

import dataclasses
import enum
from collections.abc import Mapping

from prompt_tuning.data.patterns import LETTERS, PVP, Pattern
from prompt_tuning.data.prompt_pretraining.examples import (
  ADJACENT,
  SAME_DOCUMENT,
  UNRELATED,
)

STARS = ("terrible", "bad", "maybe", "good", "great")
"""Of reviews, from one star to five."""

BUDGETS: Mapping[int, tuple[int, int]] = {
  **dict.fromkeys((2, 3, 4), (400, 50)),
  5: (400, 40),
  6: (300, 40),
  7: (250, 30),
  **dict.fromkeys((8, 9), (200, 30)),
  **dict.fromkeys(range(10, 17), (150, 20)),
}
"""Tokens of the query and of an option, by the number of options (unified)."""

# Of next sentence selection, which always has six options.
_SIX = (389, 86)
# Tokens of a row that the paper's prompt takes.
_SOFT = 100


class Format(enum.Enum):
  """What is asked: pairs, a choice of 6, or, unified, of 2 to 16.

  Or about a sentence that has a pseudo label.
  """

  PAIRS = "next_sentence_prediction"
  CHOICE = "next_sentence_selection"
  UNIFIED = "unified"
  SENTENCE = "sentence_classification"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wording:
  """Patterns and words; see `data.patterns` for how they are written.

  Attributes:
    pair: Pattern of `{first}` and `{second}`.
    relations: The word for an unrelated sentence, one of the same document, and
      the one beside it.
    choice: Pattern of `{query}` and `{options}`.
    item: How an option is written; see `Pattern.item`.
    letter: How the letter of the answer is: `[{letter}]`, the literal piece, or
      `{letter}`, the word.
    sentence: Pattern of `{sentence}`, whose label a labeller gave.
  """

  pair: str = "{first}<X>{second}"
  relations: tuple[str, str, str] = ("no", "maybe", "yes")
  choice: str = "{query}[?]{options}[?]The correct one is<X>"
  item: str = "[{letter}][.]{option}[.]"
  letter: str = "[{letter}]"
  sentence: str = "{sentence}<X>"

  def pvp(
    self, form: Format, num_options: int = 0, *, max_tokens: int | None = None
  ) -> PVP:
    """Returns the pattern and verbalizer of a format.

    Args:
      form: The format.
      num_options: Of a choice; it decides which letters are answers and, in the
        unified form, how many tokens there are.
      max_tokens: Of a row, where there are fewer than the paper's.
    """
    if form is Format.PAIRS:
      labels = (UNRELATED, SAME_DOCUMENT, ADJACENT)
      return PVP(
        pattern=Pattern(
          text=self.pair,
          gives_way=("first", "second"),
          max_tokens=_least(512 - _SOFT, max_tokens),
        ),
        verbalizer=dict(zip(labels, self.relations, strict=True)),
        ends=True,
      )
    is_unified = form is Format.UNIFIED
    query, option = BUDGETS.get(num_options, _SIX) if is_unified else _SIX
    letters = LETTERS[:num_options]
    return PVP(
      pattern=Pattern(
        text=self.choice,
        budgets={"query": query, "options": option},
        # Never with the paper's rows, which the budgets fill at most.
        gives_way=("query", "options"),
        max_tokens=_least((768 if is_unified else 1024) - _SOFT, max_tokens),
        item=self.item,
      ),
      label_field="answer",
      verbalizer={a: self.letter.replace("{letter}", a) for a in letters},
      options="options",
      ends=True,
    )

  def sentence_pvp(
    self, verbalizer: Mapping[str, str], *, max_tokens: int | None = None
  ) -> PVP:
    """Returns those of a labelled sentence.

    Args:
      verbalizer: The word of each label, as text.
      max_tokens: See `pvp`.
    """
    return PVP(
      pattern=Pattern(
        text=self.sentence,
        gives_way="sentence",
        max_tokens=_least(368 - _SOFT, max_tokens),
      ),
      verbalizer=verbalizer,
      ends=True,
    )


def _least(most: int, max_tokens: int | None) -> int:
  return most if max_tokens is None else min(most, max_tokens)
