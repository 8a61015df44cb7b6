"""Tasks of pattern-verbalizer pairs, from files and from elsewhere.

To the rest of the library they are text tasks whose examples come as token ids.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from prompt_tuning.data import described, patterns, sources, text_tasks
from prompt_tuning.data.features import Example
from prompt_tuning.data.file_task import metric_fns_of
from prompt_tuning.data.patterns import PVP
from prompt_tuning.data.vocabularies import Vocabulary

Expand = Callable[[sources.Record], Iterable[sources.Record]]
"""A line of a file to the examples that it holds."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PatternTask(text_tasks.TextTask):
  """A text task whose examples are rendered by a pattern.

  Attributes:
    pvp: The pattern and the verbalizer.
  """

  pvp: PVP

  def examples(self, split: str) -> list[Example]:
    """Returns the examples of a split as token ids.

    Raises:
      ValueError: As `read`; or as `PVP.example`.
    """
    return [
      self.pvp.example(
        row,
        self.vocabulary,
        where=f"task {self.name!r}, split {split!r}, example {number}",
      )
      for number, row in enumerate(self.read(split))
    ]


def add(
  name: str,
  splits: Mapping[str, text_tasks.Reader],
  pvp: PVP,
  *,
  vocabulary: Vocabulary,
  metrics: Sequence[str] = ("accuracy",),
) -> PatternTask:
  """Makes a task known.

  Args:
    name: A name that no other task has.
    splits: How the fields of the pattern and of the label are read, by split;
      see `from_files`.
    pvp: The pattern and the verbalizer.
    vocabulary: The backbone's.
    metrics: Names of metrics, as of `file_task.file_task`.

  Raises:
    ValueError: Another task has the name, a metric is unknown, or the
      vocabulary cannot write what the pair consists of.
  """
  pvp.check(vocabulary)
  words = [patterns.bare(word) for word in pvp.verbalizer.values()]
  task = PatternTask(
    name=name,
    splits=dict(splits),
    vocabulary=vocabulary,
    metric_fns=metric_fns_of(metrics, list(dict.fromkeys(words)), name),
    postprocess_fn=_word,
    pvp=pvp,
  )
  text_tasks.register(task)
  return task


def pattern_task(
  *,
  name: str,
  files: Mapping[str, str],
  pattern: str,
  verbalizer: Mapping[str, str],
  vocabulary: Vocabulary,
  label_field: str = "label",
  options: Sequence[str] | str = (),
  gives_way: str | Sequence[str] | None = None,
  max_tokens: int = 512,
  budgets: Mapping[str, int] | None = None,
  item: str = patterns.Pattern.item,
  metrics: Sequence[str] = ("accuracy",),
) -> str:
  """Describes a task by a recipe alone; see `add`, `Pattern` and `PVP`.

  Returns:
    The name, to be used as MIXTURE_OR_TASK_NAME. The same task may be described
    again.

  Raises:
    ValueError: As these.
  """
  pvp = PVP(
    pattern=patterns.Pattern(
      text=pattern,
      gives_way=gives_way,
      max_tokens=max_tokens,
      budgets=dict(budgets or {}),
      item=item,
    ),
    label_field=label_field,
    verbalizer=verbalizer,
    options=options,
  )
  return described_task(
    name, files, pvp, vocabulary=vocabulary, metrics=metrics
  )


def answers(*, verbalizer: Mapping[str, str]) -> tuple[str, ...]:
  """Returns what rank classification compares; see `PVP.answers`."""
  return patterns.answers_of(verbalizer)


def described_task(
  name: str,
  files: Mapping[str, str],
  pvp: PVP,
  *,
  vocabulary: Vocabulary,
  metrics: Sequence[str] = ("accuracy",),
  expand: Expand | None = None,
) -> str:
  """As `add` of files, but may be called again; returns the task's name.

  Args:
    name: See `add` for this and those not named here.
    files: See `from_files`.
    pvp: See `add`.
    vocabulary: See `add`.
    metrics: See `add`.
    expand: See `from_files`.
  """
  return described.once(
    name,
    repr((sorted(files.items()), pvp, tuple(metrics), vocabulary.fingerprint)),
    lambda: add(
      name,
      from_files(files, pvp, expand=expand),
      pvp,
      vocabulary=vocabulary,
      metrics=metrics,
    ),
  )


def from_files(
  files: Mapping[str, str], pvp: PVP, *, expand: Expand | None = None
) -> dict[str, text_tasks.Reader]:
  """Returns readers of TSV or JSONL files, plain, .gz or .xz, by split.

  Args:
    files: The file of each split.
    pvp: Names the fields that are read.
    expand: Makes the examples of a line that holds several.
  """
  return {
    split: functools.partial(_rows, path, pvp, expand)
    for split, path in files.items()
  }


def _rows(
  path: str, pvp: PVP, expand: Expand | None
) -> Iterator[dict[str, Any]]:
  """Yields the fields that the pair reads, the label as text."""
  names = {*pvp.pattern.fields} - {"options"}
  if isinstance(pvp.options, str):
    names.add(pvp.options)
  for line in sources.read_records(path):
    for record in [line] if expand is None else expand(line):
      fields = {name: record[name] for name in sorted(names)}
      yield fields | {pvp.label_field: str(record[pvp.label_field])}


def _word(text: str, **unused: Any) -> str:
  return patterns.answered(text)
