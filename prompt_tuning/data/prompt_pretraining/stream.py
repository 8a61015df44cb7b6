"""Prompt pre-training as what a run reads: examples by number, without end."""

import dataclasses
import enum
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from prompt_tuning.data.features import Example, FeatureLengths
from prompt_tuning.data.patterns import LETTERS, PVP, Pattern
from prompt_tuning.data.prompt_pretraining import documents as documents_lib
from prompt_tuning.data.prompt_pretraining import examples as examples_lib
from prompt_tuning.data.prompt_pretraining.examples import Pool
from prompt_tuning.data.vocabularies import Vocabulary
from prompt_tuning.types import enum_member

_ORDER, _EXAMPLE, _SPLIT = range(3)
_MIN_SENTENCES, _MIN_TOKENS = 5, 5
_CHOICE = "{query}[?]{options}[?]The correct one is<X>"


class Split(enum.Enum):
  """Documents to train on, or those that are held out."""

  TRAIN = "train"
  VALIDATION = "validation"


class Format(enum.Enum):
  """What is asked: pairs, a choice of 6, or, unified, of 2 to 16."""

  PAIRS = "next_sentence_prediction"
  CHOICE = "next_sentence_selection"
  UNIFIED = "unified"


BUDGETS: Mapping[int, tuple[int, int]] = {
  **dict.fromkeys((2, 3, 4), (400, 50)),
  5: (400, 40),
  6: (300, 40),
  7: (250, 30),
  **dict.fromkeys((8, 9), (200, 30)),
  **dict.fromkeys(range(10, 17), (150, 20)),
}
"""Tokens of the query and of an option, by the number of options (unified)."""


def pair_of(form: Format, num_options: int = 6) -> PVP:
  """Returns the pattern and verbalizer of a format.

  Args:
    form: The format.
    num_options: Of the unified form.
  """
  if form is Format.PAIRS:
    return PVP(
      pattern=Pattern(text="{first}<X>{second}", gives_way="first"),
      verbalizer={word: word for word in ("no", "maybe", "yes")},
      ends=True,
    )
  query, option = (389, 86) if form is Format.CHOICE else BUDGETS[num_options]
  return PVP(
    pattern=Pattern(
      text=_CHOICE,
      budgets={"query": query, "options": option},
      gives_way="query",
      max_tokens=1024 if form is Format.CHOICE else 768,
    ),
    label_field="answer",
    verbalizer={letter: f"[{letter}]" for letter in LETTERS},
    options="options",
    ends=True,
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class PretrainingInputs:
  """Questions about running text, to pre-train a prompt on.

  Attributes:
    files: See `documents.read_documents`.
    cache: The folder of the sentences, written by the first run.
    form: What is asked.
    split: Which documents; validation has one in twenty, drawn by number.
    text_field: The field of a document's text.
    min_characters: Of a sentence that is asked about.
    num_workers: Processes that read the files; one for each core by default.
  """

  files: Sequence[str]
  cache: str
  form: Format | str
  split: Split | str = Split.TRAIN
  text_field: str = "text"
  min_characters: int = 5
  num_workers: int | None = None

  def __post_init__(self):
    for name, kind in (("form", Format), ("split", Split)):
      value = enum_member(
        kind, getattr(self, name), name=f"PretrainingInputs.{name}"
      )
      object.__setattr__(self, name, value)

  @property
  def name(self) -> str:
    """The format."""
    return Format(self.form).value

  @property
  def truncate_targets(self) -> bool:
    """A word is never cut."""
    return False

  def stream(
    self, vocabulary: Vocabulary, lengths: FeatureLengths, *, seed: int
  ) -> "PretrainingStream":
    """Returns endless questions.

    Raises:
      ValueError: A file is malformed, the cache is another's, or there are too
        few documents that are long enough.
    """
    del lengths  # A pattern has budgets of its own.
    documents = documents_lib.read_documents(
      self.files,
      vocabulary,
      self.cache,
      text_field=self.text_field,
      num_workers=self.num_workers,
    )
    return PretrainingStream(
      documents,
      form=Format(self.form),
      split=Split(self.split),
      vocabulary=vocabulary,
      min_characters=self.min_characters,
      seed=seed,
    )


class PretrainingStream:
  """Questions by number; see `ExampleStream`.

  An epoch begins once from each sentence that may be asked about.
  """

  examples: Sequence[Example] = ()
  is_in_memory = False
  length = None

  def __init__(
    self,
    documents: documents_lib.Documents,
    *,
    form: Format,
    split: Split,
    vocabulary: Vocabulary,
    min_characters: int = 5,
    seed: int,
  ):
    """Finds the sentences that may be asked about.

    Raises:
      ValueError: There are fewer than six documents that are long enough, or in
        them no sentence has such a one beside it.
    """
    self._form = form
    self._vocabulary = vocabulary
    self._seed = seed
    self._card = {
      "kind": "prompt pre-training",
      "documents": documents.fingerprint,
      "form": form.value,
      "split": split.value,
      "min_characters": min_characters,
      "seed": seed,
    }
    self._pool = _pool(documents, split, min_characters)
    self._first = _beginnings(self._pool)
    if not self._first.size:
      raise ValueError(
        f"no two sentences of {_MIN_TOKENS} tokens and {min_characters} "
        f"characters follow each other in {self._pool.kept.size} documents; "
        "give other text"
      )
    self._order = functools.lru_cache(maxsize=2)(self._draw_order)
    self._make = _maker(form)

  @property
  def examples_per_epoch(self) -> int:
    """Sentences that are begun from."""
    return self._first.size

  def fields(self, number: int) -> dict[str, Any]:
    """Returns question `number` as the fields of a pattern."""
    epoch, index = divmod(number, self._first.size)
    rng = np.random.default_rng([self._seed, _EXAMPLE, epoch, index])
    sentence = int(self._first[self._order(epoch)[index]])
    return self._make(self._pool, sentence, rng)

  def example(self, number: int) -> Example:
    """Returns question `number` as token ids."""
    fields = self.fields(number)
    pvp = pair_of(self._form, len(fields.get("options", ())) or 6)
    return pvp.example(fields, self._vocabulary, where=f"question {number}")

  def card(self) -> dict[str, Any]:
    """Returns the documents, the format, the split and the seed."""
    return dict(self._card)

  def _draw_order(self, epoch: int) -> np.ndarray:
    rng = np.random.default_rng([self._seed, _ORDER, epoch])
    return rng.permutation(self._first.size)


def _maker(form: Format) -> Callable[..., dict[str, Any]]:
  if form is Format.PAIRS:
    return examples_lib.next_sentence_prediction
  count = 6 if form is Format.CHOICE else None
  return examples_lib.next_sentence_selection(count)


def _beginnings(pool: Pool) -> np.ndarray:
  """Returns the allowed sentences that have an allowed one beside them."""
  ends = pool.documents.document_ends
  document = np.repeat(np.arange(ends.size), np.diff(ends, prepend=0))
  beside_next = (
    pool.allowed[:-1] & pool.allowed[1:] & (document[:-1] == document[1:])
  )
  beside = np.zeros(pool.allowed.size, bool)
  beside[:-1] |= beside_next
  beside[1:] |= beside_next
  return np.flatnonzero(beside)


def _pool(
  documents: documents_lib.Documents, split: Split, min_characters: int
) -> Pool:
  """Returns what may be asked about: of documents of five such sentences."""
  sizes = np.diff(documents.sentence_ends, prepend=0)
  allowed = (documents.token_counts >= _MIN_TOKENS) & (sizes >= min_characters)
  ends = documents.document_ends
  starts = np.concatenate([[0], ends[:-1]])
  counts = np.add.reduceat(allowed, starts)
  rng = np.random.default_rng(_SPLIT)
  is_held_out = rng.random(ends.size) < 0.05
  is_mine = is_held_out == (split is Split.VALIDATION)
  keeps = (counts >= _MIN_SENTENCES) & is_mine
  if keeps.sum() < 6:
    raise ValueError(
      f"{int(keeps.sum())} of {ends.size} documents are in the split "
      f"{split.value!r} and have {_MIN_SENTENCES} sentences of {_MIN_TOKENS} "
      f"tokens and {min_characters} characters; questions need 6, for wrong "
      "answers come from other documents"
    )
  allowed = allowed & np.repeat(keeps, ends - starts)
  return Pool(documents, allowed, kept=np.flatnonzero(keeps))
