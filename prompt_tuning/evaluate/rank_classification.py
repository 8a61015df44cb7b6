"""Classification by ranking: the verbalizer that the model finds likeliest.

Unlike generation it cannot answer anything that is no label, and it compares
verbalizers of several pieces by their whole likelihood.
"""

import dataclasses
import enum
import functools
from collections.abc import Sequence

import jax
import numpy as np
from flax import struct
from jax import numpy as jnp

from prompt_tuning.data.vocabularies import Vocabulary
from prompt_tuning.evaluate.generation import encoder_inputs
from prompt_tuning.evaluate.prompt_compiler import PromptCompiler, of_rows
from prompt_tuning.model.scoring import score_candidates
from prompt_tuning.model.t5 import T5
from prompt_tuning.types import (
  EOS_ID,
  PAD_ID,
  Array,
  Batch,
  Float,
  Int,
  Params,
  enum_member,
)


class LengthNormalization(enum.Enum):
  """What a verbalizer's log-likelihood is divided by.

  TOKENS divides by the number of its tokens, the end of sequence included, so
  that a verbalizer of many pieces is not at a loss for its length.
  """

  NONE = "none"
  TOKENS = "tokens"


@dataclasses.dataclass(frozen=True)
class Verbalizers:
  """The label words of a task, in the order of its labels.

  Attributes:
    texts: One text for each label.
    tokens: Their token ids, without an end of sequence.
    eos_id: The token that ends a target.
    ends: Whether targets have it.

  Raises:
    ValueError: If there are fewer than two, one has no tokens or holds padding
      or an end of sequence, or two have the same tokens.
  """

  texts: tuple[str, ...]
  tokens: tuple[tuple[int, ...], ...]
  eos_id: int = EOS_ID
  ends: bool = True

  def __post_init__(self):
    if len(self.texts) < 2 or len(self.texts) != len(self.tokens):
      raise ValueError(
        "verbalizers: expected at least two texts and the tokens of each, got "
        f"{len(self.texts)} texts {list(self.texts)!r} and "
        f"{len(self.tokens)} token lists."
      )
    seen: dict[tuple[int, ...], str] = {}
    for text, ids in zip(self.texts, self.tokens, strict=True):
      if not ids:
        raise ValueError(
          f"verbalizer {text!r} has no tokens: its vocabulary encodes it to "
          "nothing. Choose a text that it can write."
        )
      if {PAD_ID, self.eos_id} & set(ids):
        raise ValueError(
          f"verbalizer {text!r}: its tokens {list(ids)} hold padding or an end "
          "of sequence; leave these out, they are added here."
        )
      if ids in seen:
        raise ValueError(
          f"verbalizers {seen[ids]!r} and {text!r} have the same tokens "
          f"{list(ids)}, so no model can tell them apart. Choose other words."
        )
      seen[ids] = text

  @classmethod
  def encode(
    cls, texts: Sequence[str], vocabulary: Vocabulary, *, ends: bool = True
  ) -> "Verbalizers":
    """Returns the verbalizers of `texts` as the vocabulary writes them.

    Args:
      texts: One for each label.
      vocabulary: The model's.
      ends: Whether an end of sequence belongs to each.

    Raises:
      ValueError: If the vocabulary cannot write one of them.
    """
    for text in texts:
      written = vocabulary.decode(vocabulary.encode(text))
      if written != text:
        raise ValueError(
          f"verbalizer {text!r}: the vocabulary writes it as {written!r}, so "
          "that no prediction could equal it; choose a text that it can write."
        )
    return cls(
      texts=tuple(texts),
      tokens=tuple(tuple(vocabulary.encode(text)) for text in texts),
      eos_id=vocabulary.eos_id,
      ends=ends,
    )

  @property
  def targets(self) -> Int[np.ndarray, "C T"]:
    """The verbalizers as targets, with their ends, padded with 0."""
    end = (self.eos_id,) if self.ends else ()
    rows = [(*ids, *end) for ids in self.tokens]
    padded = np.full((len(rows), max(map(len, rows))), PAD_ID, np.int32)
    for row, ids in zip(padded, rows, strict=True):
      row[: len(ids)] = ids
    return padded

  @property
  def lengths(self) -> Int[np.ndarray, " C"]:
    """The number of tokens of each, its end included."""
    return np.asarray([len(ids) + self.ends for ids in self.tokens], np.int32)

  def choices(self, targets: Int[np.ndarray, "B T"]) -> Int[np.ndarray, " B"]:
    """Returns the label of every target.

    Args:
      targets: Token ids, with or without an end of sequence and padding.

    Raises:
      ValueError: If a target is none of the verbalizers.
    """
    labels = {ids: label for label, ids in enumerate(self.tokens)}
    choices = []
    for index, row in enumerate(np.asarray(targets).tolist()):
      end = row.index(self.eos_id) if self.eos_id in row else len(row)
      ids = tuple(token for token in row[:end] if token != PAD_ID)
      if ids not in labels:
        raise ValueError(
          f"target {index} has the tokens {list(ids)}, which are none of the "
          f"verbalizers {self._listing()}; the task and the verbalizers do not "
          "belong together, or its targets were cut."
        )
      choices.append(labels[ids])
    return np.asarray(choices, np.int32)

  def _listing(self) -> str:
    named = zip(self.texts, self.tokens, strict=True)
    return ", ".join(f"{text!r} {list(ids)}" for text, ids in named)


@struct.dataclass
class Ranking:
  """The verdict on a batch.

  Attributes:
    choices: The index of the best verbalizer, int32 [B].
    scores: Log-likelihoods [B, C] in nats, over the number of tokens if
      normalised.
  """

  choices: Int[Array, " B"]
  scores: Float[Array, "B C"]


class RankClassifier:
  """Ranks verbalizers; compiled once for each shape of batch.

  Classifiers of one model with equal settings share what is compiled.
  """

  def __init__(
    self,
    model: T5,
    verbalizers: Verbalizers,
    *,
    length_normalization: LengthNormalization = LengthNormalization.NONE,
    candidates_per_pass: int | None = None,
  ):
    """Checks the verbalizers against the model.

    Args:
      model: The network, prompt included.
      verbalizers: What is ranked.
      length_normalization: Whether long verbalizers are made up for.
      candidates_per_pass: How many verbalizers are decoded at once, to bound
        memory; all by default.

    Raises:
      ValueError: If a verbalizer has a token that the model cannot write, or
        the normalization is unknown.
    """
    vocab_size = model.config.vocab_size
    for text, ids in zip(verbalizers.texts, verbalizers.tokens, strict=True):
      if max(ids) >= vocab_size:
        raise ValueError(
          f"verbalizer {text!r} has the token {max(ids)}, but the model's "
          f"vocabulary has {vocab_size} rows. Is it another vocabulary's?"
        )
    self.verbalizers = verbalizers
    self._model = model
    self._normalization = enum_member(
      LengthNormalization, length_normalization, name="length_normalization"
    )
    self._candidates_per_pass = candidates_per_pass
    self._compile_prompt = PromptCompiler(model)

  def rank(self, params: Params, batch: Batch) -> Ranking:
    """Scores all verbalizers on every input of a batch.

    Args:
      params: All parameters of the model, trainable and frozen.
      batch: At least `encoder_input_tokens` [B, L]; targets are not looked at.
        For a bank whose slots do not stand there, `prompt_index` [B].

    Raises:
      ValueError: If the batch is packed.
    """
    return _rank_tokens(
      params,
      self._compile_prompt(params),
      encoder_inputs(batch),
      batch.get("prompt_index"),
      model=self._model,
      verbalizers=self.verbalizers,
      normalization=self._normalization,
      candidates_per_pass=self._candidates_per_pass,
    )

  def predict(self, params: Params, batch: Batch) -> Int[Array, "B T"]:
    """Returns the best verbalizers as targets, which decode to their text.

    It stands where a generator's predictions would, so that a task's ordinary
    postprocessor and metrics apply.
    """
    choices = self.rank(params, batch).choices
    return jnp.take(jnp.asarray(self.verbalizers.targets), choices, axis=0)


@functools.partial(
  jax.jit,
  static_argnames=(
    "model",
    "verbalizers",
    "normalization",
    "candidates_per_pass",
  ),
)
def _rank_tokens(
  params,
  prompt,
  encoder_input_tokens,
  prompt_index,
  *,
  model: T5,
  verbalizers: Verbalizers,
  normalization: LengthNormalization,
  candidates_per_pass: int | None,
) -> Ranking:
  scores = score_candidates(
    model,
    params,
    encoder_input_tokens,
    jnp.asarray(verbalizers.targets),
    prompt=of_rows(prompt, prompt_index),
    candidates_per_pass=candidates_per_pass,
  )
  if normalization is LengthNormalization.TOKENS:
    scores = scores / verbalizers.lengths.astype(np.float32)
  choices = jnp.argmax(scores, axis=-1).astype(jnp.int32)
  return Ranking(choices=choices, scores=scores)
