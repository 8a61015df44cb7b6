"""The tasks of the small world.

`small_world_<task>` for each of the five tasks: a bare text to its label, with
the vocabulary of the embedded model; and `small_world`, all five as often as
each other.
"""

import functools
from typing import Any

from prompt_tuning import paths
from prompt_tuning.data import text_mixtures, text_tasks
from prompt_tuning.data.vocabularies import SentencePieceVocabulary
from prompt_tuning.metrics.classification import accuracy
from prompt_tuning.tasks.small_world.documents import SKILLS
from prompt_tuning.tasks.small_world.draw import SPLITS
from prompt_tuning.tasks.small_world.examples import examples

PREFIX = "small_world_"


def _label(text: str, **unused: Any) -> str:
  return text.strip()


def _add_all() -> None:
  vocabulary = SentencePieceVocabulary(
    str(paths.embedded_dir() / "sentencepiece.model")
  )
  for task in SKILLS:
    text_tasks.add(
      PREFIX + task,
      {split: functools.partial(examples, task, split) for split in SPLITS},
      vocabulary=vocabulary,
      postprocess_fn=_label,
      metric_fns=[accuracy],
    )
  text_mixtures.add("small_world", [PREFIX + task for task in SKILLS])


_add_all()
