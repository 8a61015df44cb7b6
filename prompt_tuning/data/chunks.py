"""How running text is cut for an objective, and what is made of a piece."""

import dataclasses
import enum
import functools

from prompt_tuning.data import objectives, streams
from prompt_tuning.data.features import FeatureLengths
from prompt_tuning.data.vocabularies import Vocabulary

_NUM_SENTINELS = 100


class Objective(enum.Enum):
  """How running text becomes inputs and targets."""

  SPAN_CORRUPTION = "span_corruption"
  PREFIX_LM = "prefix_lm"


@dataclasses.dataclass(frozen=True)
class Chunks:
  """Pieces of running text that fill a row.

  Attributes:
    objective: Makes inputs and targets of a piece.
    length: Tokens of a piece, the last of a document or of all but shorter.
    documents: Whether a piece may span documents.
  """

  objective: streams.Objective
  length: int
  documents: streams.Documents


def chunks_for(
  objective: Objective,
  vocabulary: Vocabulary,
  lengths: FeatureLengths,
  *,
  noise_density: float = 0.15,
  mean_span_length: float = 3.0,
) -> Chunks:
  """Returns pieces as long as the feature lengths allow without cutting.

  Args:
    objective: How text becomes inputs and targets.
    vocabulary: Has the sentinels.
    lengths: What a row holds.
    noise_density: For span corruption, the fraction of tokens to hide.
    mean_span_length: For span corruption, in tokens.

  Raises:
    ValueError: The lengths are too short.
  """
  if objective is Objective.PREFIX_LM:
    return Chunks(
      objectives.prefix_lm,
      # Wherever the text is split, either part and its end must fit.
      length=min(lengths.inputs, lengths.targets) - 1,
      documents=streams.Documents.SEPARATE,
    )
  noise = {
    "noise_density": noise_density,
    "mean_span_length": mean_span_length,
  }
  fitting = objectives.lengths_for_span_corruption(
    lengths.inputs, targets_length=lengths.targets, **noise
  )
  return Chunks(
    functools.partial(
      objectives.span_corruption,
      vocab_size=vocabulary.vocab_size,
      # ByT5 has no extra ids: its sentinels are its topmost bytes.
      num_sentinels=vocabulary.extra_ids or _NUM_SENTINELS,
      **noise,
    ),
    length=fitting.raw,
    documents=streams.Documents.JOINED,
  )
