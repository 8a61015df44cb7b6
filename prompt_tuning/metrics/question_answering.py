"""Exact match and token F1 of extracted answers (Rajpurkar et al., 2016)."""

import collections
import re
import string
from collections.abc import Callable, Sequence

from prompt_tuning.metrics.classification import paired

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def squad(
  targets: Sequence[Sequence[str]], predictions: Sequence[str]
) -> dict[str, float]:
  """Returns exact match and token F1, in percent, named `em` and `f1`.

  Every example counts the gold answer that suits its prediction best, for each
  of the two figures on its own.

  Args:
    targets: All gold answers of every example.
    predictions: One answer for each example.

  Raises:
    ValueError: If there is nothing to compare, the lengths differ, or an
      example has no gold answer or a bare string in the place of a list.
  """
  pairs = paired(targets, predictions)
  for index, answers in enumerate(targets):
    if isinstance(answers, str) or not len(answers):
      raise ValueError(
        f"target {index} must be a list with at least one gold answer, got "
        f"{answers!r}."
      )
  return {
    "em": _mean_of_best(pairs, exact_match),
    "f1": _mean_of_best(pairs, token_f1),
  }


def normalize_answer(text: str) -> str:
  """Returns lower case without punctuation, articles and extra whitespace.

  Punctuation is ASCII's and is deleted, not replaced: "U.S." becomes "us".
  """
  text = text.lower().translate(_NO_PUNCTUATION)
  return " ".join(_ARTICLES.sub(" ", text).split())


def exact_match(answer: str, prediction: str) -> float:
  """Returns 1 if both are the same once normalised, else 0."""
  return float(normalize_answer(answer) == normalize_answer(prediction))


def token_f1(answer: str, prediction: str) -> float:
  """Returns the F1 of the bags of words, as a fraction.

  It is 0 if nothing is shared; so also for two answers that normalise to
  nothing, as in SQuAD 1.1.
  """
  gold = collections.Counter(normalize_answer(answer).split())
  said = collections.Counter(normalize_answer(prediction).split())
  shared = (gold & said).total()
  return 2.0 * shared / (gold.total() + said.total()) if shared else 0.0


def _mean_of_best(
  pairs: Sequence[tuple[Sequence[str], str]],
  score: Callable[[str, str], float],
) -> float:
  best = [
    max(score(answer, prediction) for answer in answers)
    for answers, prediction in pairs
  ]
  return 100.0 * sum(best) / len(best)
