"""A task from files, described by a recipe alone."""

import functools
from collections.abc import Callable, Mapping, Sequence

from prompt_tuning.data import described, text_tasks
from prompt_tuning.data.sources import Verbalizers
from prompt_tuning.data.vocabularies import Vocabulary
from prompt_tuning.metrics import classification, question_answering


def file_task(
  *,
  name: str,
  files: Mapping[str, str],
  inputs: str,
  targets: str,
  vocabulary: Vocabulary,
  verbalizers: Verbalizers | None = None,
  metrics: Sequence[str] = ("accuracy",),
  prompt_index: str | None = None,
) -> str:
  """Makes a task of TSV or JSONL files known.

  Args:
    name: A name that no other task has.
    files: The file of each split, plain, .gz or .xz.
    inputs: Text of the input with fields in braces, such as "{sentence}".
    targets: Text of the target likewise; with `verbalizers`, the name of the
      field that holds the label.
    vocabulary: The backbone's.
    verbalizers: The word of each label.
    metrics: Names of metrics: accuracy; macro_f1, over the verbalizers; squad,
      which is exact match and token F1.
    prompt_index: Name of the field that says which prompt of a bank an example
      takes, counted from 0; None where there is no bank.

  Returns:
    The name, to be used as MIXTURE_OR_TASK_NAME.

  Raises:
    ValueError: If a metric is unknown, or another task has the name.
  """
  metric_fns = metric_fns_of(metrics, verbalizers, name)
  read = {
    "inputs": inputs,
    "targets": targets,
    "verbalizers": verbalizers,
    "prompt_index": prompt_index,
  }
  return described.once(
    name,
    repr((sorted(files.items()), read)),
    lambda: text_tasks.add(
      name,
      text_tasks.from_files(files, **read),
      vocabulary=vocabulary,
      metric_fns=metric_fns,
    ),
  )


def metric_fns_of(
  metrics: Sequence[str], verbalizers: Verbalizers | None, task: str
) -> list[Callable[..., Mapping[str, float]]]:
  """Returns metrics by their names.

  Args:
    metrics: See `file_task`.
    verbalizers: The word of each label, if there are labels.
    task: What to call the task in an error.

  Raises:
    ValueError: If a metric is unknown.
  """
  return [_metric(metric, verbalizers, task) for metric in metrics]


def _metric(
  metric: str, verbalizers: Verbalizers | None, task: str
) -> Callable[..., Mapping[str, float]]:
  if metric == "accuracy":
    return classification.accuracy
  if metric == "squad":
    return _squad
  if metric == "macro_f1" and verbalizers is not None:
    words = (
      verbalizers.values() if isinstance(verbalizers, Mapping) else verbalizers
    )
    return functools.partial(classification.macro_f1, labels=tuple(words))
  raise ValueError(
    f"file_task {task!r}: there is no metric {metric!r}; there are accuracy, "
    "squad and, for a task with verbalizers, macro_f1"
  )


def _squad(
  targets: Sequence[str], predictions: Sequence[str]
) -> Mapping[str, float]:
  return question_answering.squad([[t] for t in targets], predictions)
