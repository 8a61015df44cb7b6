"""Questions about running text: which sentence comes next, and which does not.

Next sentence prediction and next sentence selection (Gu et al., 2022, sec.
3.2), as fields for a pattern. Every example is a function of the documents, a
sentence to begin from and random numbers.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from prompt_tuning.data.patterns import LETTERS
from prompt_tuning.data.prompt_pretraining.documents import Documents

Fields = dict[str, Any]


class NoQuestion(ValueError):
  """Nothing can be asked about a sentence, of its own documents."""


UNRELATED, SAME_DOCUMENT, ADJACENT = "no", "maybe", "yes"
SHARES: Mapping[int, tuple[int, tuple[int, int, int, int]]] = {
  2: (1, (0, 0, 0, 0)),
  3: (1, (1, 0, 0, 0)),
  4: (1, (1, 1, 0, 0)),
  5: (1, (1, 1, 1, 0)),
  6: (1, (1, 1, 1, 1)),
  7: (2, (1, 1, 1, 1)),
  8: (2, (2, 1, 1, 1)),
  9: (2, (2, 2, 1, 1)),
  10: (2, (2, 2, 2, 1)),
  11: (3, (2, 2, 2, 1)),
  12: (3, (2, 2, 2, 2)),
  13: (3, (3, 2, 2, 2)),
  14: (3, (3, 3, 2, 2)),
  15: (3, (3, 3, 3, 2)),
  16: (3, (3, 3, 3, 3)),
}
"""By the number of options, how many wrong ones come from the same document,
and from each of four others."""

_TRIES = 100
_LENGTH_RATIO = 100


@dataclasses.dataclass(frozen=True)
class Pool:
  """Sentences that may be asked about: long enough, in a document that is too.

  Attributes:
    documents: All documents.
    allowed: bool [S], which sentences.
    kept: int [K], the documents that they are of.
  """

  documents: Documents
  allowed: np.ndarray
  kept: np.ndarray

  def neighbours(self, number: int) -> list[int]:
    """Returns the allowed sentences next to one, in its document."""
    start, end = self.documents.sentences_of(self.documents.document_of(number))
    beside = (number - 1, number + 1)
    return [n for n in beside if start <= n < end and self.allowed[n]]

  def others(self, number: int) -> np.ndarray:
    """Returns the allowed sentences of the same document, not next to one."""
    start, end = self.documents.sentences_of(self.documents.document_of(number))
    found = start + np.flatnonzero(self.allowed[start:end])
    return found[np.abs(found - number) > 1]

  def elsewhere(
    self, rng: np.random.Generator, *, taken: set[int]
  ) -> tuple[int, np.ndarray]:
    """Returns another document and its allowed sentences.

    Raises:
      ValueError: There is none but those taken.
    """
    if len(taken) >= self.kept.size:
      raise ValueError(
        f"there are {self.kept.size} documents to ask about, and one more is "
        "needed; give more"
      )
    while (document := int(rng.choice(self.kept))) in taken:
      pass
    start, end = self.documents.sentences_of(document)
    return document, start + np.flatnonzero(self.allowed[start:end])


def next_sentence_prediction(
  pool: Pool, number: int, rng: np.random.Generator
) -> Fields:
  """Returns `first`, `second`, and the `label`, each of three as often.

  "yes" is the sentence before or after, "maybe" another of the same document,
  "no" one of another document. Where a document has no such sentence the kind
  is drawn again, and so is a sentence more than a hundred times as long.
  """
  tokens = pool.documents.token_counts
  for _ in range(_TRIES):
    label = (UNRELATED, SAME_DOCUMENT, ADJACENT)[int(rng.integers(3))]
    if label == ADJACENT:
      found = pool.neighbours(number)
    elif label == SAME_DOCUMENT:
      found = pool.others(number)
    else:
      own = pool.documents.document_of(number)
      _, found = pool.elsewhere(rng, taken={own})
    if not len(found):
      continue
    second = int(rng.choice(found))
    sizes = sorted((int(tokens[number]), int(tokens[second])))
    if sizes[1] <= _LENGTH_RATIO * sizes[0]:
      sentence = pool.documents.sentence
      return {
        "first": sentence(number),
        "second": sentence(second),
        "label": label,
      }
  raise NoQuestion(
    f"sentence {number} was paired with none in {_TRIES} tries; its document "
    "has too few sentences, or the others are of another length"
  )


def next_sentence_selection(counts: Sequence[int]) -> Callable[..., Fields]:
  """Returns what makes questions with so many options.

  Args:
    counts: One number of options for all questions, or several, of which one is
      drawn for each.

  Raises:
    ValueError: There are no such questions.
  """
  unknown = [count for count in counts if count not in SHARES]
  if unknown or not counts:
    raise ValueError(
      f"a question has {min(SHARES)} to {max(SHARES)} options, got "
      f"num_options {list(counts)}"
    )

  def make(pool: Pool, number: int, rng: np.random.Generator) -> Fields:
    return _selection(pool, number, rng, int(rng.choice(counts)))

  return make


def _selection(
  pool: Pool, number: int, rng: np.random.Generator, count: int
) -> Fields:
  """Returns `query`, `options`, and the `answer`, a letter."""
  sentence = pool.documents.sentence
  query = sentence(number)
  own = pool.documents.document_of(number)
  beside = [sentence(n) for n in pool.neighbours(number)]
  beside = [text for text in beside if text != query]
  if not beside:
    raise NoQuestion(f"sentence {number} has itself beside it alone")
  truth = beside[int(rng.integers(len(beside)))]
  wrong: list[str] = []

  def take(found: np.ndarray, amount: int) -> bool:
    """Takes sentences that were not taken yet; returns whether all were."""
    for candidate in rng.permutation(found):
      if not amount:
        break
      text = sentence(int(candidate))
      if text not in (query, truth, *wrong):
        wrong.append(text)
        amount -= 1
    return not amount

  same, elsewhere = SHARES[count]
  # A short document gives what it has; others make up for it.
  before = len(wrong)
  take(pool.others(number), same)
  missing = same - (len(wrong) - before)
  taken = {own}
  for amount in elsewhere:
    for _ in range(_TRIES if amount + missing else 0):
      document, found = pool.elsewhere(rng, taken=taken)
      had = len(wrong)
      if take(found, amount + missing):
        taken.add(document)
        missing = 0
        break
      del wrong[had:]
  if len(wrong) != count - 1:
    raise NoQuestion(
      f"a question about sentence {number} has {len(wrong)} wrong options "
      f"where {count - 1} were asked for; give more or longer documents"
    )
  place = int(rng.integers(count))
  order = rng.permutation(len(wrong))
  options = [wrong[index] for index in order]
  options.insert(place, truth)
  return {"query": query, "options": options, "answer": LETTERS[place]}
