"""Text examples from local TSV and JSONL files, plain or compressed.

A record is one line of a file: a line of TSV under the names of its header, or
a JSON object. An example is the text pair `inputs`, `targets` made from it. A
corpus may be plain text as well.
"""

import dataclasses
import gzip
import hashlib
import itertools
import json
import lzma
import pathlib
import string
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import IO, Any

import numpy as np

from prompt_tuning import paths
from prompt_tuning.data import vocabularies

Verbalizers = Mapping[Any, str] | Sequence[str]
"""The word of each label: by label, or by position for labels 0, 1, 2, ..."""

_COMPRESSIONS = {".gz": gzip.open, ".xz": lzma.open}
_SUFFIXES = ".tsv or .jsonl, optionally with .gz or .xz"
_NOT_ARCHIVED = (gzip.BadGzipFile, lzma.LZMAError, zlib.error, EOFError)


@dataclasses.dataclass(frozen=True)
class Record:
  """One line of a file.

  Attributes:
    fields: Its values by name; TSV values are strings.
    where: The file and the number of the line, to name in errors.
  """

  fields: Mapping[str, Any]
  where: str

  def __getitem__(self, name: str) -> Any:
    """Returns one field.

    Raises:
      ValueError: There is no such field, or it is null.
    """
    if self.fields.get(name) is None:
      state = "is null" if name in self.fields else "is missing"
      raise ValueError(
        f"{self.where}: field {name!r} {state}; the fields are "
        f"{sorted(self.fields)}"
      )
    return self.fields[name]


def read_records(
  path: str, *, field_names: Sequence[str] | None = None
) -> Iterator[Record]:
  """Reads the records of a TSV or JSONL file.

  Args:
    path: A file ending in .tsv or .jsonl, optionally with .gz or .xz.
    field_names: Names of the columns of a TSV file that has no header line; by
      default its first line is the header. Quotes are ordinary characters.

  Yields:
    One record a line.

  Raises:
    ValueError: The file cannot be read, is empty or has another suffix, or a
      line is malformed; the message names the file and the line.
  """
  path = str(path)
  suffixes = pathlib.PurePath(path).suffixes
  if suffixes and suffixes[-1] in _COMPRESSIONS:
    suffixes.pop()
  kind = suffixes[-1] if suffixes else ""
  if kind not in (".tsv", ".jsonl"):
    raise ValueError(f"cannot tell the format of {path!r}; use {_SUFFIXES}")
  if kind == ".jsonl" and field_names is not None:
    raise ValueError(
      f"{path!r} names its own fields; field_names is for TSV files"
    )
  lines = _lines(path)
  if kind == ".jsonl":
    records = _parse_jsonl(lines, path)
  else:
    records = _parse_tsv(lines, path, field_names)
  empty = True
  for record in records:
    empty = False
    yield record
  if empty:
    raise ValueError(f"{path!r} holds no records")


def read_documents(path: str) -> Iterator[Record]:
  """Reads a corpus: the records of a file, or the documents of plain text.

  Args:
    path: As of `read_records`; or a file ending in .txt, optionally with .gz or
      .xz, whose documents stand apart by empty lines. They have one field,
      `text`.

  Yields:
    One record a document, in order.

  Raises:
    ValueError: As `read_records`.
  """
  name = pathlib.PurePath(path)
  if name.suffix in _COMPRESSIONS:
    name = name.with_suffix("")
  if name.suffix != ".txt":
    yield from read_records(path)
    return
  empty = True
  for record in _parse_text(_lines(str(path)), str(path)):
    empty = False
    yield record
  if empty:
    raise ValueError(f"{str(path)!r} holds no text")


def digest(*columns: Iterable[str]) -> str:
  """Returns a short digest of columns of text."""
  sha = hashlib.sha256()
  for column in columns:
    for text in column:
      sha.update(text.encode() + b"\0")
    sha.update(b"\0")
  return sha.hexdigest()[:16]


def examples_from(
  path: str,
  *,
  inputs: str,
  targets: str,
  verbalizers: Verbalizers | None = None,
  prompt_index: str | None = None,
  field_names: Sequence[str] | None = None,
) -> Iterator[dict[str, Any]]:
  """Reads text examples.

  Args:
    path: A TSV or JSONL file, see `read_records`.
    inputs: Text of the input with fields in braces, such as
      `"{question} {passage}"`.
    targets: Text of the target likewise; with `verbalizers`, the name of the
      field that holds the label.
    verbalizers: The word of each label.
    prompt_index: Name of the field that says which prompt of a bank the example
      takes, counted from 0; None for examples that name none.
    field_names: Names of the columns of a TSV file without a header.

  Yields:
    `inputs` and `targets`, strings, and `prompt_index`, a number, if asked for.

  Raises:
    ValueError: As `read_records`; or a record lacks a field; or its label has
      no verbalizer; or its number of a prompt is none.
  """
  _check_template(inputs)
  if verbalizers is None and targets:
    _check_template(targets)
  for record in read_records(path, field_names=field_names):
    if verbalizers is None:
      target = _format(targets, record)
    else:
      target = verbalize(
        record[targets], verbalizers=verbalizers, where=record.where
      )
    example: dict[str, Any] = {
      "inputs": _format(inputs, record),
      "targets": target,
    }
    if prompt_index is not None:
      example["prompt_index"] = _whole_number(record, prompt_index)
    yield example


def verbalize(
  label: Any, *, verbalizers: Verbalizers, where: str = "an example"
) -> str:
  """Returns the word of a label.

  Labels are compared as text, so that 1 in JSONL and "1" in TSV are one label.

  Args:
    label: The label, such as 1, "1" or "entailment".
    verbalizers: The word of each label.
    where: What to call the example in an error.

  Raises:
    ValueError: The label has no verbalizer.
  """
  if isinstance(verbalizers, str):
    raise ValueError(
      f"verbalizers must be a list or mapping of words, got {verbalizers!r}"
    )
  if not isinstance(verbalizers, Mapping):
    verbalizers = dict(enumerate(verbalizers))
  words = {_label_text(key): word for key, word in verbalizers.items()}
  if _label_text(label) not in words:
    raise ValueError(
      f"{where}: label {label!r} has no verbalizer; the labels are {words}"
    )
  return words[_label_text(label)]


def tokenize_examples(
  examples: Iterable[Mapping[str, Any]], vocabulary: vocabularies.Vocabulary
) -> Iterator[dict[str, Any]]:
  """Tokenises text examples and appends the end of sequence.

  Args:
    examples: Mappings with the strings `inputs` and `targets`; anything else in
      them, such as `prompt_index`, is kept.
    vocabulary: Gives the ids.

  Yields:
    The example with int32 `inputs` and `targets`, their text under
    `inputs_pretokenized` and `targets_pretokenized`.
  """
  for example in examples:
    tokenized = dict(example)
    for key in ("inputs", "targets"):
      ids = [*vocabulary.encode(example[key]), vocabulary.eos_id]
      tokenized[key] = np.asarray(ids, np.int32)
      tokenized[f"{key}_pretokenized"] = example[key]
    yield tokenized


def _lines(path: str) -> Iterator[str]:
  """Yields the lines of a file without their ends."""
  decompress = _COMPRESSIONS.get(pathlib.PurePath(path).suffix)
  number = 0
  try:
    with paths.open_file(path, "rb") as file:
      stream: IO[bytes] = decompress(file) if decompress else file
      # Bytes are split at "\n" alone; text may hold other line separators.
      for line in stream:
        number += 1
        yield line.decode("utf-8").rstrip("\r\n")
  except _NOT_ARCHIVED as error:
    raise ValueError(
      f"{path!r} is truncated or not compressed as its name says, after line "
      f"{number}: {error}"
    ) from error
  except UnicodeDecodeError as error:
    raise ValueError(
      f"{path!r} is not UTF-8 text in line {number}: {error}"
    ) from error
  except OSError as error:
    raise ValueError(f"cannot read {path!r}: {error}") from error


def _parse_text(lines: Iterator[str], path: str) -> Iterator[Record]:
  first, found = 0, list[str]()
  for number, line in enumerate(itertools.chain(lines, [""]), start=1):
    if line.strip():
      first = first or number
      found.append(line)
    elif found:
      where = f"{path}, line {first}"
      yield Record({"text": "\n".join(found)}, where=where)
      first, found = 0, []


def _parse_jsonl(lines: Iterator[str], path: str) -> Iterator[Record]:
  for number, line in enumerate(lines, start=1):
    where = f"{path}, line {number}"
    try:
      fields = json.loads(line)
    except json.JSONDecodeError as error:
      raise ValueError(f"{where}: not JSON: {error}") from error
    if not isinstance(fields, dict):
      raise ValueError(
        f"{where}: expected a JSON object, got {type(fields).__name__}"
      )
    yield Record(fields, where)


def _parse_tsv(
  lines: Iterator[str], path: str, field_names: Sequence[str] | None
) -> Iterator[Record]:
  start = 1
  if field_names is None:
    field_names = next(lines, "").split("\t")
    start = 2
  for number, line in enumerate(lines, start=start):
    where = f"{path}, line {number}"
    values = line.split("\t")
    if len(values) != len(field_names):
      raise ValueError(
        f"{where}: {len(values)} columns where the fields are "
        f"{list(field_names)}"
      )
    yield Record(dict(zip(field_names, values, strict=True)), where)


def _check_template(template: str) -> None:
  """Checks that a template has a field, so that it is no constant text."""
  try:
    pieces = list(string.Formatter().parse(template))
  except ValueError as error:
    raise ValueError(f"the text {template!r} is malformed: {error}") from error
  if not any(field for _, field, _, _ in pieces):
    raise ValueError(
      f"the text {template!r} has no field in braces, so it would be the same "
      f"for every example; did you mean {'{' + template + '}'!r}?"
    )
  if any(spec or conversion for _, _, spec, conversion in pieces):
    raise ValueError(
      f"the text {template!r} has a format or conversion, which is not known "
      "here; write {{ and }} for braces"
    )


def _format(template: str, record: Record) -> str:
  """Fills the fields of a record into a template."""
  text = []
  for words, field, _, _ in string.Formatter().parse(template):
    text.append(words)
    if field is not None:
      value = record[field]
      if isinstance(value, list | dict):
        raise ValueError(
          f"{record.where}: field {field!r} is a {type(value).__name__}, not "
          "text or a number"
        )
      text.append(str(value))
  return "".join(text)


def _whole_number(record: Record, field: str) -> int:
  """Returns a field that counts from 0; TSV gives it as text."""
  text = str(record[field])
  if not (text.isascii() and text.isdecimal()):
    raise ValueError(
      f"{record.where}: field {field!r} must be the number of a prompt, 0, 1, "
      f"2, ..., got {record[field]!r}"
    )
  return int(text)


def _label_text(label: Any) -> str:
  # JSON's true and TSV's true are one label as well.
  return str(label).lower() if isinstance(label, bool) else str(label)
