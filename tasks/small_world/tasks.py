"""Registers the tasks of the small world with seqio.

`small_world_<task>` for each of the five tasks: its bare text to its label.
"""

import functools
from collections.abc import Mapping
from typing import Any

import seqio
import tensorflow as tf

from prompt_tuning import paths
from prompt_tuning.metrics.classification import accuracy
from prompt_tuning.tasks.small_world.documents import SKILLS
from prompt_tuning.tasks.small_world.draw import SPLITS
from prompt_tuning.tasks.small_world.examples import NUM_EXAMPLES, examples

PREFIX = "small_world_"


def task_name(task: str) -> str:
  """Returns the name in seqio's registry of one of the five tasks."""
  return PREFIX + task


def _dataset(
  split: str, shuffle_files: bool = False, seed: int | None = None, *, task: str
) -> tf.data.Dataset:
  """All examples in a fixed order; seqio shuffles while it trains."""
  del shuffle_files, seed
  found = examples(task, split)
  columns = {
    key: tf.constant([example[key] for example in found])
    for key in ("inputs", "targets")
  }
  return tf.data.Dataset.from_tensor_slices(columns)


def _label(text: str, **unused: Any) -> str:
  return text.strip()


def _register(
  task: str, output_features: Mapping[str, seqio.Feature]
) -> seqio.Task:
  return seqio.TaskRegistry.add(
    task_name(task),
    source=seqio.FunctionDataSource(
      dataset_fn=functools.partial(_dataset, task=task),
      splits=SPLITS,
      num_input_examples=NUM_EXAMPLES,
    ),
    preprocessors=[
      seqio.preprocessors.tokenize,
      seqio.preprocessors.append_eos,
    ],
    output_features=output_features,
    postprocess_fn=_label,
    metric_fns=[accuracy],
  )


def _register_all() -> None:
  vocabulary = seqio.SentencePieceVocabulary(
    str(paths.embedded_dir() / "sentencepiece.model"), extra_ids=100
  )
  features = {
    "inputs": seqio.Feature(vocabulary, add_eos=True),
    "targets": seqio.Feature(vocabulary, add_eos=True),
  }
  for task in SKILLS:
    _register(task, features)


_register_all()
