"""Tasks from text to text that need neither seqio nor TensorFlow.

A task says how the examples of each split are read and what measures answers to
them. It is known by its name, to this library and, where seqio is at hand, to
seqio as well: whatever takes a seqio Task takes it too.
"""

import dataclasses
import difflib
import functools
import importlib
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from prompt_tuning.data import sources, vocabularies
from prompt_tuning.data.features import Example

TextExample = Mapping[str, Any]
"""`inputs` and `targets`, strings, and what metrics may want beside them: text,
numbers and lists of these."""
Reader = Callable[[], Iterable[TextExample]]
"""Reads the examples of a split. If it is a generator, its first example can be
looked at without the others."""

UNLABELLED = "<unk>"
"""The target of an example without a label, as in T5."""

_SCALARS = (str, bytes, bool, int, float)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextTask:
  """A task from text to text.

  Attributes:
    name: A name that no other task has.
    splits: How the examples of each split are read.
    vocabulary: Tokenises both sides.
    metric_fns: `(targets, predictions)` or `(targets, scores)` to a mapping of
      numbers by name; what they take is told by the names of their parameters.
    postprocess_fn: Makes of a text what the metrics compare:
      `(text, *, example, is_target)`. None takes the text itself.
  """

  name: str
  splits: Mapping[str, Reader]
  vocabulary: vocabularies.Vocabulary
  metric_fns: Sequence[Callable[..., Mapping[str, Any]]] = ()
  postprocess_fn: Callable[..., Any] | None = None

  def check_split(self, split: str) -> None:
    """Looks at the first example of a split, if it comes without the others.

    Raises:
      ValueError: There is no such split; or its first example is malformed, or
        its file cannot be read or is empty.
    """
    check_first(self.name, self.splits, split)

  def read(self, split: str) -> list[TextExample]:
    """Returns the examples of a split as text.

    Raises:
      ValueError: There is no such split, it is empty, or an example is
        malformed.
    """
    return read_split(self.name, self.splits, split)

  def examples(self, split: str) -> list[Example]:
    """Returns the examples of a split, tokenised and never trimmed.

    Raises:
      ValueError: As `read`.
    """
    return list(sources.tokenize_examples(self.read(split), self.vocabulary))


def from_files(
  files: Mapping[str, str],
  *,
  inputs: str,
  targets: str,
  verbalizers: sources.Verbalizers | None = None,
  field_names: Sequence[str] | None = None,
  prompt_index: str | None = None,
) -> dict[str, Reader]:
  """Returns readers of TSV or JSONL files, by split.

  Args:
    files: The file of each split; for the rest see `sources.examples_from`.
    inputs: Text of the input with fields in braces.
    targets: Text of the target likewise, or the label's field.
    verbalizers: The word of each label.
    field_names: Names of the columns of TSV files without a header.
    prompt_index: Name of the field that says which prompt of a bank an example
      takes.
  """
  return {
    split: functools.partial(
      sources.examples_from,
      path,
      inputs=inputs,
      targets=targets,
      verbalizers=verbalizers,
      field_names=field_names,
      prompt_index=prompt_index,
    )
    for split, path in files.items()
  }


def in_memory(splits: Mapping[str, Sequence[TextExample]]) -> dict[str, Reader]:
  """Returns readers of given examples, by split."""
  return {split: lambda rows=rows: rows for split, rows in splits.items()}


def add(
  name: str,
  splits: Mapping[str, Reader],
  *,
  vocabulary: vocabularies.Vocabulary,
  metric_fns: Sequence[Callable[..., Mapping[str, Any]]] = (),
  postprocess_fn: Callable[..., Any] | None = None,
) -> TextTask:
  """Makes a task known by its name; see `TextTask` for the arguments.

  Raises:
    ValueError: Another task has the name.
  """
  task = TextTask(
    name=name,
    splits=dict(splits),
    vocabulary=vocabulary,
    metric_fns=tuple(metric_fns),
    postprocess_fn=postprocess_fn,
  )
  register(task)
  return task


def register(task: TextTask) -> None:
  """Makes a task known by its name.

  Raises:
    ValueError: Another task has the name.
  """
  name = task.name
  if name in _TASKS or name in MIXTURE_NAMES:
    raise ValueError(
      f"there is a task or mixture {name!r} already; tasks need names of their "
      "own"
    )
  if sys.modules.get("seqio") is not None:
    # Whoever imported it may ask it for the task at once.
    from prompt_tuning.data import seqio_tasks

    seqio_tasks.register(task)
  _TASKS[name] = task


def remove(name: str) -> None:
  """Forgets a task; seqio, if it knows it, does not."""
  del _TASKS[name]


def get(name: str) -> TextTask | None:
  """Returns the task of a name, if there is one."""
  return _TASKS.get(name)


def everything() -> list[TextTask]:
  """Returns all tasks, in the order in which they were added."""
  return list(_TASKS.values())


def near(name: str, names: Iterable[str]) -> str:
  """Returns the names that are most like a name, as text for an error."""
  found = difflib.get_close_matches(name, sorted(names), n=5, cutoff=0.5)
  return ", ".join(found) or "none"


def import_module(module: str | None) -> None:
  """Imports MIXTURE_OR_TASK_MODULE, which makes tasks known.

  Raises:
    ValueError: It cannot be imported.
  """
  if module:
    try:
      importlib.import_module(module)
    except ImportError as error:
      raise ValueError(
        f"MIXTURE_OR_TASK_MODULE {module!r} cannot be imported: {error}"
      ) from error


def check_first(name: str, splits: Mapping[str, Reader], split: str) -> None:
  """Looks at the first example of a split, if it comes without the others.

  Raises:
    ValueError: There is no such split; or the example is malformed, or its file
      cannot be read or is empty.
  """
  reader = _reader(name, splits, split)
  if inspect.isgeneratorfunction(reader):
    next(iter(reader()), None)


def read_split(
  name: str, splits: Mapping[str, Reader], split: str
) -> list[TextExample]:
  """Reads and checks all examples of a split.

  Raises:
    ValueError: There is no such split, it is empty, or an example has other
      fields than the first, or a field that is no text, number or list of them.
  """
  examples = list(_reader(name, splits, split)())
  if not examples:
    raise ValueError(f"task {name!r}: split {split!r} has no examples")
  for index, example in enumerate(examples):
    is_alike = set(example) == set(examples[0])
    if not is_alike or not all(map(_is_plain, example.values())):
      raise ValueError(
        f"task {name!r}, split {split!r}: example {index} must have the fields "
        f"{sorted(examples[0])}, each text, a number, or a list of them, got "
        f"{dict(example)}"
      )
  return examples


def _reader(name: str, splits: Mapping[str, Reader], split: str) -> Reader:
  if split not in splits:
    raise ValueError(
      f"task {name!r} has no split {split!r}; its splits are {sorted(splits)}"
    )
  return splits[split]


def _is_plain(value: Any) -> bool:
  if isinstance(value, list | tuple):
    return all(isinstance(each, _SCALARS) for each in value)
  return isinstance(value, _SCALARS)


MIXTURE_NAMES: set[str] = set()
"""Names that `text_mixtures` has taken."""
_TASKS: dict[str, TextTask] = {}
