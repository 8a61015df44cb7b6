"""What a run reads: a task, or running text through an objective."""

import dataclasses
import glob
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from prompt_tuning.data import chunks as chunks_lib
from prompt_tuning.data import corpus as corpus_lib
from prompt_tuning.data import providers, sources, streams
from prompt_tuning.data.chunks import Objective
from prompt_tuning.data.features import Example, FeatureLengths
from prompt_tuning.data.tfds_records import TfdsSplit
from prompt_tuning.data.views import View
from prompt_tuning.data.vocabularies import Vocabulary
from prompt_tuning.types import enum_member


class Inputs(Protocol):
  """Where examples come from."""

  @property
  def name(self) -> str:
    """What to call it in a log and on a prompt's card."""
    ...

  @property
  def truncate_targets(self) -> bool:
    """Whether a target may be cut; never a label."""
    ...

  def stream(
    self, vocabulary: Vocabulary, lengths: FeatureLengths, *, seed: int
  ) -> streams.ExampleStream:
    """Returns the examples in the order of `seed`."""
    ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class CorpusInputs:
  """Running text, for pre-training and LM adaptation.

  Chunks are as long as the feature lengths allow without cutting anything.

  Attributes:
    files: TSV or JSONL files of one document a line, where `*` is expanded, and
      splits of TFDS, such as "tfds:c4/en:2.2.0@train". None where they are
      elsewhere: then the cache must be there.
    cache: Local folder for the tokens, written by the first run.
    objective: How text becomes inputs and targets.
    text_field: The field that holds the text.
    noise_density: For span corruption, the fraction of tokens to hide.
    mean_span_length: For span corruption, in tokens.
  """

  files: Sequence[str] | None
  cache: str
  objective: Objective | str
  text_field: str = "text"
  noise_density: float = 0.15
  mean_span_length: float = 3.0

  def __post_init__(self):
    objective = enum_member(
      Objective, self.objective, name="CorpusInputs.objective"
    )
    object.__setattr__(self, "objective", objective)

  @property
  def name(self) -> str:
    """The objective."""
    return Objective(self.objective).value

  @property
  def truncate_targets(self) -> bool:
    """Nothing is ever too long."""
    return False

  def stream(
    self, vocabulary: Vocabulary, lengths: FeatureLengths, *, seed: int
  ) -> streams.CorpusStream:
    """Returns endless chunks, tokenising the files if no run did before.

    Raises:
      ValueError: A pattern matches no file; the targets length is too short for
        the inputs length; or the cache is missing, or was made from other files
        or with another vocabulary.
    """
    corpus, chunks = self._corpus(vocabulary), self._chunks(vocabulary, lengths)
    return streams.CorpusStream(
      corpus,
      chunks.objective,
      chunk_length=chunks.length,
      seed=seed,
      documents=chunks.documents,
    )

  def check(self, vocabulary: Vocabulary, lengths: FeatureLengths) -> None:
    """Checks what shows before a file is read.

    Raises:
      ValueError: A pattern matches no file, a split of TFDS is malformed, there
        are neither files nor cache, or the targets length is too short.
    """
    if self.files is None:
      self._corpus(vocabulary)
    else:
      self._expanded(self.files)
    self._chunks(vocabulary, lengths)

  def _chunks(
    self, vocabulary: Vocabulary, lengths: FeatureLengths
  ) -> chunks_lib.Chunks:
    return chunks_lib.chunks_for(
      Objective(self.objective),
      vocabulary,
      lengths,
      noise_density=self.noise_density,
      mean_span_length=self.mean_span_length,
    )

  def _corpus(self, vocabulary: Vocabulary) -> corpus_lib.Corpus:
    if self.files is None:
      return corpus_lib.open_corpus(self.cache, vocabulary=vocabulary)
    return corpus_lib.tokenize_corpus(
      self._expanded(self.files),
      vocabulary,
      self.cache,
      text_field=self.text_field,
    )

  def _expanded(self, patterns: Sequence[str]) -> list[str]:
    files = []
    for pattern in patterns:
      found = sorted(glob.glob(pattern)) if "*" in pattern else [pattern]
      if not found:
        raise ValueError(f"CorpusInputs.files: nothing matches {pattern!r}.")
      files += found
    for file in files:
      TfdsSplit.parse(file)
    return files


@dataclasses.dataclass(frozen=True, kw_only=True)
class CorpusMixture:
  """Running text of several corpora, each in an order of its own.

  Attributes:
    files: By corpus, as in `CorpusInputs`.
    cache: Local folder for the tokens, with a folder for each corpus in it.
    objective: As in `CorpusInputs`, and so are those after `rates`.
    rates: How often a chunk of each corpus comes, relative to the others; None
      for as often as it has chunks.
    text_field: See there.
    noise_density: See there.
    mean_span_length: See there.
  """

  files: Mapping[str, Sequence[str] | None]
  cache: str
  objective: Objective | str
  rates: Mapping[str, float] | None = None
  text_field: str = "text"
  noise_density: float = 0.15
  mean_span_length: float = 3.0

  def __post_init__(self):
    if not isinstance(self.files, Mapping) or not self.files:
      raise ValueError(
        "CorpusMixture.files: expected files by the name of their corpus, "
        f'{{"wiki": [...], "books": [...]}}, got {self.files!r}.'
      )
    if self.rates is not None and set(self.rates) != set(self.files):
      raise ValueError(
        f"CorpusMixture.rates: expected one for each of {sorted(self.files)}, "
        f"got {dict(self.rates)}."
      )
    # Checks the objective.
    object.__setattr__(self, "objective", self._first.objective)

  @property
  def name(self) -> str:
    """The objective."""
    return self._first.name

  @property
  def truncate_targets(self) -> bool:
    """Nothing is ever too long."""
    return False

  def stream(
    self, vocabulary: Vocabulary, lengths: FeatureLengths, *, seed: int
  ) -> streams.MixtureStream:
    """Returns endless chunks; see `CorpusInputs.stream`."""
    corpora = {
      name: corpus.stream(vocabulary, lengths, seed=seed)
      for name, corpus in self._corpora.items()
    }
    rates = self.rates or {
      name: float(stream.chunks_per_epoch) for name, stream in corpora.items()
    }
    return streams.MixtureStream(corpora, rates=rates, seed=seed)

  def check(self, vocabulary: Vocabulary, lengths: FeatureLengths) -> None:
    """Checks what shows before a file is read; see `CorpusInputs.check`."""
    for corpus in self._corpora.values():
      corpus.check(vocabulary, lengths)

  @property
  def _first(self) -> CorpusInputs:
    return next(iter(self._corpora.values()))

  @property
  def _corpora(self) -> dict[str, CorpusInputs]:
    return {
      name: CorpusInputs(
        files=files,
        cache=os.path.join(self.cache, name),
        objective=self.objective,
        text_field=self.text_field,
        noise_density=self.noise_density,
        mean_span_length=self.mean_span_length,
      )
      for name, files in self.files.items()
    }


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskInputs:
  """A split of a text task, or of a seqio Task or Mixture.

  Attributes:
    task: MIXTURE_OR_TASK_NAME.
    module: MIXTURE_OR_TASK_MODULE, imported first, as it makes tasks known.
    split: Such as "train".
    use_cached: USE_CACHED_TASKS: read what seqio cached.
    cache_dirs: SEQIO_CACHE_DIRS: where to look for that.
    labels: The verbalizers; a target that is none of them is an error. None
      takes any target.
    view: What is seen of each task's split, such as `few_shot.FewShot`; None
      for all.
  """

  task: str
  module: str | None = None
  split: str = "train"
  use_cached: bool = False
  cache_dirs: Sequence[str] = ()
  labels: Sequence[str] | None = None
  view: View | None = None

  @property
  def name(self) -> str:
    """The task's name."""
    return self.task

  @property
  def truncate_targets(self) -> bool:
    """A label is never cut."""
    return False

  def stream(
    self, vocabulary: Vocabulary, lengths: FeatureLengths, *, seed: int
  ) -> streams.ExampleStream:
    """Returns endless shuffled examples.

    Raises:
      ValueError: There is no such task or split, it has another vocabulary, a
        target is not among the labels, or the split cannot be seen so.
    """
    del lengths  # What does not fit is cut where slots are placed.
    return self._provider(vocabulary).stream(
      self.split,
      seed=seed,
      targets=self._allowed_targets(vocabulary),
      view=self.view,
    )

  def examples(self, vocabulary: Vocabulary) -> list[Example]:
    """Returns the split of a Task once, in order.

    Raises:
      ValueError: As `stream`; or it is a Mixture.
    """
    return self._provider(vocabulary).examples(self.split)

  def check(self, vocabulary: Vocabulary, lengths: FeatureLengths) -> None:
    """Checks what shows before the split is read.

    Raises:
      ValueError: As `stream`; or a label has more tokens than targets may have.
    """
    self._provider(vocabulary).check_split(self.split)
    for ids, label in (self._allowed_targets(vocabulary) or {}).items():
      if len(ids) > lengths.targets:
        raise ValueError(
          f"The class label {label!r} has {len(ids)} tokens, its end of "
          f"sequence included, and TASK_FEATURE_LENGTHS allows targets of "
          f"{lengths.targets}; raise the targets length."
        )

  def _allowed_targets(
    self, vocabulary: Vocabulary
  ) -> providers.Targets | None:
    """Returns the verbalizers by their tokens."""
    if self.labels is None:
      return None
    return {
      (*vocabulary.encode(label), vocabulary.eos_id): label
      for label in self.labels
    }

  def _provider(self, vocabulary: Vocabulary) -> providers.Provider:
    return providers.find_for(
      vocabulary,
      self.task,
      module=self.module,
      use_cached=self.use_cached,
      cache_dirs=self.cache_dirs,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class FileInputs:
  """Texts from a TSV or JSONL file, to predict for.

  Attributes:
    file: See `sources.read_records`.
    inputs: Text of the input with fields in braces.
    targets: Text of the target likewise, to score it; None if there is none.
    prompt_index: Name of the field with the number of the prompt that a line
      takes from a bank; None where there is no bank.
  """

  file: str
  inputs: str = "{inputs}"
  targets: str | None = None
  prompt_index: str | None = None

  @property
  def name(self) -> str:
    """The file."""
    return self.file

  def check(self, vocabulary: Vocabulary, lengths: FeatureLengths) -> None:
    """Looks at the first line.

    Raises:
      ValueError: The file cannot be read, or its first line is malformed.
    """
    del vocabulary, lengths
    next(self._texts())

  def examples(self, vocabulary: Vocabulary) -> list[Example]:
    """Returns the texts in order, tokenised.

    Raises:
      ValueError: A line is malformed or lacks a field.
    """
    return list(sources.tokenize_examples(self._texts(), vocabulary))

  def _texts(self) -> Iterator[dict[str, Any]]:
    # Without a target the end of sequence stands for it; nobody reads it.
    return sources.examples_from(
      self.file,
      inputs=self.inputs,
      targets=self.targets or "",
      prompt_index=self.prompt_index,
    )
