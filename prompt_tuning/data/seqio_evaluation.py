"""Evaluation of seqio Tasks: predictions or scores in, metrics out.

The work is seqio.Evaluator's: it decodes, post-processes and calls the metrics
of each Task. Here it gets functions from batches to NumPy.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

import seqio
import tensorflow as tf
from absl import logging
from seqio import loggers

from prompt_tuning import paths
from prompt_tuning.data import features as features_lib
from prompt_tuning.data import seqio_input
from prompt_tuning.data.batches import check_shapes, evaluation_batches
from prompt_tuning.data.evaluation import Answer, TaskResult, check_rows

_PREDICTION = seqio.metrics.ModelOutputType.PREDICTION
_SCORE = seqio.metrics.ModelOutputType.SCORE
# What of an example is laid out.
_READ = ("inputs", "targets", "prompt_index")


class _TaskFeatures:
  """Task features as they are, where seqio.Evaluator asks for model features.

  Rows are laid out when it is known which examples stand together.
  """

  TASK_FEATURES: Mapping[str, seqio.FeatureConverter.FeatureSpec] = {
    "inputs": seqio.FeatureConverter.FeatureSpec(dtype=tf.int32),
    "targets": seqio.FeatureConverter.FeatureSpec(dtype=tf.int32),
  }
  pack = False

  def __call__(
    self,
    ds: tf.data.Dataset,
    task_feature_lengths: Mapping[str, int] | None = None,
  ) -> tf.data.Dataset:
    del task_feature_lengths  # What fits is the builder's to know.
    return ds.map(
      lambda example: {k: example[k] for k in _READ if k in example}
    )


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
    length_buckets: int = 1,
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
      batch_size: B, rows that the evaluated functions get.
      length_buckets: How many encoder lengths they get, see
        `batches.evaluation_batches`.
      split: Such as "validation".
      output_dir: Where to append `<task>-metrics.jsonl` and to write the
        predictions `<task>-<step>.jsonl`; None for nowhere. A step that was
        there before is replaced in both.
      num_examples: Evaluate only so many of the first examples of each Task.
      use_cached: USE_CACHED_TASKS: read what seqio cached.
      module: MIXTURE_OR_TASK_MODULE, imported first.

    Raises:
      ValueError: As `seqio_input.read_task`; or no Task has metrics and the
        split; or an example does not fit, or a size is not positive.
    """
    check_shapes(batch_size=batch_size, length_buckets=length_buckets)
    provider = seqio_input.find(name, module=module)
    check_tasks(provider, split, use_cached=use_cached)
    if output_dir is not None:
      paths.make_writable_dir(output_dir)
    self._builder = builder
    self._batch_size = batch_size
    self._length_buckets = length_buckets
    # It asks for seqio's own class and needs no more than ours has.
    converter: Any = _TaskFeatures()
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
    predict: Answer | None = None,
    score: Answer | None = None,
    step: int | None = None,
  ) -> dict[str, TaskResult]:
    """Runs the functions and computes the metrics; see `Evaluator`."""
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
        kind: self._over_dataset(function)
        for kind, function in functions.items()
        if function is not None
      },
    )
    datasets = self._evaluator.cached_task_datasets
    return {
      task: TaskResult(
        dict(values), int(datasets[task].cardinality()), self.cuts[task]
      )
      for task, values in metrics.result().items()
    }

  def _over_dataset(
    self, answer: Answer
  ) -> Callable[..., list[tuple[int, Any]]]:
    """Makes of a function of batches one of an enumerated dataset."""

    def run(
      dataset: tf.data.Dataset, model_feature_shapes: Any = None
    ) -> list[tuple[int, Any]]:
      del model_feature_shapes
      batches = evaluation_batches(
        [example for _, example in dataset.as_numpy_iterator()],
        self._builder,
        batch_size=self._batch_size,
        length_buckets=self._length_buckets,
      )
      outputs: list[tuple[int, Any]] = []
      for batch, values in answer(batches):
        check_rows(values, batch)
        outputs += batch.by_example(values)
      return outputs

    return run


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
