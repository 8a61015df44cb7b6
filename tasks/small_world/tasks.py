"""Registers the tasks of the small world with seqio.

`small_world_<task>` for each of the five tasks: a bare text to its label, with
the vocabulary of the embedded model.
"""

import functools
from typing import Any

from prompt_tuning import paths
from prompt_tuning.data import seqio_input
from prompt_tuning.data.vocabularies import SentencePieceVocabulary
from prompt_tuning.metrics.classification import accuracy
from prompt_tuning.tasks.small_world.documents import SKILLS
from prompt_tuning.tasks.small_world.draw import SPLITS
from prompt_tuning.tasks.small_world.examples import examples

PREFIX = "small_world_"


def _label(text: str, **unused: Any) -> str:
  return text.strip()


def _register_all() -> None:
  vocabulary = SentencePieceVocabulary(
    str(paths.embedded_dir() / "sentencepiece.model")
  )
  for task in SKILLS:
    seqio_input.add_text_task(
      PREFIX + task,
      seqio_input.ExamplesSource(
        {split: functools.partial(examples, task, split) for split in SPLITS}
      ),
      vocabulary=vocabulary,
      postprocess_fn=_label,
      metric_fns=[accuracy],
    )


_register_all()
