"""Trains a sentencepiece vocabulary with T5's fixed ids.

python -m prompt_tuning.data.train_vocabulary --input docs.jsonl.xz
  --num_pieces 8092 --output new.model
"""

import argparse
import io
import itertools
import pathlib
import random
from collections.abc import Iterable, Iterator, Sequence

from prompt_tuning import paths
from prompt_tuning.data import sources
from prompt_tuning.types import EOS_ID, PAD_ID, UNK_ID

_DOCUMENTS_OF_EACH_FILE = 400
_LONGEST_SENTENCE = 4000  # In characters; sentencepiece leaves longer ones out.


def train_sentencepiece(
  sentences: Iterable[str], *, num_pieces: int, character_coverage: float = 1.0
) -> bytes:
  """Trains a unigram model: pad 0, end of sequence 1, unknown 2, no start.

  One thread does it, so that the order of summation, thus the file, is the
  same each time.

  Args:
    sentences: What to count pieces in.
    num_pieces: Size of the vocabulary, without T5's extra ids.
    character_coverage: Fraction of the characters that must have a piece.

  Returns:
    The serialised sentencepiece model.
  """
  import sentencepiece

  model = io.BytesIO()
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(sentences),
    model_writer=model,
    model_type="unigram",
    vocab_size=num_pieces,
    pad_id=PAD_ID,
    eos_id=EOS_ID,
    unk_id=UNK_ID,
    bos_id=-1,
    byte_fallback=False,
    character_coverage=character_coverage,
    num_threads=1,
    minloglevel=2,
  )
  return model.getvalue()


def sample_sentences(
  files: Sequence[str],
  *,
  text_field: str = "text",
  documents_of_each: int = _DOCUMENTS_OF_EACH_FILE,
  seed: int = 0,
) -> Iterator[str]:
  """Yields lines of a few documents of each file, cut to a bearable length.

  Args:
    files: TSV or JSONL files of one document a line, or plain text, see
      `sources.read_documents`.
    text_field: The field that holds the text.
    documents_of_each: Documents drawn among the first tenfold of each file.
    seed: Of the draw.
  """
  rng = random.Random(seed)
  for file in files:
    records = itertools.islice(
      sources.read_documents(file), 10 * documents_of_each
    )
    for record in records:
      if rng.random() < 0.1:
        for line in str(record[text_field]).splitlines():
          for start in range(0, len(line), _LONGEST_SENTENCE):
            yield line[start : start + _LONGEST_SENTENCE]


def main(argv: Sequence[str] | None = None) -> None:
  """Writes the model to the path given by --output."""
  parser = argparse.ArgumentParser(
    description="Trains a sentencepiece vocabulary with T5's fixed ids."
  )
  parser.add_argument("--input", action="append", required=True)
  parser.add_argument("--output", type=pathlib.Path, required=True)
  parser.add_argument("--num_pieces", type=int, required=True)
  parser.add_argument("--text_field", default="text")
  parser.add_argument("--character_coverage", type=float, default=0.9995)
  parser.add_argument("--seed", type=int, default=0)
  arguments = parser.parse_args(argv)
  model = train_sentencepiece(
    sample_sentences(
      arguments.input, text_field=arguments.text_field, seed=arguments.seed
    ),
    num_pieces=arguments.num_pieces,
    character_coverage=arguments.character_coverage,
  )
  paths.write_bytes(arguments.output, model)


if __name__ == "__main__":
  main()
