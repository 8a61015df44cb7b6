"""The corpus as what a pre-training run reads; needs no file and no TensorFlow.

Documents are drawn and tokenised when a run starts: about 50,000 a second and
core, some thirty tokens each, so a run waits a few seconds at most.
"""

import dataclasses
import functools
import itertools
from collections.abc import Mapping

import numpy as np

from prompt_tuning.data import objectives, streams
from prompt_tuning.data.corpus import Corpus
from prompt_tuning.data.features import FeatureLengths
from prompt_tuning.data.inputs import Objective
from prompt_tuning.data.vocabularies import Vocabulary
from prompt_tuning.tasks.small_world.documents import SKILL_WEIGHTS, documents
from prompt_tuning.tasks.small_world.draw import TRAIN
from prompt_tuning.tasks.small_world.objectives import (
  sentence_end_ids,
  sentence_prefix_lm,
)
from prompt_tuning.types import enum_member


@dataclasses.dataclass(frozen=True, kw_only=True)
class SmallWorldInputs:
  """Documents of the small world through a pre-training objective.

  Attributes:
    objective: "span_corruption" joins documents and hides spans; "prefix_lm"
      splits each at a point, see `objectives.sentence_prefix_lm`.
    split: "train", or "validation" for documents with unseen combinations.
    num_documents: How many documents make up an epoch.
    corpus_seed: Names the stream of documents.
    border_share: Fraction of documents that prefix_lm splits at a border of
      sentences.
    skill_weights: How often each skill is drawn, relative to the others.
  """

  objective: Objective | str
  split: str = TRAIN
  num_documents: int = 200_000
  corpus_seed: int = 0
  border_share: float = 0.6
  skill_weights: Mapping[str, float] = dataclasses.field(
    default_factory=lambda: dict(SKILL_WEIGHTS)
  )

  def __post_init__(self):
    objective = enum_member(
      Objective, self.objective, name="SmallWorldInputs.objective"
    )
    object.__setattr__(self, "objective", objective)
    if self.num_documents < 1:
      raise ValueError(
        "SmallWorldInputs.num_documents must be at least 1, got "
        f"{self.num_documents}."
      )

  @property
  def name(self) -> str:
    """The objective, after the name of the corpus."""
    return f"small_world_{Objective(self.objective).value}"

  @property
  def truncate_targets(self) -> bool:
    """Nothing is ever too long."""
    return False

  def stream(
    self, vocabulary: Vocabulary, lengths: FeatureLengths, *, seed: int
  ) -> streams.CorpusStream:
    """Returns endless examples, each epoch in an order of its own.

    Raises:
      ValueError: The lengths are too short for the objective.
    """
    if self.objective is Objective.PREFIX_LM:
      return self._prefix_lm(vocabulary, lengths, seed)
    return self._span_corruption(vocabulary, lengths, seed)

  def _prefix_lm(self, vocabulary, lengths, seed) -> streams.CorpusStream:
    return streams.CorpusStream(
      self._corpus(vocabulary, longest=lengths.inputs),
      functools.partial(
        sentence_prefix_lm,
        end_ids=sentence_end_ids(vocabulary),
        targets_length=lengths.targets,
        border_share=self.border_share,
      ),
      # No document is longer, so none is cut.
      chunk_length=lengths.inputs,
      seed=seed,
      documents=streams.Documents.SEPARATE,
    )

  def _span_corruption(self, vocabulary, lengths, seed) -> streams.CorpusStream:
    fitting = objectives.lengths_for_span_corruption(
      lengths.inputs, targets_length=lengths.targets
    )
    return streams.CorpusStream(
      self._corpus(vocabulary, longest=None),
      functools.partial(
        objectives.span_corruption,
        vocab_size=vocabulary.vocab_size,
        num_sentinels=vocabulary.extra_ids,
      ),
      chunk_length=fitting.raw,
      seed=seed,
    )

  def _corpus(self, vocabulary: Vocabulary, *, longest: int | None) -> Corpus:
    """Draws and tokenises the documents, those of at most `longest` tokens."""
    texts = documents(
      self.corpus_seed, self.split, skill_weights=self.skill_weights
    )
    tokenised = (vocabulary.encode(text) for text in texts)
    if longest is not None:
      tokenised = (ids for ids in tokenised if 2 <= len(ids) <= longest)
    chosen = itertools.islice(tokenised, self.num_documents)
    return Corpus.from_documents(np.asarray(ids, np.uint16) for ids in chosen)
