"""Counts the tokens of texts, one count a line, for --lengths_file.

python -m benchmarks.token_counts --vocabulary=sentencepiece.model
  --input=train.tsv --field=sentence > lengths.txt
"""

import argparse
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
  """Prints the counts."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--vocabulary", required=True, help="sentencepiece model")
  parser.add_argument("--input", required=True, help="TSV or JSONL file")
  parser.add_argument("--field", required=True, help="what holds the text")
  options = parser.parse_args(arguments)
  vocabulary = SentencePieceVocabulary(options.vocabulary)
  for count in token_counts(options.input, options.field, vocabulary):
    print(count)


if __name__ == "__main__":
  main()
