"""How answers are found: a choice that a recipe makes."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Protocol

import jax

from prompt_tuning.data.features import FeatureLengths
from prompt_tuning.data.vocabularies import Vocabulary
from prompt_tuning.evaluate.generation import (
  BeamSearch,
  Generator,
  Greedy,
  Sampling,
)
from prompt_tuning.evaluate.rank_classification import (
  LengthNormalization,
  RankClassifier,
  Verbalizers,
)
from prompt_tuning.model.t5 import T5
from prompt_tuning.types import Array, Batch, Int, Params

Predict = Callable[[Params, Batch, jax.Array], Int[Array, "B T"]]
"""`(all parameters, batch, key of each row [B]) -> token ids`."""

_GREEDY = Greedy()


class Predictor(Protocol):
  """Makes the function that answers batches."""

  def build(
    self, model: T5, *, vocabulary: Vocabulary, lengths: FeatureLengths
  ) -> Predict:
    """Returns the function, compiled at its first call."""
    ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Generation:
  """Writes the answer freely.

  Attributes:
    decoder: How tokens are chosen.
  """

  decoder: Greedy | BeamSearch | Sampling = _GREEDY

  def build(
    self, model: T5, *, vocabulary: Vocabulary, lengths: FeatureLengths
  ) -> Predict:
    """Returns the function; answers are as long as the targets may be."""
    del vocabulary
    generator = Generator(
      model, max_decode_length=lengths.targets, decoder=self.decoder
    )
    return lambda params, batch, rngs: generator.predict(
      params, batch, rngs=rngs
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class RankClassification:
  """Takes the likeliest of given answers.

  Attributes:
    labels: The verbalizers.
    length_normalization: Whether long verbalizers are made up for.
    prefix: Text in front of each, such as "<extra_id_0> ".
    ends: Whether targets have an end of sequence, which is scored too.
  """

  labels: Sequence[str]
  length_normalization: LengthNormalization = LengthNormalization.NONE
  prefix: str = ""
  ends: bool = True

  def build(
    self, model: T5, *, vocabulary: Vocabulary, lengths: FeatureLengths
  ) -> Predict:
    """Returns the function."""
    del lengths
    classifier = self.classifier(model, vocabulary=vocabulary)
    return lambda params, batch, rngs: classifier.predict(params, batch)

  def classifier(self, model: T5, *, vocabulary: Vocabulary) -> RankClassifier:
    """Returns what ranks the labels, and tells how likely each is.

    Raises:
      ValueError: The vocabulary cannot write a label.
    """
    return RankClassifier(
      model,
      Verbalizers.encode(
        [self.prefix + label for label in self.labels],
        vocabulary,
        ends=self.ends,
      ),
      length_normalization=self.length_normalization,
    )
