"""Prompt pre-training as what a run reads: examples by number, without end."""

import dataclasses
import enum
import functools
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from prompt_tuning.data import sources
from prompt_tuning.data.features import Example, FeatureLengths
from prompt_tuning.data.prompt_pretraining import documents as documents_lib
from prompt_tuning.data.prompt_pretraining import examples as examples_lib
from prompt_tuning.data.prompt_pretraining.examples import Pool
from prompt_tuning.data.prompt_pretraining.wording import (
  BUDGETS,
  Format,
  Wording,
)
from prompt_tuning.data.vocabularies import Vocabulary
from prompt_tuning.types import enum_member

_ORDER, _EXAMPLE, _SPLIT = range(3)
_TRIES = 20
_MIN_SENTENCES, _MIN_TOKENS, _MAX_TOKENS = 5, 5, 512


class Split(enum.Enum):
  """Documents to train on, or those that are held out."""

  TRAIN = "train"
  VALIDATION = "validation"


@dataclasses.dataclass(frozen=True, kw_only=True)
class PretrainingInputs:
  """Questions about running text, to pre-train a prompt on.

  Attributes:
    files: See `documents.read_documents`.
    cache: The folder of the sentences, written by the first run.
    form: What is asked.
    wording: In which words.
    num_options: How many options a choice may have, each as often; by default
      the format's.
    split: Which documents; validation has one in twenty, drawn by number.
    text_field: The field of a document's text.
    min_characters: Of a sentence that is asked about, in bytes of UTF-8; by
      default 5 of pairs and 10 of choices.
    num_workers: Processes that read the files; one for each core by default.
  """

  files: Sequence[str]
  cache: str
  form: Format | str
  wording: Wording = dataclasses.field(default_factory=Wording)
  num_options: Sequence[int] | None = None
  split: Split | str = Split.TRAIN
  text_field: str = "text"
  min_characters: int | None = None
  num_workers: int | None = None

  def __post_init__(self):
    for name, kind in (("form", Format), ("split", Split)):
      value = enum_member(
        kind, getattr(self, name), name=f"PretrainingInputs.{name}"
      )
      object.__setattr__(self, name, value)
    if self.form is Format.SENTENCE:
      raise ValueError(
        "PretrainingInputs.form is 'sentence_classification', which needs a "
        "labeller; take PseudoLabelInputs (runs/prompt_pretrain_sentences.gin)"
      )

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
    self._check_words(vocabulary)
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
      wording=self.wording,
      num_options=self.num_options,
      split=Split(self.split),
      vocabulary=vocabulary,
      min_characters=self._min_characters,
      max_tokens=lengths.inputs,
      seed=seed,
    )

  def check(self, vocabulary: Vocabulary, lengths: FeatureLengths) -> None:
    """Checks what shows before the text is cut into sentences.

    Raises:
      ValueError: A file cannot be read, or the vocabulary cannot write the
        wording.
    """
    del lengths
    self._check_words(vocabulary)
    for file in self.files:
      next(sources.read_documents(file))

  @property
  def _min_characters(self) -> int:
    if self.min_characters is not None:
      return self.min_characters
    return 5 if self.form is Format.PAIRS else 10

  def _check_words(self, vocabulary: Vocabulary) -> None:
    form = Format(self.form)
    for count in counts_of(form, self.num_options):
      self.wording.pvp(form, count).check(vocabulary)


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
    wording: Wording,
    num_options: Sequence[int] | None = None,
    split: Split,
    vocabulary: Vocabulary,
    min_characters: int,
    max_tokens: int,
    seed: int,
  ):
    """Finds the sentences that may be asked about.

    Raises:
      ValueError: There are fewer than six documents that are long enough, or in
        them no sentence has such a one beside it.
    """
    self._vocabulary = vocabulary
    self._seed = seed
    described = {
      "kind": "prompt pre-training",
      "documents": documents.fingerprint,
      "form": form.value,
      "wording": dataclasses.asdict(wording),
      "num_options": list(counts_of(form, num_options)),
      "split": split.value,
      "min_characters": min_characters,
      "seed": seed,
    }
    # As a checkpoint gives it back: lists for tuples.
    self._card = json.loads(json.dumps(described))
    self._pool = _pool(documents, split, min_characters)
    self._first = _beginnings(self._pool)
    if not self._first.size:
      raise ValueError(
        f"no two sentences of {_MIN_TOKENS} tokens and {min_characters} "
        f"characters follow each other in {self._pool.kept.size} documents; "
        "give other text"
      )
    self._order = functools.lru_cache(maxsize=2)(self._draw_order)
    self._make = _maker(form, num_options)
    self._pvp = functools.cache(
      functools.partial(wording.pvp, form, max_tokens=max_tokens)
    )

  @property
  def examples_per_epoch(self) -> int:
    """Sentences that are begun from."""
    return self._first.size

  def fields(self, number: int) -> dict[str, Any]:
    """Returns question `number` as the fields of a pattern."""
    epoch, index = divmod(number, self._first.size)
    rng = np.random.default_rng([self._seed, _EXAMPLE, epoch, index])
    sentence = int(self._first[self._order(epoch)[index]])
    # A sentence that nothing can be asked about gives way to another.
    for _ in range(_TRIES - 1):
      try:
        return self._make(self._pool, sentence, rng)
      except examples_lib.NoQuestion:
        sentence = int(rng.choice(self._first))
    return self._make(self._pool, sentence, rng)

  def example(self, number: int) -> Example:
    """Returns question `number` as token ids."""
    fields = self.fields(number)
    pvp = self._pvp(len(fields.get("options", ())))
    return pvp.example(fields, self._vocabulary, where=f"question {number}")

  def card(self) -> dict[str, Any]:
    """Returns the documents, the format, the split and the seed."""
    return dict(self._card)

  def _draw_order(self, epoch: int) -> np.ndarray:
    rng = np.random.default_rng([self._seed, _ORDER, epoch])
    return rng.permutation(self._first.size)


def counts_of(form: Format, num_options: Sequence[int] | None) -> Sequence[int]:
  """Returns how many options questions of a format have; 0 if they are pairs.

  Args:
    form: The format.
    num_options: What was asked for, None for the format's own.
  """
  if form is Format.PAIRS:
    return (0,)
  if num_options is not None:
    return tuple(num_options)
  return (6,) if form is Format.CHOICE else tuple(BUDGETS)


def _maker(
  form: Format, num_options: Sequence[int] | None
) -> Callable[..., dict[str, Any]]:
  if form is Format.PAIRS:
    return examples_lib.next_sentence_prediction
  return examples_lib.next_sentence_selection(counts_of(form, num_options))


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
  counts = documents.token_counts
  # What is longer is a list or a table rather than a sentence, and fits no row.
  allowed = (counts >= _MIN_TOKENS) & (counts <= _MAX_TOKENS)
  allowed &= sizes >= min_characters
  ends = documents.document_ends
  starts = np.concatenate([[0], ends[:-1]])
  kept = np.add.reduceat(allowed, starts)
  is_held_out = np.random.default_rng(_SPLIT).random(ends.size) < 0.05
  is_mine = is_held_out == (split is Split.VALIDATION)
  keeps = (kept >= _MIN_SENTENCES) & is_mine
  if keeps.sum() < 6:
    raise ValueError(
      f"{int(keeps.sum())} of {ends.size} documents are in the split "
      f"{split.value!r} and have {_MIN_SENTENCES} sentences of {_MIN_TOKENS} "
      f"tokens and {min_characters} characters; questions need 6, for wrong "
      "answers come from other documents"
    )
  allowed = allowed & np.repeat(keeps, ends - starts)
  return Pool(documents, allowed, kept=np.flatnonzero(keeps))
