"""Examples by number: every stream is a pure function of (seed, number).

So a run that continues at example n sees what an uninterrupted one would see,
on however many processes, and nothing but n need be saved.
"""

import enum
import functools
import inspect
import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from prompt_tuning.data.corpus import Corpus
from prompt_tuning.data.features import Example
from prompt_tuning.data.views import NUMBER

Objective = Callable[[np.ndarray, np.random.Generator], Example]
"""Running text and a random generator to a tokenised example."""

# One random stream for each use of a seed.
_ORDER, _OFFSET, _NOISE, _MIXTURE = range(4)
_DRAWS_AT_A_TIME = 4096
_MIN_CHUNK = 2


class ExampleStream(Protocol):
  """Tokenised examples by number."""

  @property
  def length(self) -> int | None:
    """The number of examples; None where there is no end."""
    ...

  @property
  def examples(self) -> Sequence[Example]:
    """Those that are held in memory, each once."""
    ...

  @property
  def is_in_memory(self) -> bool:
    """Whether `examples` are all that there are."""
    ...

  def example(self, number: int) -> Example:
    """Returns example `number`, counted from 0."""
    ...

  def card(self) -> dict[str, Any]:
    """Returns all that decides the examples, JSON-able."""
    ...


class Order(enum.Enum):
  """The order of the examples within an epoch."""

  SHUFFLED = "shuffled"
  AS_GIVEN = "as given"


class Documents(enum.Enum):
  """What becomes of the border between two documents."""

  JOINED = "joined"
  SEPARATE = "separate"


class ExamplesInMemory:
  """Epochs of a list of examples, each in an order of its own.

  Attributes:
    examples: The list.
  """

  is_in_memory = True

  def __init__(
    self,
    examples: Sequence[Example],
    *,
    seed: int,
    num_epochs: int | None = None,
    order: Order = Order.SHUFFLED,
  ):
    """Holds the examples.

    Args:
      examples: Tokenised examples.
      seed: Decides the order, together with the epoch.
      num_epochs: How often each example comes; None for no end.
      order: The order within an epoch.

    Raises:
      ValueError: There are no examples.
    """
    if not examples:
      raise ValueError("there are no examples to train on")
    self.examples = examples
    self._seed = seed
    self._num_epochs = num_epochs
    self._kind = order
    # A batch that spans two epochs asks for both orders in turn.
    self._order = functools.lru_cache(maxsize=2)(self._draw_order)

  @property
  def length(self) -> int | None:
    """Examples of all epochs."""
    if self._num_epochs is None:
      return None
    return self._num_epochs * len(self.examples)

  def example(self, number: int) -> Example:
    """Returns example `number`, counted over all epochs."""
    epoch, index = divmod(number, len(self.examples))
    return self.examples[self._order(epoch)[index]]

  def card(self) -> dict[str, Any]:
    """Returns seed, epochs, order, and a digest of the examples.

    Of chosen examples it says which, see `views.NUMBER`.
    """
    digest = 0
    for example in self.examples:
      for key in ("inputs", "targets"):
        digest = _crc32(example[key], digest)
      if "prompt_index" in example:
        digest = _crc32(example["prompt_index"], digest)
    numbers = [e[NUMBER] for e in self.examples if NUMBER in e]
    return {
      "kind": "examples",
      "count": len(self.examples),
      **({"numbers": numbers} if numbers else {}),
      "digest": digest,
      "seed": self._seed,
      "num_epochs": self._num_epochs,
      "order": self._kind.value,
    }

  def _draw_order(self, epoch: int) -> np.ndarray:
    if self._kind is Order.AS_GIVEN:
      return np.arange(len(self.examples))
    rng = np.random.default_rng([self._seed, _ORDER, epoch])
    return rng.permutation(len(self.examples))


class CorpusStream:
  """Endless chunks of running text through a pre-training objective.

  An epoch is all chunks of the corpus once, shuffled. Joined documents are one
  circle of tokens, cut at another place every epoch; only the remainder that
  does not fill a chunk is left out. Separate documents are cut one by one, and
  their last chunks are shorter; a chunk of a single token is left out.

  T5 joins documents for span corruption and separates them for prefix language
  modelling (Raffel et al., 2020).
  """

  examples: Sequence[Example] = ()
  is_in_memory = False

  def __init__(
    self,
    corpus: Corpus,
    objective: Objective,
    *,
    chunk_length: int,
    seed: int,
    documents: Documents = Documents.JOINED,
  ):
    """Lays out the chunks.

    Args:
      corpus: Tokenised documents.
      objective: Makes an example of a chunk, such as `objectives.prefix_lm`.
      chunk_length: Tokens of a chunk.
      seed: Decides the order, the cuts and the noise, together with the epoch.
      documents: Whether chunks may span documents.

    Raises:
      ValueError: The corpus does not fill a single chunk.
    """
    if chunk_length < _MIN_CHUNK:
      raise ValueError(
        f"chunk_length must be at least {_MIN_CHUNK} tokens, got {chunk_length}"
      )
    self._corpus = corpus
    self._objective = objective
    self._chunk_length = chunk_length
    self._seed = seed
    self._documents = documents
    if documents is Documents.SEPARATE:
      sizes = np.diff(corpus.ends, prepend=0)
      remainders = sizes % chunk_length
      chunks = sizes // chunk_length + (remainders >= _MIN_CHUNK)
      self._chunk_ends = np.cumsum(chunks)
      self._num_chunks = int(self._chunk_ends[-1])
    else:
      self._num_chunks = corpus.tokens.size // chunk_length
    if not self._num_chunks:
      raise ValueError(
        f"a corpus of {corpus.tokens.size} tokens in {corpus.ends.size} "
        f"documents ({documents.value}) does not fill a single chunk of "
        f"{chunk_length} tokens"
      )
    self._order = functools.lru_cache(maxsize=2)(self._draw_order)
    self._offset = functools.lru_cache(maxsize=2)(self._draw_offset)

  @property
  def length(self) -> None:
    """There is no end."""
    return None

  @property
  def chunks_per_epoch(self) -> int:
    """How many examples see every chunk once."""
    return self._num_chunks

  def example(self, number: int) -> Example:
    """Returns the objective of chunk `number`, counted over all epochs."""
    epoch, index = divmod(number, self._num_chunks)
    chunk = int(self._order(epoch)[index])
    rng = np.random.default_rng([self._seed, _NOISE, epoch, chunk])
    return self._objective(self._chunk(epoch, chunk), rng)

  def card(self) -> dict[str, Any]:
    """Returns the corpus, seed, kind of chunks, and the objective's settings.

    These are its arguments that have a value, its defaults among them.
    """
    return {
      "kind": "corpus",
      "corpus": self._corpus.fingerprint,
      "objective": _describe(self._objective),
      "chunk_length": self._chunk_length,
      "documents": self._documents.value,
      "seed": self._seed,
    }

  def _chunk(self, epoch: int, chunk: int) -> np.ndarray:
    """Returns the tokens of one chunk, int32."""
    tokens, length = self._corpus.tokens, self._chunk_length
    if self._documents is Documents.SEPARATE:
      ends = self._corpus.ends
      document = int(np.searchsorted(self._chunk_ends, chunk, side="right"))
      before = int(self._chunk_ends[document - 1]) if document else 0
      start = int(ends[document - 1]) if document else 0
      start += (chunk - before) * length
      return tokens[start : min(start + length, ends[document])].astype(
        np.int32
      )
    start = (self._offset(epoch) + chunk * length) % tokens.size
    head = tokens[start : start + length]
    return np.append(head, tokens[: length - head.size]).astype(np.int32)

  def _draw_order(self, epoch: int) -> np.ndarray:
    rng = np.random.default_rng([self._seed, _ORDER, epoch])
    return rng.permutation(self._num_chunks)

  def _draw_offset(self, epoch: int) -> int:
    rng = np.random.default_rng([self._seed, _OFFSET, epoch])
    return int(rng.integers(self._corpus.tokens.size))


class MixtureStream:
  """Endless examples of several streams, drawn at given rates.

  Each stream goes through its own examples in its own order; which stream comes
  next is drawn independently, as seqio's mixtures do.
  """

  def __init__(
    self,
    streams: Mapping[str, ExampleStream],
    *,
    rates: Mapping[str, float],
    seed: int,
  ):
    """Sets the rates.

    Args:
      streams: Endless streams by name.
      rates: How often each comes, relative to the others.
      seed: Decides which stream comes when.

    Raises:
      ValueError: Names differ, a rate is not positive, or a stream ends.
    """
    if not streams or set(streams) != set(rates):
      raise ValueError(
        f"a mixture needs a rate for each stream, got streams "
        f"{sorted(streams)} and rates for {sorted(rates)}"
      )
    for name, stream in streams.items():
      if stream.length is not None:
        raise ValueError(f"stream {name!r} ends, a mixture needs endless ones")
      if not 0 < rates[name] < float("inf"):
        raise ValueError(
          f"the rate of {name!r} must be positive, got {rates[name]!r}"
        )
    # Sorted, so that the draws do not depend on the order of a dictionary.
    self._streams = {name: streams[name] for name in sorted(streams)}
    weights = np.asarray([rates[name] for name in self._streams], np.float64)
    self._rates = weights / weights.sum()
    self._seed = seed
    self._draws = functools.lru_cache(maxsize=2)(self._draw)
    self._drawn_before = [np.zeros(len(weights), np.int64)]

  @property
  def length(self) -> None:
    """There is no end."""
    return None

  @property
  def is_in_memory(self) -> bool:
    """Whether `examples` are all that there are."""
    return all(stream.is_in_memory for stream in self._streams.values())

  @property
  def examples(self) -> list[Example]:
    """Every example of the streams that hold theirs in memory, once."""
    return [
      example
      for stream in self._streams.values()
      for example in stream.examples
    ]

  def example(self, number: int) -> Example:
    """Returns example `number` of the mixture."""
    block, offset = divmod(number, _DRAWS_AT_A_TIME)
    while len(self._drawn_before) <= block:
      which, _ = self._draws(len(self._drawn_before) - 1)
      drawn = np.bincount(which, minlength=len(self._rates))
      self._drawn_before.append(self._drawn_before[-1] + drawn)
    which, ranks = self._draws(block)
    index = which[offset]
    stream = list(self._streams.values())[index]
    return stream.example(int(self._drawn_before[block][index] + ranks[offset]))

  def card(self) -> dict[str, Any]:
    """Returns the seed, and rate and card of each stream."""
    return {
      "kind": "mixture",
      "seed": self._seed,
      "rates": dict(zip(self._streams, self._rates.tolist(), strict=True)),
      "streams": {n: stream.card() for n, stream in self._streams.items()},
    }

  def _draw(self, block: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns which stream comes when, and how many of it came before."""
    rng = np.random.default_rng([self._seed, _MIXTURE, block])
    which = rng.choice(self._rates.size, size=_DRAWS_AT_A_TIME, p=self._rates)
    ranks = np.empty_like(which)
    for index in range(self._rates.size):
      chosen = which == index
      ranks[chosen] = np.arange(chosen.sum())
    return which, ranks


def _crc32(numbers: Any, start: int) -> int:
  return zlib.crc32(np.asarray(numbers, np.int32).tobytes(), start)


def _describe(objective: Objective) -> dict[str, Any]:
  """Returns the name of an objective and all that it is bound to, JSON-able."""
  bare = getattr(objective, "func", objective)  # Of a partial.
  settings = {
    name: parameter.default
    for name, parameter in inspect.signature(objective).parameters.items()
    if parameter.default is not parameter.empty
  }
  name = getattr(bare, "__name__", type(bare).__name__)
  # As a checkpoint gives it back: lists for tuples.
  return json.loads(json.dumps({"name": name, **settings}, default=_plain))


def _plain(value: Any) -> Any:
  """Returns what JSON can write of a setting that it does not know."""
  return value.tolist() if hasattr(value, "tolist") else repr(value)
