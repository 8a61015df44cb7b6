"""Running text as seqio Tasks, for whatever trains on these.

This library's own trainer reads running text by `inputs.CorpusInputs`, which
finds any example by its number; the objectives are the same.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import seqio
import tensorflow as tf

from prompt_tuning.data import chunks as chunks_lib
from prompt_tuning.data import streams
from prompt_tuning.data.chunks import Objective
from prompt_tuning.data.features import FeatureLengths
from prompt_tuning.data.vocabularies import Vocabulary
from prompt_tuning.types import enum_member

# As T5 does: so many documents are cut as one text where they are joined.
_DOCUMENTS_AT_A_TIME = 128
_MIN_CHUNK = 2


def noised(
  dataset: tf.data.Dataset,
  sequence_length: Mapping[str, int],
  *,
  vocabulary: Vocabulary,
  objective: Objective,
) -> tf.data.Dataset:
  """A preprocessor: tokenised documents to inputs and targets.

  Args:
    dataset: Documents, as `targets`.
    sequence_length: What the Task is read with, which chunks fill.
    vocabulary: Has the sentinels.
    objective: How text becomes inputs and targets.

  Returns:
    Inputs and targets, each with the end of sequence appended.

  Raises:
    ValueError: The lengths are too short for the objective.
  """
  chunks = chunks_lib.chunks_for(
    objective,
    vocabulary,
    FeatureLengths.from_mapping(
      {name: sequence_length[name] for name in ("inputs", "targets")}
    ),
  )
  documents = dataset.map(lambda example: example["targets"])
  if chunks.documents is streams.Documents.JOINED:
    documents = documents.ragged_batch(_DOCUMENTS_AT_A_TIME).map(
      lambda batch: batch.flat_values
    )
  pieces = documents.flat_map(_Pieces(chunks.length))
  pieces = pieces.filter(lambda ids: tf.size(ids) >= _MIN_CHUNK)
  mapped: Any = seqio.map_over_dataset(_drawing(chunks), num_seeds=1)
  return mapped(pieces)


def add_corpus_task(
  name: str,
  source: seqio.DataSource,
  *,
  vocabulary: Vocabulary,
  objective: Objective | str,
  text_field: str = "text",
) -> seqio.Task:
  """Registers a Task of running text over a source of seqio's.

  It may be cached after tokenising.

  Args:
    name: A name that no other Task has.
    source: Where documents come from.
    vocabulary: Gives the ids.
    objective: How text becomes inputs and targets.
    text_field: The field that holds the text.

  Raises:
    ValueError: There is no such objective.
  """
  chosen = enum_member(Objective, objective, name="objective")
  feature = seqio.Feature(vocabulary=vocabulary.seqio(), add_eos=True)
  rekeyed = seqio.preprocessors.rekey
  untyped: Any = source  # seqio's own sources do not match its protocol.
  return seqio.TaskRegistry.add(
    name,
    source=untyped,
    preprocessors=[
      lambda dataset: rekeyed(dataset, key_map={"targets": text_field}),
      seqio.preprocessors.tokenize,
      seqio.CacheDatasetPlaceholder(),
      functools.partial(noised, vocabulary=vocabulary, objective=chosen),
    ],
    output_features={"inputs": feature, "targets": feature},
    metric_fns=[],
  )


@dataclasses.dataclass(frozen=True)
class _Pieces:
  """Cuts a text into pieces, the last one shorter."""

  length: int

  def __call__(self, ids: tf.Tensor) -> tf.data.Dataset:
    size = tf.size(ids, out_type=tf.int64)
    starts = tf.range(0, size, self.length)
    splits = tf.concat([starts, size[tf.newaxis]], axis=0)
    ragged: Any = tf.RaggedTensor  # Unknown to the type checker.
    pieces = ragged.from_row_splits(ids, splits)
    return tf.data.Dataset.from_tensor_slices(pieces)


def _drawing(chunks: chunks_lib.Chunks) -> Callable[..., dict[str, tf.Tensor]]:
  """Returns what makes inputs and targets of a piece, with a seed's noise."""

  def draw(ids: np.ndarray, seed: np.ndarray) -> list[np.ndarray]:
    # seqio's seeds are pairs of int32; NumPy wants no sign.
    rng = np.random.default_rng(seed.astype(np.uint32))
    example = chunks.objective(ids, rng)
    return [example["inputs"], example["targets"]]

  def drawn(ids: tf.Tensor, seed: tf.Tensor) -> dict[str, tf.Tensor]:
    inputs, targets = tf.numpy_function(
      draw, [ids, seed], [tf.int32, tf.int32], stateful=False
    )
    return {
      "inputs": tf.ensure_shape(inputs, [None]),
      "targets": tf.ensure_shape(targets, [None]),
    }

  return drawn
