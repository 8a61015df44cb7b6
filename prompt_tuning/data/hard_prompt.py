"""Hard prompts: a task in words, solved examples in front of each question.

This is prompt design, as GPT-3 was evaluated and as Lester et al. (2021, fig. 1
and sec. 3.1) compare with: nothing is trained. The model reads k examples of
the training split with their answers, then the question, and goes on.
"""

import collections
import dataclasses
import string
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from absl import logging

from prompt_tuning.data import sources
from prompt_tuning.data.features import Example, FeatureLengths
from prompt_tuning.data.text_tasks import TextExample, TextTask
from prompt_tuning.data.views import View, text_rows

_QUESTION, _ANSWER = "inputs", "targets"


@dataclasses.dataclass(frozen=True, kw_only=True)
class HardPrompt(View):
  """Puts every input of a task into a text with solved examples.

  The examples in front are drawn once by the seed, as many of each class where
  targets are few, and never from what they stand in front of. Where a text has
  no room for all, those farthest from the question are left out of it; where it
  has none for the question alone, the last words of the question are. The
  template's words always stay, and the log says how often either happened.

  Attributes:
    template: Text of an example, with {inputs} once and, at its end, {targets}.
    lengths: TASK_FEATURE_LENGTHS: a whole text has `inputs` tokens at most, its
      end of sequence included.
    num_shots: k.
    separator: Text between examples.
    instruction: Text in front of all, which always stays.
    shots_split: Where examples in front come from.
    seed: Decides which.
  """

  template: str
  lengths: Mapping[str, int]
  num_shots: int = 0
  separator: str = " "
  instruction: str = ""
  shots_split: str = "train"
  seed: int = 0

  def __post_init__(self):
    pieces = list(string.Formatter().parse(self.template))
    fields = [field for _, field, _, _ in pieces if field is not None]
    ends = self.template.endswith("{" + _ANSWER + "}")
    if fields != [_QUESTION, _ANSWER] or not ends:
      raise ValueError(
        "HardPrompt.template must hold {inputs} once and then end with "
        f"{{targets}}, as in 'Text: {{inputs}} Label: {{targets}}', got "
        f"{self.template!r}"
      )
    if self.num_shots < 0:
      raise ValueError(
        f"HardPrompt.num_shots must not be negative, got {self.num_shots}"
      )

  def examples(self, task: TextTask, split: str) -> list[Example]:
    """Returns the split with its inputs as hard prompts, tokenised.

    Raises:
      ValueError: A split cannot be read, the training split has fewer than k
        examples, or the words of the template alone do not fit.
    """
    asked = text_rows(task, split)
    shots = self._draw(task, split)
    rows, left_out, cut = [], 0, 0
    for number, example in enumerate(asked):
      others = [text for place, text in shots if place != number]
      text, kept, is_cut = self._fit(
        str(example[_QUESTION]), others[: self.num_shots], task
      )
      rows.append({**example, _QUESTION: text})
      left_out += self.num_shots - kept
      cut += is_cut
    logging.info(
      "%s: %.2f of %d examples in front of a question on average; %d of %d "
      "questions cut.",
      *(task.name, self.num_shots - left_out / len(asked), self.num_shots),
      *(cut, len(asked)),
    )
    return list(sources.tokenize_examples(rows, task.vocabulary))

  @property
  def _max_tokens(self) -> int:
    return FeatureLengths.from_mapping(self.lengths).inputs

  def _draw(self, task: TextTask, split: str) -> list[tuple[int | None, str]]:
    """Returns k examples; of the split itself one more, with their numbers."""
    if not self.num_shots:
      return []
    known = text_rows(task, self.shots_split)
    is_same = split == self.shots_split
    needed = self.num_shots + is_same
    if len(known) < needed:
      raise ValueError(
        f"task {task.name!r}: {self.num_shots} examples in front of each "
        f"question were asked for, and its split {self.shots_split!r} has "
        f"{len(known)}; ask for fewer"
      )
    rng = np.random.default_rng(self.seed)
    numbers = _balanced([str(e[_ANSWER]) for e in known], needed, rng)
    return [
      (
        number if is_same else None,
        self._filled(str(known[number][_QUESTION]), known[number]),
      )
      for number in numbers
    ]

  def _filled(self, question: str, example: TextExample) -> str:
    return self.template.format(
      **{_QUESTION: question, _ANSWER: example[_ANSWER]}
    )

  def _fit(
    self, question: str, shots: Sequence[str], task: TextTask
  ) -> tuple[str, int, bool]:
    """Returns a text, how many examples it has, and whether it lost words."""

    def whole(count: int, words: str) -> str:
      ending = self.template.removesuffix("{" + _ANSWER + "}")
      parts = [
        *([self.instruction] if self.instruction else []),
        *shots[len(shots) - count :],
        ending.format(**{_QUESTION: words}).rstrip(),
      ]
      return self.separator.join(parts)

    def fits(text: str) -> bool:
      return len(task.vocabulary.encode(text)) + 1 <= self._max_tokens

    kept = _most(len(shots), lambda count: fits(whole(count, question)))
    if kept is not None:
      return whole(kept, question), kept, False
    words = question.split()
    count = _most(len(words), lambda n: fits(whole(0, " ".join(words[:n]))))
    if not count:
      raise ValueError(
        f"task {task.name!r}: a hard prompt of {self._max_tokens} tokens has "
        f"no room for a word of the question {question[:80]!r}; raise "
        "TASK_FEATURE_LENGTHS['inputs'], or shorten the template"
      )
    return whole(0, " ".join(words[:count])), 0, True


def _balanced(
  answers: Sequence[str], count: int, rng: np.random.Generator
) -> list[int]:
  """Draws examples in turn from the classes, which come in a drawn order.

  Where there are more answers than examples to draw, answers are no classes.
  """
  classes: dict[str, list[int]] = collections.defaultdict(list)
  order: list[int] = rng.permutation(len(answers)).tolist()
  for number in order:
    classes[answers[number]].append(number)
  if len(classes) > count:
    return order[:count]
  drawn: list[int] = []
  while len(drawn) < count:
    drawn += [members.pop() for members in classes.values() if members]
  return drawn[:count]


def _most(limit: int, is_possible: Callable[[int], bool]) -> int | None:
  """Returns the largest possible count up to a limit; None if not even 0 is.

  What is possible for a count is taken to be for all below it.
  """
  low, high = -1, limit
  while low < high:
    middle = (low + high + 1) // 2
    low, high = (middle, high) if is_possible(middle) else (low, middle - 1)
  return None if low < 0 else low
