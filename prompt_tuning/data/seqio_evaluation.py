"""Evaluation of seqio Tasks: predictions or scores in, metrics out.

The work is seqio.Evaluator's: it decodes, post-processes and calls the metrics
of each Task. Here it gets batches with the slots in place and functions from
NumPy to NumPy.
"""

import dataclasses
import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import seqio
import tensorflow as tf
from absl import logging
from seqio import loggers

from prompt_tuning import paths
from prompt_tuning.data import features as features_lib
from prompt_tuning.data import seqio_input

Predict = Callable[[features_lib.Features], np.ndarray]
"""A batch to the predicted tokens, int32 [B, T]."""

Score = Callable[[features_lib.Features], np.ndarray]
"""A batch to the log-likelihood of its targets, float [B], in nats."""

_PREDICTION = seqio.metrics.ModelOutputType.PREDICTION
_SCORE = seqio.metrics.ModelOutputType.SCORE
# What of an example is laid out.
_READ = ("inputs", "targets", "prompt_index")


class PromptFeatureConverter:
  """From task features to model features, as seqio.Evaluator calls it.

  Unlike seqio's own converters it never sees trimmed text, and cuts only what
  may be cut.
  """

  TASK_FEATURES: Mapping[str, seqio.FeatureConverter.FeatureSpec] = {
    "inputs": seqio.FeatureConverter.FeatureSpec(dtype=tf.int32),
    "targets": seqio.FeatureConverter.FeatureSpec(dtype=tf.int32),
  }
  pack = False

  def __init__(self, builder: features_lib.FeatureBuilder):
    """Converts by `builder`, which counts what it cuts."""
    self._builder = builder

  def __call__(
    self,
    ds: tf.data.Dataset,
    task_feature_lengths: Mapping[str, int] | None = None,
  ) -> tf.data.Dataset:
    """Returns one row of model features for each example.

    Args:
      ds: Examples with `inputs` and `targets`, for a bank `prompt_index`.
      task_feature_lengths: Not used; the builder has its own.
    """
    del task_feature_lengths
    padding = self._builder.batch([], num_rows=1)
    types = [tf.as_dtype(feature.dtype) for feature in padding.values()]

    def convert(example: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
      names = [name for name in _READ if name in example]
      rows = tf.numpy_function(
        functools.partial(self._row, names),
        [example[name] for name in names],
        types,
      )
      for row, feature in zip(rows, padding.values(), strict=True):
        row.set_shape(feature.shape[1:])
      return dict(zip(padding, rows, strict=True))

    return ds.map(convert)

  def _row(self, names: Sequence[str], *values: np.ndarray) -> list[np.ndarray]:
    example = dict(zip(names, values, strict=True))
    batch = self._builder.batch([example])
    return [feature[0] for feature in batch.values()]


@dataclasses.dataclass(frozen=True)
class TaskEvaluation:
  """What came out for one Task.

  Attributes:
    metrics: By name, as the metric functions of the Task give them.
    num_examples: Examples evaluated.
    cuts: One line about what did not fit.
  """

  metrics: dict[str, Any]
  num_examples: int
  cuts: str


class TaskEvaluator:
  """Evaluates a Task, or every Task of a Mixture that has metrics and a split.

  Examples are read once, when it is made.
  """

  def __init__(
    self,
    name: str,
    *,
    builder: features_lib.FeatureBuilder,
    batch_size: int,
    split: str = "validation",
    output_dir: str | None = None,
    num_examples: int | None = None,
    use_cached: bool = False,
    module: str | None = None,
  ):
    """Reads the examples, and checks that they fit.

    Args:
      name: MIXTURE_OR_TASK_NAME.
      builder: Lays examples out.
      batch_size: B, rows that the evaluated functions get, the last batch
        filled up with padding.
      split: Such as "validation".
      output_dir: Where to append `<task>-metrics.jsonl` and to write the
        predictions `<task>-<step>.jsonl`; None for nowhere. A step that was
        there before is replaced in both.
      num_examples: Evaluate only so many of the first examples of each Task.
      use_cached: USE_CACHED_TASKS: read what seqio cached.
      module: MIXTURE_OR_TASK_MODULE, imported first.

    Raises:
      ValueError: As `seqio_input.read_task`; or no Task has metrics and the
        split; or an example does not fit.
    """
    provider = seqio_input.find(name, module=module)
    check_tasks(provider, split, use_cached=use_cached)
    if output_dir is not None:
      paths.make_writable_dir(output_dir)
    self._batch_size = batch_size
    # It asks for seqio's own class and needs no more than ours has.
    converter: Any = PromptFeatureConverter(builder)
    self._evaluator = seqio.Evaluator(
      name,
      feature_converter=converter,
      eval_split=split,
      use_cached=use_cached,
      # None keeps seqio from trimming.
      sequence_length=None,
      num_examples=num_examples,
      logger_cls=(_OncePerStep,) if output_dir else (),
      log_dir=output_dir,
      # An error in a metric should end the run, not a thread.
      async_compute_metrics=False,
    )
    self.cuts: dict[str, str] = {}
    for task, examples in self._evaluator.cached_task_datasets.items():
      # Ahead of TensorFlow, which would bury the error in its own.
      self.cuts[task] = builder.check(examples.as_numpy_iterator())
      logging.info("To evaluate %s: %s", task, self.cuts[task])

  def evaluate(
    self,
    *,
    predict: Predict | None = None,
    score: Score | None = None,
    step: int | None = None,
  ) -> dict[str, TaskEvaluation]:
    """Runs the functions over all examples and computes the metrics.

    Args:
      predict: For metrics of predictions. Rank classification gives the tokens
        of the verbalizer it chose.
      score: For metrics of scores.
      step: The training step, named in the files.

    Returns:
      Results by the name of the Task.

    Raises:
      ValueError: A metric needs a function that is missing.
    """
    functions = {_PREDICTION: predict, _SCORE: score}
    for task in self._evaluator.eval_tasks:
      for kind in {metric.model_output_type for metric in task.metric_objs}:
        if functions.get(kind) is None:
          raise ValueError(
            f"a metric of task {task.name!r} needs {kind.name.lower()}s, and "
            "no function for these was given"
          )
    metrics, _ = self._evaluator.evaluate(
      compute_metrics=True,
      step=step,
      model_fns={
        kind: _over_dataset(function, batch_size=self._batch_size)
        for kind, function in functions.items()
        if function is not None
      },
    )
    datasets = self._evaluator.cached_task_datasets
    return {
      task: TaskEvaluation(
        dict(values), int(datasets[task].cardinality()), self.cuts[task]
      )
      for task, values in metrics.result().items()
    }


class _OncePerStep(loggers.JSONLogger):
  """seqio's JSONL files, in which a step that comes again replaces itself.

  It comes again where a run was killed between an evaluation and the next
  checkpoint. Its predictions are replaced likewise: a folder holds what was
  found last at a step.
  """

  def __call__(
    self, task_name: str, step: int | None, *args: Any, **kwargs: Any
  ) -> None:
    file = paths.as_path(self.output_dir) / f"{task_name}-metrics.jsonl"
    if step is not None and paths.exists(file):
      lines = paths.read_text(file).splitlines()
      kept = [line for line in lines if json.loads(line)["step"] != step]
      if len(kept) < len(lines):
        paths.write_text(file, "".join(f"{line}\n" for line in kept))
    super().__call__(task_name, step, *args, **kwargs)


def check_tasks(
  provider: seqio_input.TaskOrMixture, split: str, *, use_cached: bool
) -> None:
  """Checks what seqio.Evaluator would only skip, with a line in the log.

  Raises:
    ValueError: No task has metrics and the split; or one that has cannot be
      read, see `seqio_input.check_readable`.
  """
  tasks = seqio.get_subtasks(provider)
  splits = {
    task.name: list(seqio_input.splits(task, use_cached=use_cached))
    for task in tasks
  }
  evaluated = [t for t in tasks if t.metric_objs and split in splits[t.name]]
  if not evaluated:
    raise ValueError(
      f"nothing to evaluate: no task of {provider.name!r} has metrics and a "
      f"split {split!r}; tasks and splits are {splits}"
    )
  for task in evaluated:
    seqio_input.check_readable(task, split, use_cached=use_cached)


def _over_dataset(
  function: Callable[[features_lib.Features], np.ndarray], *, batch_size: int
) -> Callable[..., list[tuple[int, Any]]]:
  """Makes of a function of batches one of an enumerated dataset."""

  def run(
    dataset: tf.data.Dataset, model_feature_shapes: Any = None
  ) -> list[tuple[int, Any]]:
    del model_feature_shapes
    outputs: list[tuple[int, np.ndarray]] = []
    for indices, batch in _padded_batches(dataset, batch_size):
      values = np.asarray(function(batch))
      if values.shape[:1] != (batch_size,):
        raise ValueError(
          f"an evaluation function must return {batch_size} rows, got an array "
          f"of shape {values.shape}"
        )
      outputs += zip(indices.tolist(), values, strict=False)
    return outputs

  return run


def _padded_batches(
  dataset: tf.data.Dataset, batch_size: int
) -> Iterator[tuple[np.ndarray, features_lib.Features]]:
  """Yields example numbers, and features filled up to the batch size."""
  for indices, batch in dataset.batch(batch_size).as_numpy_iterator():
    missing = batch_size - indices.size
    yield (
      indices,
      {
        name: np.pad(values, ((0, missing), (0, 0)))
        for name, values in batch.items()
      },
    )
