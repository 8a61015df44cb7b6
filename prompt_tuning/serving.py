"""One backbone and any number of prompts, text in, text out.

  server = Server(backbone, max_inputs=128, max_targets=16, prompt_length=100)
  server.add("sentiment", "runs/sentiment/prompts/best.npy")
  server.add("topic", "topic_adapter")  # A folder of PEFT.
  server.generate(["a fine film .", "he won ."], ["sentiment", "topic"])
  server.classify(["a fine film ."], ["sentiment"], labels=["bad", "good"])

Every row of a batch reads the prompt that it names (Lester et al., 2021, fig.
2). Prompts lie in a bank whose size is fixed, so that to add or drop one
compiles nothing anew.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from prompt_tuning import paths
from prompt_tuning.backbone import Backbone
from prompt_tuning.checkpoints import prompts as prompts_lib
from prompt_tuning.evaluate.generation import (
  BeamSearch,
  Generator,
  Greedy,
  Sampling,
)
from prompt_tuning.evaluate.rank_classification import (
  RankClassifier,
  Verbalizers,
)
from prompt_tuning.model.t5 import T5
from prompt_tuning.prompts import artifact
from prompt_tuning.prompts import layout as layout_lib
from prompt_tuning.prompts.initializers import Values
from prompt_tuning.prompts.module import PromptAttention, PromptBank
from prompt_tuning.prompts.spec import Position
from prompt_tuning.types import Batch

_SHORTEST = 16
_GREEDY = Greedy()


@dataclasses.dataclass(frozen=True)
class Classified:
  """What was found of a text.

  Attributes:
    label: The likeliest label.
    probabilities: Of each among the labels.
  """

  label: str
  probabilities: Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class _Place:
  """Where a prompt lies in the bank, and how many tokens it has."""

  index: int
  length: int


class Server:
  """A backbone in memory, with prompts that come and go."""

  def __init__(
    self,
    backbone: Backbone,
    *,
    max_inputs: int,
    max_targets: int,
    prompt_length: int,
    capacity: int = 16,
    batch_size: int = 8,
    attention: PromptAttention | str = PromptAttention.FULL,
    decoder: Greedy | BeamSearch | Sampling = _GREEDY,
    seed: int = 0,
  ):
    """Loads the backbone.

    Args:
      backbone: Names it.
      max_inputs: Tokens of a text, its end included; what is beyond is cut.
      max_targets: Tokens of an answer, its end included.
      prompt_length: P, the most tokens of a prompt. A shorter one takes no more
        than its own, unless prompts attend to themselves alone.
      capacity: How many prompts there may be at a time.
      batch_size: B; the last batch is filled up.
      attention: What soft tokens attend to; that of all prompts.
      decoder: How answers are written.
      seed: Of a decoder that draws.

    Raises:
      ValueError: The backbone cannot be loaded, or a number is not positive.
    """
    for name, value in (
      ("max_inputs", max_inputs),
      ("prompt_length", prompt_length),
      ("capacity", capacity),
      ("batch_size", batch_size),
    ):
      if value < 1:
        raise ValueError(f"Server: {name} must be at least 1, got {value}")
    loaded = backbone.load()
    self._vocabulary = backbone.vocabulary
    self._config = backbone.config
    self._fingerprint = loaded.fingerprint
    self._max_inputs, self._max_targets = max_inputs, max_targets
    self._batch_size, self._length = batch_size, prompt_length
    self._attention = PromptAttention(attention)
    self._rngs = jax.random.split(jax.random.key(seed), batch_size)
    # One more than there may be: a bank is of two prompts at least.
    bank = np.zeros(
      (capacity + 1, prompt_length, backbone.config.embed_dim), np.float32
    )
    self._model = T5(
      backbone.config,
      prompt=PromptBank(
        num_prompts=len(bank),
        length=prompt_length,
        features=backbone.config.embed_dim,
        initializer=Values(bank, "a server"),
        attention=self._attention,
      ),
    )
    self._frozen = jax.tree.map(jnp.asarray, loaded.params)
    self._bank = jnp.asarray(bank)
    self._free = list(range(capacity))
    self._places: dict[str, _Place] = {}
    self._generator = Generator(
      self._model, max_decode_length=max_targets, decoder=decoder
    )
    self._classifiers: dict[tuple[str, ...], RankClassifier] = {}

  @property
  def prompts(self) -> list[str]:
    """Names of the prompts that are there."""
    return list(self._places)

  def add(self, name: str, path: paths.PathLike) -> None:
    """Reads a prompt and keeps it under a name.

    Args:
      name: A new name, or one whose prompt is replaced.
      path: See `checkpoints.prompts.read`.

    Raises:
      ValueError: It is no prompt, belongs to another backbone, was tuned to be
        used in another way, does not fit, or there is no place left.
    """
    saved, _ = prompts_lib.read(path)
    source = str(path)
    self._check(saved, source)
    old = self._places.get(name)
    if old is None and not self._free:
      raise ValueError(
        f"there are {len(self._places)} prompts and no place for {name!r}; "
        "drop one, or give the server more capacity"
      )
    index = old.index if old else self._free.pop(0)
    row = np.zeros(self._bank.shape[1:], np.float32)
    row[: len(saved.array)] = saved.array
    self._bank = self._bank.at[index].set(row)
    self._places[name] = _Place(index, len(saved.array))

  def drop(self, name: str) -> None:
    """Forgets a prompt.

    Raises:
      ValueError: There is none of this name.
    """
    self._free.append(self._place(name).index)
    del self._places[name]

  def generate(
    self, texts: Sequence[str], prompts: Sequence[str | None]
  ) -> list[str]:
    """Returns an answer for each text.

    Args:
      texts: What is asked.
      prompts: The name of each one's prompt; None takes the bare backbone,
        unless prompts attend to themselves alone.

    Raises:
      ValueError: There is another number of prompts, none of a name, or an
        empty text.
    """
    answers = [""] * len(texts)
    for numbers, batch in self._batches(texts, prompts):
      tokens = self._generator.predict(self._params, batch, rngs=self._rngs)
      for number, ids in zip(
        numbers, np.asarray(tokens).tolist(), strict=False
      ):
        answers[number] = self._vocabulary.decode(ids)
    return answers

  def classify(
    self,
    texts: Sequence[str],
    prompts: Sequence[str | None],
    *,
    labels: Sequence[str] | Mapping[str, Sequence[str]],
  ) -> list[Classified]:
    """Returns the likeliest label of each text.

    Args:
      texts: What is asked.
      prompts: As of `generate`.
      labels: Those of all texts, or by the name of the prompt.

    Raises:
      ValueError: As `generate`; or a prompt has no labels, or the vocabulary
        cannot write one.
    """
    self._check_asked(texts, prompts)
    groups: dict[tuple[str, ...], list[int]] = {}
    for number, name in enumerate(prompts):
      own = (
        labels if not isinstance(labels, Mapping) else labels.get(name or "")
      )
      if not own:
        raise ValueError(f"there are no labels for the prompt {name!r}")
      groups.setdefault(tuple(own), []).append(number)
    found: dict[int, Classified] = {}
    for chosen, members in groups.items():
      classifier = self._classifier(chosen)
      asked = [texts[n] for n in members], [prompts[n] for n in members]
      for numbers, batch in self._batches(*asked):
        ranking = classifier.rank(self._params, batch)
        likely = np.asarray(jax.nn.softmax(ranking.scores, axis=-1)).tolist()
        for number, row in zip(numbers, likely, strict=False):
          each = dict(zip(chosen, row, strict=True))
          label = max(each, key=each.__getitem__)
          found[members[number]] = Classified(label, each)
    return [found[number] for number in range(len(texts))]

  @property
  def _params(self) -> dict[str, Any]:
    return {**self._frozen, "prompt": {"embedding": self._bank}}

  def _classifier(self, labels: tuple[str, ...]) -> RankClassifier:
    if labels not in self._classifiers:
      verbalizers = Verbalizers.encode(labels, self._vocabulary)
      self._classifiers[labels] = RankClassifier(self._model, verbalizers)
    return self._classifiers[labels]

  def _check(self, saved: artifact.SavedPrompt, source: str) -> None:
    artifact.check_backbone(saved, self._fingerprint, source=source)
    artifact.check_layout(
      saved,
      Position.PREFIX.value,
      attention=self._attention.value,
      source=source,
    )
    shape, (_, most, width) = saved.array.shape, self._bank.shape
    is_apart = self._attention is PromptAttention.PREFIX
    fits = len(shape) == 2 and shape[0] <= most and shape[1] == width
    if not fits or (is_apart and shape[0] != most):
      raise ValueError(
        f"{source} has the shape {list(shape)}; this server takes prompts of "
        f"{'' if is_apart else 'up to '}{most} tokens and width {width}"
      )

  def _place(self, name: str) -> _Place:
    if name not in self._places:
      raise ValueError(
        f"there is no prompt {name!r}; there are {self.prompts or 'none'}"
      )
    return self._places[name]

  def _check_asked(
    self, texts: Sequence[str], prompts: Sequence[str | None]
  ) -> None:
    if len(texts) != len(prompts):
      raise ValueError(
        f"{len(texts)} texts and {len(prompts)} prompts: each text names one"
      )

  def _batches(
    self, texts: Sequence[str], prompts: Sequence[str | None]
  ) -> Iterator[tuple[list[int], Batch]]:
    """Yields numbers of texts and their batch; like lengths go together."""
    self._check_asked(texts, prompts)
    rows = [
      self._row(text, name, number)
      for number, (text, name) in enumerate(zip(texts, prompts, strict=True))
    ]
    order = sorted(range(len(rows)), key=lambda n: rows[n][0].size)
    for start in range(0, len(order), self._batch_size):
      numbers = order[start : start + self._batch_size]
      length = self._rounded(max(rows[n][0].size for n in numbers))
      tokens = np.zeros((self._batch_size, length), np.int32)
      index = np.zeros(self._batch_size, np.int32)
      for row, number in enumerate(numbers):
        ids, index[row] = rows[number]
        tokens[row, : ids.size] = ids
      batch: dict[str, Any] = {"encoder_input_tokens": tokens}
      if self._attention is PromptAttention.PREFIX:
        batch["prompt_index"] = index
      yield numbers, batch

  def _row(
    self, text: str, name: str | None, number: int
  ) -> tuple[np.ndarray, int]:
    """Returns the tokens of a row, and the prompt that it reads."""
    ids = [*self._vocabulary.encode(text), self._vocabulary.eos_id]
    is_apart = self._attention is PromptAttention.PREFIX
    if name is None and is_apart:
      raise ValueError(
        f"text {number} names no prompt; where prompts attend to themselves "
        "alone, each text has one"
      )
    place = _Place(0, 0) if name is None else self._place(name)
    slots = 0 if is_apart else place.length
    vocab_size = self._config.vocab_size
    row = layout_lib.prefix(slots).place(
      ids,
      max_length=self._max_inputs + slots,
      vocab_size=vocab_size,
      name=f"text {number} ({text!r})",
    )
    tokens = row.tokens.copy()
    tokens[tokens >= vocab_size] += place.index * self._length
    return tokens, place.index

  def _rounded(self, length: int) -> int:
    """Returns the next length that is compiled: few, each twice another."""
    rounded = _SHORTEST
    while rounded < length:
      rounded *= 2
    most = self._max_inputs + self._length
    return max(length, min(rounded, most))
