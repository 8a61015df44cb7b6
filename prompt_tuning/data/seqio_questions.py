"""Prompt pre-training as a seqio Task, for whatever trains on these.

This library's own trainer reads the same questions by number; see
`prompt_pretraining.stream`.
"""

import functools
from collections.abc import Iterator, Mapping
from typing import Any

import seqio
import tensorflow as tf

from prompt_tuning.data import described
from prompt_tuning.data.inputs import Inputs
from prompt_tuning.data.prompt_pretraining import parallel
from prompt_tuning.data.vocabularies import Vocabulary

_TYPES = {
  "inputs": tf.TensorSpec([None], tf.int32),
  "targets": tf.TensorSpec([None], tf.int32),
  "inputs_pretokenized": tf.TensorSpec([], tf.string),
  "targets_pretokenized": tf.TensorSpec([], tf.string),
}


def question_task(
  *,
  name: str,
  inputs: Mapping[str, Inputs],
  vocabulary: Vocabulary,
  num_examples: Mapping[str, int],
  seed: int = 0,
  num_workers: int | None = None,
) -> str:
  """Registers a Task of questions about running text.

  They are made as they are read; the Task may be cached.

  Args:
    name: A name that no other Task has.
    inputs: By split, such as `PretrainingInputs` of each.
    vocabulary: Gives the ids.
    num_examples: By split, how many questions there are: the first ones.
    seed: Decides them.
    num_workers: Processes that make them; one for each core by default.

  Returns:
    The name, to be used as MIXTURE_OR_TASK_NAME. The same task may be described
    again.

  Raises:
    ValueError: Splits differ, or another Task has the name.
  """
  if set(inputs) != set(num_examples):
    raise ValueError(
      f"question_task {name!r}: inputs are of the splits {sorted(inputs)}, "
      f"numbers of examples of {sorted(num_examples)}"
    )
  return described.once(
    name,
    repr((dict(inputs), dict(num_examples), seed, vocabulary.fingerprint)),
    lambda: _add(name, inputs, vocabulary, num_examples, seed, num_workers),
  )


def _add(
  name: str,
  inputs: Mapping[str, Inputs],
  vocabulary: Vocabulary,
  num_examples: Mapping[str, int],
  seed: int,
  num_workers: int | None,
) -> None:
  def questions(split: str) -> Iterator[dict[str, Any]]:
    for example in parallel.examples(
      inputs[split],
      vocabulary,
      num_examples[split],
      seed=seed,
      num_workers=num_workers,
    ):
      yield {key: example[key] for key in _TYPES}

  def dataset(
    split: str, shuffle_files: bool = False, seed: int | None = None
  ) -> tf.data.Dataset:
    del shuffle_files, seed  # Their order is random already.
    return tf.data.Dataset.from_generator(
      functools.partial(questions, split), output_signature=_TYPES
    )

  feature = seqio.Feature(vocabulary=vocabulary.seqio(), add_eos=False)
  # seqio's own sources do not match its protocol.
  source: Any = seqio.FunctionDataSource(
    dataset_fn=dataset,
    splits=tuple(inputs),
    num_input_examples=dict(num_examples),
  )
  seqio.TaskRegistry.add(
    name,
    source=source,
    preprocessors=[seqio.CacheDatasetPlaceholder()],
    output_features={"inputs": feature, "targets": feature},
    metric_fns=[],
  )
