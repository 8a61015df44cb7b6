"""What is put into seqio: Tasks from text to text.

The modules `seqio_*` are the only ones here that import seqio and TensorFlow.

A Task over TensorFlow Datasets is `add_text_task` with
`seqio.TfdsDataSource(tfds_name="glue/sst2:2.0.0")` and preprocessors that make
`inputs` and `targets` of its fields. Unless it lies in the folder that
--tfds_data_dir names, the first run downloads it there.
"""

import contextlib
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import seqio
import tensorflow as tf

from prompt_tuning.data import text_mixtures, text_tasks, vocabularies
from prompt_tuning.data.pattern_tasks import PatternTask

# Of seqio's own steps, which need none, TensorFlow would parse and rewrite the
# source: seconds before the first example.
_without_autograph = tf.autograph.experimental.do_not_convert

# TensorFlow only reads text here; left alone it takes the accelerator's memory.
# Where it runs already, its devices can no longer be changed.
with contextlib.suppress(RuntimeError):
  tf.config.set_visible_devices([], "GPU")


class ExamplesSource(seqio.DataSource):
  """A seqio source of examples that fit into memory, read when first used."""

  def __init__(self, name: str, splits: Mapping[str, text_tasks.Reader]):
    """Reads nothing yet.

    Args:
      name: What to call it in errors.
      splits: See `TextTask`.
    """
    self._name = name
    self._readers = dict(splits)
    self._examples = functools.cache(self._read)
    super().__init__(splits=tuple(splits), performs_internal_shuffling=True)

  @property
  def supports_arbitrary_sharding(self) -> bool:
    """Sharding is left to the Task."""
    return False

  def list_shards(self, split: str) -> Sequence[str]:
    """Returns the split as its only shard."""
    return [split]

  def num_input_examples(self, split: str) -> int:
    """Returns the number of examples of a split."""
    return len(self._examples(split))

  def get_dataset(
    self,
    split: str = "train",
    shuffle: bool = True,
    seed: int | None = None,
    shard_info: seqio.ShardInfo | None = None,
    **unused: Any,
  ) -> tf.data.Dataset:
    """Returns the examples of a split, in the order read unless shuffled."""
    if shard_info and shard_info.num_shards > 1:
      raise ValueError("this source is one shard; let the Task shard it")
    examples = self._examples(split)
    dataset = _dataset(examples)
    return dataset.shuffle(len(examples), seed=seed) if shuffle else dataset

  def check(self, split: str) -> None:
    """Looks at the first example, see `TextTask.check_split`."""
    text_tasks.check_first(self._name, self._readers, split)

  def _read(self, split: str) -> list[text_tasks.TextExample]:
    return text_tasks.read_split(self._name, self._readers, split)


def add_text_task(
  name: str,
  source: seqio.DataSource,
  *,
  vocabulary: vocabularies.Vocabulary,
  preprocessors: Sequence[Callable[..., tf.data.Dataset]] = (),
  postprocess_fn: Callable[..., Any] | None = None,
  metric_fns: Sequence[Callable[..., Mapping[str, Any]]] = (),
) -> seqio.Task:
  """Registers a Task from text to text over a source of seqio's.

  It tokenises, may be cached after that, and appends the end of sequence. It
  does not trim, on purpose. Of files and of what lies in memory,
  `text_tasks.add` makes a task that needs no seqio.

  Args:
    name: A name that no other Task has.
    source: Where examples come from.
    vocabulary: Tokenises both sides.
    preprocessors: Make `inputs` and `targets` of the source's fields, if these
      are not its fields already.
    postprocess_fn: Makes of a text what the metrics compare.
    metric_fns: `(targets, predictions)` or `(targets, scores)` to a mapping.
  """
  feature = seqio.Feature(vocabulary=vocabulary.seqio(), add_eos=True)
  untyped: Any = source  # seqio's own sources do not match its protocol.
  return seqio.TaskRegistry.add(
    name,
    source=untyped,
    preprocessors=[
      *preprocessors,
      _without_autograph(seqio.preprocessors.tokenize),
      seqio.CacheDatasetPlaceholder(),
      _without_autograph(seqio.preprocessors.append_eos),
    ],
    output_features={"inputs": feature, "targets": feature},
    postprocess_fn=postprocess_fn,
    metric_fns=list(metric_fns),
  )


def register(task: text_tasks.TextTask) -> seqio.Task:
  """Makes a text task a seqio Task of the same name.

  Raises:
    ValueError: seqio has another task of that name.
  """
  function = task.postprocess_fn

  def postprocess(text: Any, *, example: Mapping[str, Any], is_target: bool):
    assert function is not None
    return function(text, example=as_numpy(example), is_target=is_target)

  settings: dict[str, Any] = {
    "vocabulary": task.vocabulary,
    "postprocess_fn": None if function is None else postprocess,
    "metric_fns": task.metric_fns,
  }
  if isinstance(task, PatternTask):
    return _add_token_task(task, **settings)
  source = ExamplesSource(task.name, task.splits)
  return add_text_task(task.name, source, **settings)


def _add_token_task(
  task: PatternTask,
  *,
  vocabulary: vocabularies.Vocabulary,
  postprocess_fn: Callable[..., Any] | None,
  metric_fns: Sequence[Callable[..., Mapping[str, Any]]],
) -> seqio.Task:
  """Registers a task whose examples are token ids already."""
  feature = seqio.Feature(vocabulary=vocabulary.seqio(), add_eos=False)

  def read(split: str) -> list[dict[str, Any]]:
    return [
      {**e, **{key: e[key].tolist() for key in ("inputs", "targets")}}
      for e in task.examples(split)
    ]

  readers = {split: functools.partial(read, split) for split in task.splits}
  source: Any = ExamplesSource(task.name, readers)
  return seqio.TaskRegistry.add(
    task.name,
    source=source,
    preprocessors=[seqio.CacheDatasetPlaceholder()],
    output_features={"inputs": feature, "targets": feature},
    postprocess_fn=postprocess_fn,
    metric_fns=list(metric_fns),
  )


def register_mixture(mixture: text_mixtures.TextMixture) -> seqio.Mixture:
  """Makes a text mixture a seqio Mixture of the same name.

  Raises:
    ValueError: seqio has another mixture or task of that name.
  """

  def rate(task: seqio.Task) -> float:
    return mixture.rate(task.num_input_examples("train") or 0)

  # What is only evaluated is never drawn, and so needs no rate.
  drawn = [(t.name, rate if "train" in t.splits else 0) for t in mixture.tasks]
  return seqio.MixtureRegistry.add(mixture.name, drawn)


def as_numpy(example: Mapping[str, Any]) -> dict[str, Any]:
  """Text becomes str, token ids int32, other numbers plain, lists lists."""
  converted: dict[str, Any] = {}
  for name, value in example.items():
    if isinstance(value, bytes):
      converted[name] = value.decode("utf-8")
    elif isinstance(value, np.ndarray) and value.dtype.kind in "iu":
      converted[name] = value.astype(np.int32)
    elif isinstance(value, np.ndarray) and value.dtype == object:
      converted[name] = [each.decode("utf-8") for each in value.tolist()]
    elif isinstance(value, np.generic):
      converted[name] = value.item()
    else:
      converted[name] = value
  return converted


def _dataset(examples: Sequence[text_tasks.TextExample]) -> tf.data.Dataset:
  """Returns examples as TensorFlow has them; lists differ in length."""
  columns: Any = {name: [e[name] for e in examples] for name in examples[0]}
  for name, values in columns.items():
    if isinstance(values[0], list | tuple):
      columns[name] = tf.ragged.constant(list(map(list, values)))
  dataset = tf.data.Dataset.from_tensor_slices(columns)
  return dataset.map(_without_autograph(_dense))


def _dense(example: Any) -> Any:
  return {
    name: value.to_tensor() if isinstance(value, tf.RaggedTensor) else value
    for name, value in example.items()
  }


for _task in text_tasks.everything():
  register(_task)
for _mixture in text_mixtures.everything():
  register_mixture(_mixture)
