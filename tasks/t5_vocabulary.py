"""T5's vocabulary, for tasks that are known by T5's names.

A task needs the vocabulary when it is made, before a recipe says which: it is
T5's public one, or the one that PROMPT_TUNING_T5_VOCABULARY names, a local
SentencePiece model with the same bytes.
"""

import os

from prompt_tuning.data.vocabularies import (
  SentencePieceVocabulary,
  Vocabulary,
)

VOCABULARY_VARIABLE = "PROMPT_TUNING_T5_VOCABULARY"
PUBLIC_VOCABULARY = (
  "gs://t5-data/vocabs/cc_all.32000.100extra/sentencepiece.model"
)


def load() -> Vocabulary:
  """Returns T5's vocabulary.

  Raises:
    ValueError: It cannot be read.
  """
  path = os.environ.get(VOCABULARY_VARIABLE) or PUBLIC_VOCABULARY
  try:
    return SentencePieceVocabulary(path)
  except ValueError as error:
    raise ValueError(
      f"the tasks need T5's vocabulary: {error}; name a copy of it in the "
      f"environment variable {VOCABULARY_VARIABLE}"
    ) from error
