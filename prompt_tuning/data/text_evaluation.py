"""Evaluation of text tasks: predictions or scores in, metrics out.

It does for them what seqio.Evaluator does for seqio's, and writes the same
files.
"""

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging

from prompt_tuning import paths
from prompt_tuning.data.batches import check_shapes, evaluation_batches
from prompt_tuning.data.evaluation import Answer, TaskResult, check_rows
from prompt_tuning.data.features import FeatureBuilder
from prompt_tuning.data.text_tasks import UNLABELLED, TextTask
from prompt_tuning.data.views import View, examples_of

_TARGETS = "targets"
_PREDICTIONS = "predictions"
_SCORES = "scores"


class TextEvaluator:
  """Evaluates a text task, whose examples are read once, when it is made."""

  def __init__(
    self,
    task: TextTask,
    *,
    builder: FeatureBuilder,
    batch_size: int,
    length_buckets: int = 1,
    split: str = "validation",
    output_dir: str | None = None,
    num_examples: int | None = None,
    view: View | None = None,
  ):
    """Reads the examples, and checks that they fit.

    Args:
      task: The task.
      builder: Lays examples out.
      batch_size: B, rows that the evaluated functions get.
      length_buckets: How many encoder lengths they get, see
        `batches.evaluation_batches`.
      split: Such as "validation".
      output_dir: Where to append `<task>-metrics.jsonl` and to write the
        predictions `<task>-<step>.jsonl`; None for nowhere. A step that was
        there before is replaced in both.
      num_examples: Evaluate only so many of the first examples.
      view: What is seen of the split, before that; None for all.

    Raises:
      ValueError: As `check_evaluation` and `TextTask.examples`; or an example
        has no label or does not fit, or a size is not positive.
    """
    check_shapes(batch_size=batch_size, length_buckets=length_buckets)
    check_evaluation(task, split)
    if output_dir is not None:
      paths.make_writable_dir(output_dir)
    self._task = task
    self._view = view
    self._builder = builder
    self._batch_size = batch_size
    self._length_buckets = length_buckets
    self._output_dir = output_dir
    self._examples = examples_of(task, split, view)[:num_examples]
    _check_labelled(self._examples, task, split)
    self._targets = self._compared_all(
      [example["targets_pretokenized"] for example in self._examples],
      is_target=True,
    )
    self._cuts = builder.check(self._examples)
    logging.info("To evaluate %s: %s", task.name, self._cuts)

  def evaluate(
    self,
    *,
    predict: Answer | None = None,
    score: Answer | None = None,
    step: int | None = None,
  ) -> dict[str, TaskResult]:
    """Runs the functions and computes the metrics; see `Evaluator`."""
    wanted = {_judges(metric) for metric in self._task.metric_fns}
    for kind, function in ((_PREDICTIONS, predict), (_SCORES, score)):
      if kind in wanted and function is None:
        raise ValueError(
          f"a metric of task {self._task.name!r} needs {kind}, and no function "
          "for these was given"
        )
    found: dict[str, Sequence[Any]] = {}
    columns: dict[str, Sequence[Any]] = {"target": self._targets}
    if _PREDICTIONS in wanted:
      texts = self._texts(predict)
      found[_PREDICTIONS] = self._compared_all(texts, is_target=False)
      columns |= {"output": texts, "prediction": found[_PREDICTIONS]}
    if _SCORES in wanted:
      found[_SCORES] = columns["score"] = self._ask(score)
    metrics: dict[str, Any] = {}
    for metric in self._task.metric_fns:
      values = metric(self._targets, found[_judges(metric)])
      twice = sorted(set(values) & set(metrics))
      if twice:
        raise ValueError(
          f"two metrics of task {self._task.name!r} give {', '.join(twice)}; "
          "call one of them otherwise"
        )
      metrics.update(values)
    if self._output_dir is not None:
      self._write(paths.as_path(self._output_dir), metrics, columns, step)
    result = TaskResult(metrics, len(self._examples), self._cuts)
    return {self._task.name: result}

  def _texts(self, predict: Answer | None) -> list[str]:
    decode = self._task.vocabulary.decode
    texts = [decode(tokens) for tokens in self._ask(predict)]
    return texts if self._view is None else list(map(self._view.answer, texts))

  def _ask(self, answer: Answer | None) -> list[Any]:
    """Returns what a function finds for each example."""
    assert answer is not None  # `evaluate` has looked.
    outputs: list[Any] = [None] * len(self._examples)
    batches = evaluation_batches(
      self._examples,
      self._builder,
      batch_size=self._batch_size,
      length_buckets=self._length_buckets,
    )
    for batch, values in answer(batches):
      check_rows(values, batch)
      for number, value in batch.by_example(np.asarray(values).tolist()):
        outputs[number] = value
    return outputs

  def _compared_all(
    self, texts: Sequence[str], *, is_target: bool
  ) -> list[Any]:
    """Returns what the metrics compare of each example's text."""
    postprocess = self._task.postprocess_fn
    if postprocess is None:
      return list(texts)
    return [
      postprocess(text, example=example, is_target=is_target)
      for text, example in zip(texts, self._examples, strict=True)
    ]

  def _write(
    self,
    folder: Any,
    metrics: Mapping[str, Any],
    columns: Mapping[str, Sequence[Any]],
    step: int | None,
  ) -> None:
    name, step = self._task.name, -1 if step is None else step
    file = folder / f"{name}-metrics.jsonl"
    lines = paths.read_text(file).splitlines() if paths.exists(file) else []
    # A step comes again where a run was killed before its next checkpoint.
    kept = [row for row in map(json.loads, lines) if row["step"] != step]
    rows = [
      {"input": example}
      | {key: column[index] for key, column in columns.items()}
      for index, example in enumerate(self._examples)
    ]
    if metrics:
      paths.write_text(file, _as_lines([*kept, {"step": step, **metrics}]))
    paths.write_text(folder / f"{name}-{step:06}.jsonl", _as_lines(rows))


def check_evaluation(task: TextTask, split: str) -> None:
  """Checks what shows of an evaluation before the split is read.

  Raises:
    ValueError: The task has no metrics, a metric is none that can be computed
      here, or the split cannot be read.
  """
  if not task.metric_fns:
    raise ValueError(f"nothing to evaluate: task {task.name!r} has no metrics")
  for metric in task.metric_fns:
    _judges(metric)
  task.check_split(split)


def _check_labelled(
  examples: Sequence[Mapping[str, Any]], task: TextTask, split: str
) -> None:
  """Refuses examples without a label, of which a figure would mean nothing."""
  count = sum(each["targets_pretokenized"] == UNLABELLED for each in examples)
  if count:
    raise ValueError(
      f"{count} of {len(examples)} examples of the split {split!r} of task "
      f"{task.name!r} have no label, so a figure would mean nothing. Evaluate "
      "a split that has labels; to get answers alone, use prompt_tuning.infer"
    )


def _judges(metric: Callable[..., Any]) -> str:
  """Returns what a metric compares with the targets."""
  required = tuple(
    name
    for name, parameter in inspect.signature(metric).parameters.items()
    if parameter.default is parameter.empty
    and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
  )
  if required == (_TARGETS, _PREDICTIONS):
    return _PREDICTIONS
  if required == (_TARGETS, _SCORES):
    return _SCORES
  raise ValueError(
    f"a metric takes (targets, predictions) or (targets, scores), but {metric} "
    f"takes {required}"
  )


def _as_lines(rows: Sequence[Mapping[str, Any]]) -> str:
  return "".join(f"{json.dumps(row, default=_plain)}\n" for row in rows)


def _plain(value: Any) -> Any:
  """Returns what JSON can write of NumPy's numbers and arrays, and of bytes."""
  if isinstance(value, np.ndarray | np.generic):
    return value.tolist()
  if isinstance(value, bytes):
    return value.decode("utf-8", errors="replace")
  raise ValueError(
    f"metrics, targets and predictions are written as JSON, got {value!r}; "
    "return numbers, text, or lists of them"
  )
