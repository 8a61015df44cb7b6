"""Documents as sentences, read once and memory-mapped from then on.

Any sentence is found by its number, so that an example may take sentences from
anywhere in a corpus of any size. On disk it is a folder of `text.bin`, the
sentences in UTF-8 one after another; `sentences.npy`, where each ends there;
`tokens.npy`, how many tokens each has; `documents.npy`, the number of sentences
up to the end of each document; and `card.json`, what it was made from.
"""

import dataclasses
import functools
import hashlib
import itertools
import json
import os
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from absl import logging

from prompt_tuning import paths
from prompt_tuning.data import sources
from prompt_tuning.data.prompt_pretraining import parallel
from prompt_tuning.data.prompt_pretraining import sentences as sentences_lib
from prompt_tuning.data.vocabularies import Vocabulary

_FORMAT = 1
_DOCUMENTS_AT_A_TIME = 256
_LONGEST = 5_000_000
_MOST_TOKENS = np.iinfo(np.uint16).max


@dataclasses.dataclass(frozen=True)
class Documents:
  """Sentences of documents, by number.

  Attributes:
    text: Bytes of all sentences.
    sentence_ends: [S] int64, where each ends in `text`.
    token_counts: [S] uint16, tokens of each.
    document_ends: [D] int64, where each ends among the sentences.
    card: What they were made from, JSON-able.
  """

  text: np.ndarray
  sentence_ends: np.ndarray
  token_counts: np.ndarray
  document_ends: np.ndarray
  card: dict[str, Any]

  @property
  def fingerprint(self) -> str:
    """A short digest of the card."""
    text = json.dumps(self.card, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]

  def sentence(self, number: int) -> str:
    """Returns the text of a sentence."""
    start = int(self.sentence_ends[number - 1]) if number else 0
    return bytes(self.text[start : self.sentence_ends[number]]).decode()

  def document_of(self, number: int) -> int:
    """Returns the document of a sentence."""
    return int(np.searchsorted(self.document_ends, number, side="right"))

  def sentences_of(self, document: int) -> tuple[int, int]:
    """Returns the first sentence of a document, and the one behind its last."""
    start = int(self.document_ends[document - 1]) if document else 0
    return start, int(self.document_ends[document])


def read_documents(
  files: Sequence[str],
  vocabulary: Vocabulary,
  output: str | os.PathLike,
  *,
  text_field: str = "text",
  num_workers: int | None = None,
) -> Documents:
  """Reads files of documents into a folder, or opens what is there.

  The folder appears only when it is complete.

  Args:
    files: TSV or JSONL files of one document a line, or plain text, see
      `sources.read_documents`. The text of one is a string, which is cut into
      sentences, or in JSONL a list of them.
    vocabulary: Counts tokens.
    output: The local folder.
    text_field: The field that holds the text.
    num_workers: Processes that cut and count; one for each core by default.
      What comes out does not depend on it.

  Raises:
    ValueError: A file is malformed, no document is left, or `output` was made
      from other files or with another vocabulary.
  """
  output = pathlib.Path(output)
  wanted = {
    "format": _FORMAT,
    "sources": [_source(file) for file in files],
    "text_field": text_field,
    "vocabulary": vocabulary.fingerprint,
  }
  if not output.exists():
    try:
      with paths.atomic_directory(output) as folder:
        _write(files, vocabulary, folder, wanted, num_workers=num_workers)
    except OSError:
      if not output.exists():
        raise
      logging.info("Another process has written %s first.", output)
  documents = open_documents(output)
  for key, value in wanted.items():
    if documents.card.get(key) != value:
      raise ValueError(
        f"the sentences in {str(output)!r} have {key} "
        f"{documents.card.get(key)!r} where {value!r} was asked for; name "
        "another folder, or remove this one"
      )
  return documents


def open_documents(path: str | os.PathLike) -> Documents:
  """Maps a folder that `read_documents` wrote into memory.

  Raises:
    ValueError: The folder is missing or incomplete.
  """
  path = pathlib.Path(path)
  try:
    return Documents(
      text=np.memmap(path / "text.bin", np.uint8, mode="r"),
      sentence_ends=np.load(path / "sentences.npy", mmap_mode="r"),
      token_counts=np.load(path / "tokens.npy", mmap_mode="r"),
      document_ends=np.load(path / "documents.npy"),
      card=json.loads((path / "card.json").read_text()),
    )
  except (OSError, ValueError) as error:
    raise ValueError(
      f"{str(path)!r} holds no complete sentences ({error}); remove the folder "
      "and read the files again"
    ) from error


def _write(
  files: Sequence[str],
  vocabulary: Vocabulary,
  folder: pathlib.Path,
  wanted: dict[str, Any],
  *,
  num_workers: int | None,
) -> None:
  # In the order of the files, whatever the number of processes.
  ends: list[np.ndarray] = []
  tokens: list[np.ndarray] = []
  documents: list[int] = []
  written = 0
  with (folder / "text.bin").open("wb") as file:
    for cut in _cut_all(
      _texts(files, wanted["text_field"]), vocabulary, num_workers
    ):
      for encoded, counts in cut:
        file.write(b"".join(encoded))
        sizes = np.cumsum([len(each) for each in encoded], dtype=np.int64)
        ends.append(written + sizes)
        written += int(sizes[-1])
        tokens.append(np.asarray(counts, np.uint16))
        documents.append(len(counts))
  if not documents:
    raise ValueError(f"no document of {list(files)} has a sentence")
  np.save(folder / "sentences.npy", np.concatenate(ends))
  np.save(folder / "tokens.npy", np.concatenate(tokens))
  np.save(folder / "documents.npy", np.cumsum(documents, dtype=np.int64))
  paths.write_text(folder / "card.json", json.dumps(wanted, indent=2) + "\n")


_Cut = list[tuple[list[bytes], list[int]]]


def _cut_all(
  texts: Iterator[Any], vocabulary: Vocabulary, num_workers: int | None
) -> Iterator[_Cut]:
  """Yields the sentences of some documents at a time, in order."""
  batches = iter(
    lambda: list(itertools.islice(texts, _DOCUMENTS_AT_A_TIME)), []
  )
  cut = functools.partial(_cut, vocabulary=vocabulary)
  return parallel.ordered_map(cut, batches, num_workers=num_workers)


def _cut(texts: Iterable[Any], *, vocabulary: Vocabulary) -> _Cut:
  """Returns sentences and token counts of documents that have any."""
  found: _Cut = []
  for text in texts:
    sentences = text if isinstance(text, list) else sentences_lib.split(text)
    sentences = [s.strip() for s in sentences if s.strip()]
    if not sentences:
      continue
    counts = [
      min(len(ids), _MOST_TOKENS) for ids in vocabulary.encode_batch(sentences)
    ]
    found.append(([sentence.encode() for sentence in sentences], counts))
  return found


def _texts(files: Sequence[str], text_field: str) -> Iterator[Any]:
  for file in files:
    for record in sources.read_documents(file):
      text = record[text_field]
      is_list = isinstance(text, list) and all(isinstance(s, str) for s in text)
      if not is_list and not isinstance(text, str):
        raise ValueError(
          f"{record.where}: field {text_field!r} is {type(text).__name__}, no "
          "text and no list of sentences"
        )
      if sum(map(len, text)) <= _LONGEST:
        yield text
      else:
        logging.warning(
          "%s: left out, a document of over %d characters.",
          *(record.where, _LONGEST),
        )


def _source(file: str) -> dict[str, Any]:
  try:
    state = os.stat(file)
    digest = _digest(file, state.st_size, state.st_mtime_ns)
  except OSError as error:
    raise ValueError(f"cannot read {file!r}: {error}") from error
  return {"name": os.path.basename(file), "sha256": digest}


@functools.lru_cache(maxsize=1024)
def _digest(file: str, size: int, changed: int) -> str:
  """Returns the digest of a file, once for as long as it stays as it is."""
  del size, changed
  with open(file, "rb") as stream:
    return hashlib.file_digest(stream, "sha256").hexdigest()
