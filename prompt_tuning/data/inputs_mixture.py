"""Several inputs at once, each in an order of its own."""

import dataclasses
from collections.abc import Sequence

from prompt_tuning.data import streams
from prompt_tuning.data.features import FeatureLengths
from prompt_tuning.data.inputs import Inputs
from prompt_tuning.data.vocabularies import Vocabulary


@dataclasses.dataclass(frozen=True, kw_only=True)
class InputsMixture:
  """Endless examples of several inputs, drawn at given rates.

  Attributes:
    parts: The inputs; their names differ.
    rates: How often an example of each comes, relative to the others; None for
      equally often.

  Raises:
    ValueError: There is no part, two have a name, or the rates are not as many.
  """

  parts: Sequence[Inputs]
  rates: Sequence[float] | None = None

  def __post_init__(self):
    names = [part.name for part in self.parts]
    if not names or len(set(names)) < len(names):
      raise ValueError(
        "InputsMixture.parts: expected inputs with names of their own, got "
        f"{names}"
      )
    if self.rates is not None and len(self.rates) != len(names):
      raise ValueError(
        f"InputsMixture.rates: expected one for each of {names}, got "
        f"{list(self.rates)}"
      )

  @property
  def name(self) -> str:
    """The names of the parts."""
    return "+".join(part.name for part in self.parts)

  @property
  def truncate_targets(self) -> bool:
    """Whether all parts let a target be cut."""
    return all(part.truncate_targets for part in self.parts)

  def check(self, vocabulary: Vocabulary, lengths: FeatureLengths) -> None:
    """Checks each part that can be checked without reading it.

    Raises:
      ValueError: As a part.
    """
    for part in self.parts:
      check = getattr(part, "check", None)
      if check is not None:
        check(vocabulary, lengths)

  def stream(
    self, vocabulary: Vocabulary, lengths: FeatureLengths, *, seed: int
  ) -> streams.MixtureStream:
    """Returns the examples in the order of `seed`.

    Raises:
      ValueError: As a part, or a rate is not positive.
    """
    rates = self.rates or [1.0] * len(self.parts)
    return streams.MixtureStream(
      {
        part.name: part.stream(vocabulary, lengths, seed=seed)
        for part in self.parts
      },
      rates={
        part.name: float(rate)
        for part, rate in zip(self.parts, rates, strict=True)
      },
      seed=seed,
    )
