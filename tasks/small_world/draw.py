"""Seeded choices that keep the held-out combinations apart.

A *combination* is a pair of words that meet in one statement: a part of a film
and the adjective said of it, a person and her town, a thing and a property. One
combination in eight is reserved. Reserved combinations never occur in the
corpus nor in the training split of a task, and every validation example of a
task holds at least one, so that validation asks for what was never seen.
"""

import functools
import random
import zlib
from collections.abc import Sequence

TRAIN = "train"
VALIDATION = "validation"
SPLITS = (TRAIN, VALIDATION)

_ONE_IN = 8


@functools.cache
def held_out(first: str, second: str) -> bool:
  """Says whether two words form a combination reserved for validation.

  Args:
    first: one word (or phrase); the order of the two does not matter.
    second: the other one.

  Returns:
    True for one pair in eight, fixed for ever by a checksum of the words.
  """
  low, high = sorted((first, second))
  return zlib.crc32(f"{low}|{high}".encode()) % _ONE_IN == 0


class Draw:
  """A stream of random choices for one split.

  Attributes:
    rng: the source of every choice.
    split: "train" avoids held-out combinations, "validation" seeks them.
    reserved: how many held-out combinations were drawn so far.
  """

  def __init__(self, seed: int | str, split: str):
    """Starts the stream.

    Args:
      seed: same seed and split, same choices.
      split: "train" or "validation".

    Raises:
      ValueError: for another split.
    """
    if split not in SPLITS:
      raise ValueError(
        f"split: expected one of {', '.join(SPLITS)}, got {split!r}."
      )
    self.rng = random.Random(f"small world/{split}/{seed}")
    self.split = split
    self.reserved = 0

  def chance(self, probability: float) -> bool:
    """Returns True with this probability (a fraction)."""
    return self.rng.random() < probability

  def one(self, options: Sequence[str]) -> str:
    """Returns one of the options, each as likely as the others."""
    return options[int(self.rng.random() * len(options))]

  def some(self, options: Sequence[str], count: int) -> list[str]:
    """Returns `count` different options in random order."""
    return self.rng.sample(options, count)

  def beside(self, word: str, options: Sequence[str]) -> str:
    """Returns an option that may meet `word` in a statement of this split.

    Args:
      word: the word already chosen.
      options: what may be combined with it.

    Returns:
      In training an option whose combination with `word` is not held out; in
      validation a held-out one half of the time.
    """
    if self.split == VALIDATION:
      rare = [option for option in options if held_out(word, option)]
      if rare and self.chance(0.5):
        self.reserved += 1
        return self.one(rare)
    while True:
      option = self.one(options)
      if not held_out(word, option):
        return option
      if self.split == VALIDATION:
        self.reserved += 1
        return option

  def permits(self, first: str, second: str) -> bool:
    """Says whether a combination chosen elsewhere may be used; counts it."""
    if not held_out(first, second):
      return True
    if self.split == VALIDATION:
      self.reserved += 1
      return True
    return False
