"""Sentences that a labeller has judged, as questions about single sentences.

The third format of Gu et al. (2022, sec. 3.2). A labeller is a classifier of
another task, there of reviews with one to five stars: this project's own by
model tuning and `SentenceInputs`, or any that writes a file of labels.
"""

import collections
import dataclasses
import functools
import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, overload

import numpy as np
from absl import logging

from prompt_tuning.data import patterns, sources
from prompt_tuning.data.features import WHOLE, Example, FeatureLengths
from prompt_tuning.data.patterns import PVP, Pattern
from prompt_tuning.data.prompt_pretraining import documents as documents_lib
from prompt_tuning.data.prompt_pretraining.stream import Split
from prompt_tuning.data.prompt_pretraining.wording import STARS, Format, Wording
from prompt_tuning.data.vocabularies import Vocabulary
from prompt_tuning.types import enum_member

_ORDER = 0
_MIN_TOKENS, _MAX_TOKENS = 5, 256
THRESHOLDS: Mapping[str, float] = dict(
  zip(STARS, (0.95, 0.5, 0.5, 0.5, 0.7), strict=True)
)
"""Above which a label is believed, by its word."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SentenceInputs:
  """The sentences of documents, for a labeller to judge.

  Attributes:
    files: See `documents.read_documents`.
    cache: The folder of the sentences, written by the first run.
    pattern: The labeller's, of `{sentence}`.
    text_field: The field of a document's text.
    num_sentences: How many are drawn; None takes all.
    max_tokens: Of a row without its end; of a longer one the sentence is cut.
    seed: Decides which.
    num_workers: Processes that read the files; one for each core by default.
  """

  files: Sequence[str]
  cache: str
  pattern: str = "{sentence}<X>"
  text_field: str = "text"
  num_sentences: int | None = None
  max_tokens: int = 512
  seed: int = 0
  num_workers: int | None = None

  @property
  def name(self) -> str:
    """What to call them in a log."""
    return "sentences"

  def examples(self, vocabulary: Vocabulary) -> Sequence[Example]:
    """Returns the sentences in their order, those of 5 to 256 tokens.

    They are cut out of the text when they are asked for.

    Raises:
      ValueError: A file is malformed, the cache is another's, or no sentence is
        left.
    """
    documents = documents_lib.read_documents(
      self.files,
      vocabulary,
      self.cache,
      text_field=self.text_field,
      num_workers=self.num_workers,
    )
    counts = documents.token_counts
    numbers = np.flatnonzero((counts >= _MIN_TOKENS) & (counts <= _MAX_TOKENS))
    if not numbers.size:
      raise ValueError(
        f"no sentence of {list(self.files)} has {_MIN_TOKENS} to {_MAX_TOKENS} "
        "tokens; give other text"
      )
    if self.num_sentences is not None and self.num_sentences < numbers.size:
      rng = np.random.default_rng(self.seed)
      drawn = rng.choice(numbers, self.num_sentences, replace=False)
      numbers = np.sort(drawn)
    pattern = Pattern(
      text=self.pattern, gives_way="sentence", max_tokens=self.max_tokens
    )
    return _Sentences(documents, numbers, pattern, vocabulary)


class _Sentences(Sequence[Example]):
  """Rows of sentences, made when they are asked for: a corpus may be large."""

  def __init__(
    self,
    documents: documents_lib.Documents,
    numbers: np.ndarray,
    pattern: Pattern,
    vocabulary: Vocabulary,
  ):
    self._documents, self._numbers = documents, numbers
    self._pattern, self._vocabulary = pattern, vocabulary

  def __len__(self) -> int:
    return self._numbers.size

  @overload
  def __getitem__(self, index: int) -> Example: ...

  @overload
  def __getitem__(self, index: slice) -> Sequence[Example]: ...

  def __getitem__(self, index: int | slice) -> Example | Sequence[Example]:
    if isinstance(index, slice):
      return [self[n] for n in range(len(self))[index]]
    text = self._documents.sentence(int(self._numbers[index]))
    return {
      "inputs": self._pattern.render({"sentence": text}, self._vocabulary),
      # Nobody reads the target; a row has to have one.
      "targets": np.asarray([self._vocabulary.eos_id], np.int32),
      "inputs_pretokenized": text,
      WHOLE: True,
    }


@dataclasses.dataclass(frozen=True, kw_only=True)
class PseudoLabelInputs:
  """Labelled sentences, to pre-train a prompt on.

  Attributes:
    files: JSONL or TSV files of a sentence, its label and how sure the labeller
      was, such as `infer` writes in mode "classify".
    verbalizer: The word of each label, as text; by default labels are words.
    thresholds: By label, above what confidence a sentence is taken.
    wording: In which words.
    split: Which sentences; validation has one in twenty, by its text: the same
      text is in one split.
    text_field: The field of the sentence.
    label_field: That of the label.
    confidence_field: That of the confidence, 0 to 1.
  """

  files: Sequence[str]
  verbalizer: Mapping[str, str] = dataclasses.field(
    default_factory=lambda: {word: word for word in STARS}
  )
  thresholds: Mapping[str, float] = dataclasses.field(
    default_factory=lambda: dict(THRESHOLDS)
  )
  wording: Wording = dataclasses.field(default_factory=Wording)
  split: Split | str = Split.TRAIN
  text_field: str = "inputs"
  label_field: str = "label"
  confidence_field: str = "confidence"

  def __post_init__(self):
    split = enum_member(Split, self.split, name="PseudoLabelInputs.split")
    object.__setattr__(self, "split", split)
    if set(self.thresholds) != set(self.verbalizer):
      raise ValueError(
        "PseudoLabelInputs.thresholds: expected one for each label of the "
        f"verbalizer, {sorted(self.verbalizer)}, got {dict(self.thresholds)}"
      )
    if not all(0 <= limit < 1 for limit in self.thresholds.values()):
      raise ValueError(
        "PseudoLabelInputs.thresholds must be from 0 to below 1, for a "
        f"sentence is taken above its threshold, got {dict(self.thresholds)}"
      )

  @property
  def name(self) -> str:
    """The format."""
    return Format.SENTENCE.value

  @property
  def truncate_targets(self) -> bool:
    """A word is never cut."""
    return False

  def check(self, vocabulary: Vocabulary, lengths: FeatureLengths) -> None:
    """Checks what shows before the files are read.

    Raises:
      ValueError: The vocabulary cannot write a word, or a file's first line is
        malformed.
    """
    del lengths
    self._pvp.check(vocabulary)
    for file in self.files:
      self._labelled(next(sources.read_records(file)))

  def stream(
    self, vocabulary: Vocabulary, lengths: FeatureLengths, *, seed: int
  ) -> "PseudoLabelStream":
    """Returns endless shuffled sentences of which the labeller was sure.

    Raises:
      ValueError: As `check`, of any line; or no sentence of a label is left.
    """
    pvp = self.wording.sentence_pvp(self.verbalizer, max_tokens=lengths.inputs)
    pvp.check(vocabulary)
    texts: list[str] = []
    labels: list[str] = []
    seen = collections.Counter[str]()
    for file in self.files:
      for record in sources.read_records(file):
        text, label, confidence = self._labelled(record)
        seen[label] += 1
        if confidence > self.thresholds[label]:
          texts.append(text)
          labels.append(label)
    is_mine = [
      _is_held_out(text) == (self.split is Split.VALIDATION) for text in texts
    ]
    kept = np.flatnonzero(is_mine)
    texts, labels = [texts[n] for n in kept], [labels[n] for n in kept]
    counts = {label: labels.count(label) for label in self.verbalizer}
    logging.info("Pseudo labels above their thresholds: %s.", counts)
    missing = [label for label, count in counts.items() if not count]
    if missing:
      raise ValueError(
        f"{list(self.files)}: in the split {Split(self.split).value!r} no "
        f"sentence is labelled {', '.join(missing)} with a confidence above "
        f"{[self.thresholds[label] for label in missing]} (labelled so at all: "
        f"{[seen[label] for label in missing]}); label more text, or lower the "
        "thresholds"
      )
    return PseudoLabelStream(
      texts, labels, pvp=pvp, vocabulary=vocabulary, seed=seed
    )

  @property
  def _pvp(self) -> PVP:
    return self.wording.sentence_pvp(self.verbalizer)

  def _labelled(self, record: sources.Record) -> tuple[str, str, float]:
    """Returns the sentence of a line, its label and the confidence."""
    text = record[self.text_field]
    label = patterns.answered(str(record[self.label_field]))
    if label not in self.verbalizer:
      raise ValueError(
        f"{record.where}: the label {label!r} in the field "
        f"{self.label_field!r} is none of {list(self.verbalizer)}; the labels "
        "file and the verbalizer do not belong together"
      )
    given = record[self.confidence_field]
    try:
      confidence = math.nan if isinstance(given, bool) else float(given)
    except (TypeError, ValueError):
      confidence = math.nan
    if not isinstance(text, str) or not 0 <= confidence <= 1:
      raise ValueError(
        f"{record.where}: expected text in the field {self.text_field!r} and a "
        f"number from 0 to 1 in {self.confidence_field!r}, got {text!r} and "
        f"{given!r}"
      )
    return text, label, confidence


def _is_held_out(text: str) -> bool:
  return zlib.crc32(text.encode()) % 20 == 0


class PseudoLabelStream:
  """Labelled sentences by number, each once an epoch; see `ExampleStream`."""

  examples: Sequence[Example] = ()
  is_in_memory = False
  length = None

  def __init__(
    self,
    texts: Sequence[str],
    labels: Sequence[str],
    *,
    pvp: PVP,
    vocabulary: Vocabulary,
    seed: int,
  ):
    """Holds the sentences as text; what is read of them is made when asked."""
    self._texts, self._labels = texts, labels
    self._pvp = pvp
    self._vocabulary = vocabulary
    self._seed = seed
    self._order = functools.lru_cache(maxsize=2)(self._draw_order)

  @property
  def examples_per_epoch(self) -> int:
    """Sentences."""
    return len(self._texts)

  def fields(self, number: int) -> dict[str, Any]:
    """Returns question `number` as the fields of a pattern."""
    epoch, index = divmod(number, len(self._texts))
    place = int(self._order(epoch)[index])
    return {"sentence": self._texts[place], "label": self._labels[place]}

  def example(self, number: int) -> Example:
    """Returns question `number` as token ids."""
    return self._pvp.example(
      self.fields(number), self._vocabulary, where=f"question {number}"
    )

  def card(self) -> dict[str, Any]:
    """Returns a digest of the sentences, the words and the seed."""
    return {
      "kind": "pseudo labels",
      "count": len(self._texts),
      "digest": sources.digest(self._texts, self._labels),
      "pattern": self._pvp.pattern.text,
      "verbalizer": dict(self._pvp.verbalizer),
      "seed": self._seed,
    }

  def _draw_order(self, epoch: int) -> np.ndarray:
    rng = np.random.default_rng([self._seed, _ORDER, epoch])
    return rng.permutation(len(self._texts))
