"""PPT's tasks by name (Gu et al., 2022), and tasks of files.

The tasks stand in `ppt_english` and `ppt_chinese`, their forms in `ppt_forms`.
"""

from collections.abc import Mapping
from typing import Any

from prompt_tuning.data import pattern_tasks
from prompt_tuning.data.patterns import PVP
from prompt_tuning.data.prompt_pretraining.wording import Format
from prompt_tuning.data.vocabularies import Vocabulary
from prompt_tuning.tasks import ppt_chinese, ppt_english
from prompt_tuning.tasks.ppt_forms import Form
from prompt_tuning.types import enum_member

TASKS = {**ppt_english.TASKS, **ppt_chinese.TASKS}
"""By name."""

NAMES = tuple(TASKS)


def pvp(task: str, form: Form | str) -> PVP:
  """Returns the pattern and verbalizer of a task.

  Raises:
    ValueError: There is no such task or form.
  """
  form = enum_member(Form, form, name="PPT_FORM")
  if task not in NAMES:
    raise ValueError(f"PPT_TASK must be one of {list(NAMES)}, got {task!r}")
  return TASKS[task].pvp(form)


def format_of(*, task: str, form: Form | str) -> Format:
  """Returns what a prompt for a task is pre-trained on.

  Raises:
    ValueError: There is no such task or form.
  """
  pvp(task, form)
  is_unified = enum_member(Form, form, name="PPT_FORM") is Form.UNIFIED
  return Format.UNIFIED if is_unified else TASKS[task].format


def ppt_task(
  *,
  task: str,
  form: Form | str,
  files: Mapping[str, Any],
  vocabulary: Vocabulary,
  name: str | None = None,
) -> str:
  """Describes a task from files that have its fields.

  Args:
    task: One of `NAMES`.
    form: See `Form`.
    files: The file of each split, or such mappings by the names of tasks, of
      which this task's is taken. RACE's lines are an article with `questions`,
      `options` and `answers`, or one question each.
    vocabulary: The backbone's.
    name: The task's name, by default `ppt_<task>_<form>`.

  Returns:
    The name, to be used as MIXTURE_OR_TASK_NAME.

  Raises:
    ValueError: As `pattern_tasks.add`; or there is no such task or form.
  """
  chosen = pvp(task, form)
  if not all(isinstance(each, str) for each in files.values()):
    if task not in files:
      raise ValueError(
        f"TASK_FILES has files for {sorted(files)}, and none for {task!r}"
      )
    files = files[task]
  return pattern_tasks.described_task(
    name or f"ppt_{task}_{Form(form).value}",
    files,
    chosen,
    vocabulary=vocabulary,
    metrics=TASKS[task].metrics,
    expand=TASKS[task].expand,
  )


def answers(*, task: str, form: Form | str) -> tuple[str, ...]:
  """Returns what rank classification compares; see `PVP.answers`."""
  return pvp(task, form).answers
