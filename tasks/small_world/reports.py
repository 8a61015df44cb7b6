"""Longer documents, to pre-train prompts on: passages on one theme.

  python -m prompt_tuning.tasks.small_world.reports --output reports.jsonl

A passage is two or three sentences about one thing: a person, a film, an event
in two wordings, somebody's work. A report is three to five passages of the same
kind. So a sentence has most in common with the one beside it, something with
the others of its document, and little with those of another.
"""

import argparse
import itertools
import json
import pathlib
from collections.abc import Callable, Iterator

from prompt_tuning import paths
from prompt_tuning.tasks.small_world import (
  articles,
  lexicon,
  paraphrases,
  quizzes,
  reviews,
  stories,
)
from prompt_tuning.tasks.small_world.draw import TRAIN, Draw

Passage = Callable[[Draw], list[str]]


def reports(seed: int, split: str = TRAIN) -> Iterator[list[str]]:
  """Yields documents for ever, as sentences, the same for the same arguments.

  Args:
    seed: names the stream.
    split: "train" holds no held-out combination; "validation" may.
  """
  draw = Draw(f"reports/{seed}", split)
  while True:
    passage = draw.one(_THEMES)(draw)
    yield [
      sentence
      for _ in range(draw.rng.randint(3, 5))
      for sentence in passage(draw)
    ]


def _events(draw: Draw) -> Passage:
  topic = draw.one(tuple(lexicon.TOPICS))
  return lambda draw: articles.episode(draw, topic)


def _things(draw: Draw) -> Passage:
  kind = draw.one(tuple(lexicon.KINDS))
  return lambda draw: quizzes.lesson(draw, kind)


_THEMES: tuple[Callable[[Draw], Passage], ...] = (
  _events,
  _things,
  lambda draw: stories.portrait,
  lambda draw: reviews.critique,
  lambda draw: paraphrases.retelling,
)


def main() -> None:
  """Writes a file of documents."""
  parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
  parser.add_argument("--output", type=pathlib.Path, required=True)
  parser.add_argument("--num_documents", type=int, default=20_000)
  parser.add_argument("--seed", type=int, default=0)
  arguments = parser.parse_args()
  found = itertools.islice(reports(arguments.seed), arguments.num_documents)
  # As sentences: none begins with a capital letter, so no rule could cut them.
  text = "".join(json.dumps({"text": each}) + "\n" for each in found)
  paths.make_writable_dir(arguments.output.parent)
  paths.write_text(arguments.output, text)


if __name__ == "__main__":
  main()
