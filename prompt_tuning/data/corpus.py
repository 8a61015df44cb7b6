"""Running text, tokenised once and memory-mapped from then on.

A corpus is one long row of token ids and the end of each document in it. On
disk it is a folder of `tokens.npy` (uint16 or uint32), `ends.npy` (int64) and
`card.json`, which says what it was made from.
"""

import dataclasses
import hashlib
import itertools
import json
import os
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any

import numpy as np

from prompt_tuning import paths
from prompt_tuning.data import sources, vocabularies
from prompt_tuning.data.tfds_records import TfdsSplit

_FORMAT = 1
# Bounds memory, and lets the vocabulary use all cores.
_DOCUMENTS_AT_A_TIME = 256


@dataclasses.dataclass(frozen=True)
class Corpus:
  """Tokenised documents, one after another.

  Attributes:
    tokens: [n] ids of all documents, without ends of sequence.
    ends: [num_documents] int64, where each document ends in `tokens`.
    card: What the corpus was made from, JSON-able.
  """

  tokens: np.ndarray
  ends: np.ndarray
  card: dict[str, Any]

  @classmethod
  def from_documents(
    cls, documents: Iterable[Sequence[int] | np.ndarray]
  ) -> "Corpus":
    """Holds tokenised documents in memory.

    Raises:
      ValueError: There is no token in all of them.
    """
    arrays = [np.asarray(document, np.uint32) for document in documents]
    arrays = [array for array in arrays if array.size]
    if not arrays:
      raise ValueError("a corpus needs at least one token, got none")
    tokens = np.concatenate(arrays)
    digest = hashlib.sha256(tokens.tobytes()).hexdigest()
    ends = np.cumsum([array.size for array in arrays], dtype=np.int64)
    return cls(tokens, ends, {"tokens_sha256": digest})

  @property
  def fingerprint(self) -> str:
    """A short digest of the card."""
    text = json.dumps(self.card, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def tokenize_corpus(
  files: Sequence[str | os.PathLike],
  vocabulary: vocabularies.Vocabulary,
  output: str | os.PathLike,
  *,
  text_field: str = "text",
) -> Corpus:
  """Tokenises files of documents into a folder, or opens what is there.

  The folder appears only when it is complete, under its name; an interrupted
  run leaves nothing there.

  Args:
    files: TSV or JSONL files of one document a line, see `sources`; or splits
      of TFDS, such as "tfds:c4/en:2.2.0@train", see `TfdsSplit`.
    vocabulary: Gives the ids.
    output: The local folder to write, or to open if it exists.
    text_field: The field that holds the text.

  Raises:
    ValueError: A file is malformed; or `output` was made from other files,
      another vocabulary or another field.
  """
  output = pathlib.Path(output)
  wanted = _wanted_card(files, vocabulary, text_field)
  if not output.exists():
    try:
      with paths.atomic_directory(output) as folder:
        _write(files, vocabulary, folder, wanted)
    except OSError:
      # Unless another process was first.
      if not output.exists():
        raise
  corpus = open_corpus(output)
  for key, value in wanted.items():
    if corpus.card.get(key) != value:
      raise ValueError(
        f"the tokenised corpus {str(output)!r} has {key} "
        f"{corpus.card.get(key)!r} where {value!r} was asked for; name another "
        "output, or remove the folder to tokenise again"
      )
  return corpus


def open_corpus(
  path: str | os.PathLike,
  *,
  vocabulary: vocabularies.Vocabulary | None = None,
) -> Corpus:
  """Maps a folder that `tokenize_corpus` wrote into memory.

  Args:
    path: The folder.
    vocabulary: The one that it must have been made with; None takes any.

  Raises:
    ValueError: The folder is missing, incomplete or inconsistent, or was made
      with another vocabulary.
  """
  path = pathlib.Path(path)
  try:
    card = json.loads((path / "card.json").read_text())
    tokens = np.load(path / "tokens.npy", mmap_mode="r")
    ends = np.load(path / "ends.npy")
  except (OSError, ValueError) as error:
    raise ValueError(
      f"{str(path)!r} is not a complete tokenised corpus ({error}); remove the "
      "folder and tokenise again"
    ) from error
  if tokens.size != card.get("num_tokens") or ends.size != card.get(
    "num_documents"
  ):
    raise ValueError(
      f"the tokenised corpus {str(path)!r} has {tokens.size} tokens in "
      f"{ends.size} documents where its card says {card.get('num_tokens')} in "
      f"{card.get('num_documents')}; remove the folder and tokenise again"
    )
  made_with = card.get("vocabulary")
  if vocabulary is not None and made_with != vocabulary.fingerprint:
    raise ValueError(
      f"the tokenised corpus {str(path)!r} was made with the vocabulary "
      f"{made_with!r}, and the model's is {vocabulary.fingerprint!r}; tokenise "
      "its files with that"
    )
  return Corpus(tokens, ends, card)


def _wanted_card(
  files: Sequence[str | os.PathLike],
  vocabulary: vocabularies.Vocabulary,
  text_field: str,
) -> dict[str, Any]:
  """Returns the part of the card that the arguments decide."""
  if not files:
    raise ValueError("a corpus needs at least one file, got none")
  return {
    "format": _FORMAT,
    "sources": [_source_card(file) for file in files],
    "text_field": text_field,
    "vocabulary": vocabulary.fingerprint,
  }


def _source_card(source: str | os.PathLike) -> dict[str, Any]:
  split = TfdsSplit.parse(str(source))
  if split is not None:
    return {"name": str(split)}  # Its version says what is in it.
  file = pathlib.Path(source)
  try:
    with file.open("rb") as stream:
      digest = hashlib.file_digest(stream, "sha256").hexdigest()
  except OSError as error:
    raise ValueError(f"cannot read {str(file)!r}: {error}") from error
  return {
    "name": file.name,
    "bytes": file.stat().st_size,
    "sha256": digest,
  }


def _write(
  files: Sequence[str | os.PathLike],
  vocabulary: vocabularies.Vocabulary,
  folder: pathlib.Path,
  wanted: dict[str, Any],
) -> None:
  """Fills a folder with the three files of a corpus."""
  is_small = vocabulary.vocab_size <= np.iinfo(np.uint16).max + 1
  dtype = np.dtype(np.uint16 if is_small else np.uint32)
  sizes: list[int] = []
  with (folder / "tokens.npy").open("wb") as file:
    _write_header(file, dtype, 0)
    for texts in _batched_texts(files, wanted["text_field"]):
      for ids in vocabulary.encode_batch(texts):
        if ids:
          file.write(np.asarray(ids, dtype).tobytes())
          sizes.append(len(ids))
    if not sizes:
      raise ValueError(f"no document of {[str(f) for f in files]} has a token")
    # The header leaves room for the number that was not known before.
    file.seek(0)
    _write_header(file, dtype, sum(sizes))
  np.save(folder / "ends.npy", np.cumsum(sizes, dtype=np.int64))
  counts = {"num_tokens": sum(sizes), "num_documents": len(sizes)}
  card = wanted | {"dtype": dtype.name} | counts
  paths.write_text(folder / "card.json", json.dumps(card, indent=2) + "\n")


def _write_header(file: IO[bytes], dtype: np.dtype, size: int) -> None:
  np.lib.format.write_array_header_1_0(
    file,
    {
      "descr": np.lib.format.dtype_to_descr(dtype),
      "fortran_order": False,
      "shape": (size,),
    },
  )


def _batched_texts(
  files: Sequence[str | os.PathLike], text_field: str
) -> Iterator[list[str]]:
  """Yields the texts of all files, a bounded number at a time."""
  records = itertools.chain.from_iterable(_records(str(f)) for f in files)
  while batch := list(itertools.islice(records, _DOCUMENTS_AT_A_TIME)):
    yield [_text(record, text_field) for record in batch]


def _records(source: str) -> Iterator[sources.Record]:
  split = TfdsSplit.parse(source)
  if split is None:
    yield from sources.read_documents(source)
    return
  for number, fields in enumerate(split.records(), start=1):
    yield sources.Record(fields, where=f"{source}, record {number}")


def _text(record: sources.Record, text_field: str) -> str:
  text = record[text_field]
  if not isinstance(text, str):
    raise ValueError(
      f"{record.where}: field {text_field!r} is {type(text).__name__}, not text"
    )
  return text
