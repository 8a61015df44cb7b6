"""Trains the sentencepiece vocabulary of the embedded model.

  python -m prompt_tuning.tasks.small_world.vocabulary --output NEW.model

The corpus knows so few words that nearly each becomes one piece.
"""

import argparse
import itertools
import pathlib
from collections.abc import Iterator

from prompt_tuning.data.train_vocabulary import train_sentencepiece
from prompt_tuning.tasks.small_world.documents import documents

# With 100 extra ids that is 632, which the embedding table rounds up to 640.
NUM_PIECES = 532
_NUM_DOCUMENTS = 100_000


def _lines(seed: int, num_documents: int) -> Iterator[str]:
  """Documents, each also with a comma after every word.

  The trainer takes for a candidate piece only what occurs in two different
  words, so that a word which never varies would not become a piece of its own.
  """
  for document in itertools.islice(documents(seed), num_documents):
    yield document
    yield document.replace(" ", ", ")


def train_vocabulary(
  *,
  seed: int = 0,
  num_pieces: int = NUM_PIECES,
  num_documents: int = _NUM_DOCUMENTS,
) -> bytes:
  """Trains a unigram sentencepiece model on documents of the training split.

  Args:
    seed: names the stream of documents.
    num_pieces: vocabulary size, without T5's extra ids.
    num_documents: how many documents to count pieces in.

  Returns:
    The serialised sentencepiece model.
  """
  return train_sentencepiece(_lines(seed, num_documents), num_pieces=num_pieces)


def main() -> None:
  """Writes the model to the path given by --output."""
  parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
  parser.add_argument("--output", type=pathlib.Path, required=True)
  parser.add_argument("--seed", type=int, default=0)
  arguments = parser.parse_args()
  arguments.output.write_bytes(train_vocabulary(seed=arguments.seed))


if __name__ == "__main__":
  main()
