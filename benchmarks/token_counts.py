"""Counts the tokens of texts, for --lengths_file.

A line is a number of tokens and the number of texts that have so many.

python -m benchmarks.token_counts --vocabulary=sentencepiece.model
  --input=train.tsv --field=sentence > lengths.txt
"""

import argparse
import collections
from collections.abc import Iterator, Sequence

from prompt_tuning.data.sources import read_records
from prompt_tuning.data.vocabularies import (
  SentencePieceVocabulary,
  Vocabulary,
)


def token_counts(
  path: str, field: str, vocabulary: Vocabulary
) -> Iterator[int]:
  """Yields the tokens of a field of every record, end of sequence included.

  Args:
    path: A TSV or JSONL file, plain or compressed.
    field: Name of the field that holds the text.
    vocabulary: Splits it.

  Raises:
    ValueError: If a record lacks the field.
  """
  for record in read_records(path):
    yield len(vocabulary.encode(str(record[field]))) + 1


def main(arguments: Sequence[str] | None = None) -> None:
  """Prints how often each count occurs."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--vocabulary", required=True, help="sentencepiece model")
  parser.add_argument(
    "--input", required=True, nargs="+", help="TSV or JSONL files"
  )
  parser.add_argument("--field", required=True, help="what holds the text")
  options = parser.parse_args(arguments)
  vocabulary = SentencePieceVocabulary(options.vocabulary)
  counts = collections.Counter(
    count
    for path in options.input
    for count in token_counts(path, options.field, vocabulary)
  )
  for tokens, texts in sorted(counts.items()):
    print(tokens, texts)


if __name__ == "__main__":
  main()
