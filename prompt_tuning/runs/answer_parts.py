"""Lines of a file that are written part by part as they come to be known.

A run that ends before the file is complete leaves its parts beside it, in
`<file>.parts`, and the same run goes on from there. What the parts belong to is
told by a card, so that those of another run are not taken.
"""

import collections
import json
from collections.abc import Iterator, Mapping
from typing import IO, Any

import jax
import numpy as np
from absl import logging
from jax.experimental import multihost_utils

from prompt_tuning import paths

_CARD = "card.json"
_MOST_OPEN = 64


class AnswerParts:
  """The lines of one file, by number; with several processes the first writes.

  Attributes:
    num_parts: How many parts an interrupted run has left.
  """

  def __init__(
    self, output: paths.PathLike, card: Mapping[str, Any], *, num_lines: int
  ):
    """Looks for the parts of an interrupted run.

    Args:
      output: The file that is written in the end.
      card: What decides its lines, JSON-able.
      num_lines: How many there are.

    Raises:
      ValueError: There are parts of another run.
    """
    self._output = paths.as_path(output)
    self._folder = self._output.with_name(f"{self._output.name}.parts")
    # As a file gives it back: lists for tuples.
    self._card = json.loads(json.dumps({**card, "num_lines": num_lines}))
    self._is_first = jax.process_index() == 0
    # By number: the part of each line, and where it begins there.
    self._part = np.full(num_lines, -1, np.int32)
    self._start = np.zeros(num_lines, np.int64)
    self._length = np.zeros(num_lines, np.int64)
    self.num_parts = self._find() if self._is_first else 0
    if jax.process_count() > 1:
      found = multihost_utils.broadcast_one_to_all(np.int32(self.num_parts))
      self.num_parts = int(found)
    if self.num_parts:
      logging.info(
        "Goes on from %s: %d of %d lines are there.",
        *(self._folder, int((self._part >= 0).sum()), num_lines),
      )

  def add(self, lines: Mapping[int, str]) -> None:
    """Writes the next part.

    Args:
      lines: By their numbers, without an end.
    """
    number = self.num_parts
    self.num_parts += 1
    if not self._is_first:
      return
    if not number:
      # What a card of nobody lies beside is nobody's.
      paths.delete_dir(self._folder)
      paths.make_writable_dir(self._folder)
      text = json.dumps(self._card, indent=2) + "\n"
      paths.write_text(self._folder / _CARD, text)
    # A line begins with its number.
    data = b"".join(f"{n}\t{line}\n".encode() for n, line in lines.items())
    paths.write_bytes(self._path(number), data)
    self._note(number, data)

  def finish(self) -> None:
    """Puts the lines in order into the file, and removes the parts.

    Raises:
      ValueError: A line is missing.
    """
    if not self._is_first:
      return
    missing = np.flatnonzero(self._part < 0)
    if missing.size:
      raise ValueError(
        f"{self._output}: {missing.size} lines are in no part, the first of "
        f"them {missing[0]}; remove {self._folder} and begin again"
      )
    paths.write_chunks(self._output, self._in_order())
    paths.delete_dir(self._folder)

  def _in_order(self) -> Iterator[bytes]:
    # Few at a time: a process may not open as many files as there are parts.
    opened = collections.OrderedDict[int, IO[bytes]]()
    try:
      for part, start, length in zip(
        self._part.tolist(), self._start, self._length, strict=True
      ):
        if part not in opened:
          if len(opened) == _MOST_OPEN:
            opened.popitem(last=False)[1].close()
          opened[part] = paths.open_file(self._path(part), "rb")
        file = opened[part]
        if file.tell() != start:
          file.seek(int(start))
        yield file.read(int(length))
    finally:
      for file in opened.values():
        file.close()

  def _find(self) -> int:
    """Reads what is there; returns the number of parts."""
    if not paths.exists(self._folder / _CARD):
      return 0
    card = json.loads(paths.read_text(self._folder / _CARD))
    differing = sorted(
      key
      for key in {*card, *self._card}
      if card.get(key) != self._card.get(key)
    )
    if differing:
      lines = "".join(
        f"\n  {key}: {card.get(key)} -> {self._card.get(key)}"
        for key in differing
      )
      raise ValueError(
        f"{self._folder} holds parts of another run (there -> here):{lines}\n"
        "Undo the changes to go on from there, remove the folder, or name "
        "another file."
      )
    number = 0
    while paths.exists(self._path(number)):
      self._note(number, paths.read_bytes(self._path(number)))
      number += 1
    return number

  def _note(self, part: int, data: bytes) -> None:
    """Notes where the lines of a part are.

    Raises:
      ValueError: The part is not whole.
    """
    if not data.endswith(b"\n"):
      raise ValueError(
        f"{self._path(part)} is cut off; remove {self._folder} and begin again"
      )
    place = 0
    for line in data.splitlines(keepends=True):
      name, _, text = line.partition(b"\t")
      number = int(name)
      self._part[number] = part
      self._start[number] = place + len(name) + 1
      self._length[number] = len(text)
      place += len(line)

  def _path(self, part: int) -> Any:
    return self._folder / f"{part:06d}.tsv"
