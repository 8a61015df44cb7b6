"""The tasks of PPT (Gu et al., 2022) as patterns and verbalizers.

Each has forms: `plain`, without words around the fields, for prompts alone and
for pre-trained ones; `hard`, the words of model tuning, which with a soft
prompt in front make hybrid prompt tuning; `unified`, a multiple choice. They
are those of the released code, which is followed where the paper's tables may
differ.

A row of the released code has 512 tokens, 100 soft ones among them; of RACE,
610 and 517. What is left of it is a pattern's.
"""

import dataclasses
import enum
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from prompt_tuning.data import pattern_tasks
from prompt_tuning.data.patterns import LETTERS, PVP, Pattern
from prompt_tuning.data.prompt_pretraining.wording import STARS, Format
from prompt_tuning.data.sources import Record
from prompt_tuning.data.vocabularies import Vocabulary
from prompt_tuning.types import enum_member

_CHOICE = "{options}[?]The correct one is<X>"
_SOFT = 100


class Form(enum.Enum):
  """What stands around the fields; HYBRID is HARD with room for soft tokens."""

  PLAIN = "plain"
  HYBRID = "hybrid"
  UNIFIED = "unified"
  HARD = "hard"


@dataclasses.dataclass(frozen=True, kw_only=True)
class PromptedTask:
  """A task in its forms.

  Attributes:
    plain: Text of the pattern.
    hard: Text of the pattern.
    asked: Text of the unified pattern in front of the options.
    words: The word of each label, by the label as text in the order of the
      options.
    gives_way: The field that is cut, or the fields.
    metrics: Names of metrics.
    label_field: The field of the label.
  """

  plain: str
  hard: str
  asked: str
  words: Mapping[str, str]
  gives_way: str | Sequence[str]
  metrics: Sequence[str] = ("accuracy",)
  label_field: str = "label"

  def pvp(self, form: Form) -> PVP:
    """Returns the pair of a form."""
    # The released code cuts the passage before it puts options behind it.
    budget = 512 if form is Form.HARD else 512 - _SOFT
    if form is not Form.UNIFIED:
      text = self.plain if form is Form.PLAIN else self.hard
      return PVP(
        pattern=Pattern(text=text, gives_way=self.gives_way, max_tokens=budget),
        verbalizer=self.words,
        label_field=self.label_field,
      )
    options = list(self.words.values())
    return PVP(
      pattern=Pattern(
        text=self.asked + _CHOICE,
        gives_way=self.gives_way,
        # The words of the choice, and four tokens for each option.
        max_tokens=budget + 7 + 4 * len(options),
      ),
      verbalizer=_letters(list(self.words)),
      label_field=self.label_field,
      options=options,
    )


def _letters(labels: Sequence[str]) -> dict[str, str]:
  return {
    label: f"[{letter}]" for label, letter in zip(labels, LETTERS, strict=False)
  }


def _review(words: Sequence[str]) -> PromptedTask:
  return PromptedTask(
    plain="{sentence}<X>",
    hard="{sentence} It was<X>[.]",
    asked="{sentence}[?]",
    words={str(label): word for label, word in enumerate(words)},
    gives_way="sentence",
  )


_YAHOO_TOPICS = (
  *("culture", "science", "health", "education", "computer", "sports"),
  *("business", "music", "family", "politics"),
)
_NEWS_TOPICS = ("world", "sports", "business", "technology")
_INFERENCE = "{hypothesis}[?]{premise}[.]"

TASKS: dict[str, PromptedTask] = {
  "sst2": _review(("bad", "good")),
  "sst5": _review(STARS),
  "yelp5": dataclasses.replace(
    _review(STARS),
    plain="{text}<X>",
    hard="{text} It was<X>[.]",
    asked="{text}[?]",
    gives_way="text",
  ),
  "cb": PromptedTask(
    plain="{hypothesis}<X>{premise}",
    # Here, and in no other task, the full stop is a word.
    hard="{hypothesis}[?]<X> . {premise}",
    asked=_INFERENCE,
    words={"contradiction": "no", "neutral": "maybe", "entailment": "yes"},
    gives_way="premise",
    metrics=("accuracy", "macro_f1"),
  ),
  "rte": PromptedTask(
    # Unlike CB's, and unlike the other forms', its premise comes first.
    plain="{premise}<X>{hypothesis}",
    hard="{hypothesis}[?]<X>[.]{premise}",
    asked=_INFERENCE,
    words={"not_entailment": "no", "entailment": "yes"},
    gives_way="premise",
  ),
  "boolq": PromptedTask(
    plain="{question}<X>{passage}",
    hard="question:{question}[?]<X>[.]{passage}",
    asked="{question}[?]{passage}[.]",
    words={"False": "no", "True": "yes"},
    gives_way="passage",
  ),
  "yahoo_answers": PromptedTask(
    plain="{question_title}{question_content}{best_answer}<X>",
    hard="{question_title}{question_content}{best_answer} It is about<X>[.]",
    asked="{question_title}{question_content}{best_answer}[?]",
    words={str(label): word for label, word in enumerate(_YAHOO_TOPICS)},
    gives_way=("question_content", "best_answer"),
    label_field="topic",
  ),
  "ag_news": PromptedTask(
    plain="{text}<X>",
    hard="{text} It is about<X>[.]",
    asked="{text}[?]",
    words={str(label): word for label, word in enumerate(_NEWS_TOPICS)},
    gives_way="text",
  ),
}
"""By name; RACE, whose options are the example's, is `race`. AG News is not the
paper's, and Yahoo Answers has no released pattern: theirs are in its manner."""

FORMATS: dict[str, Format] = {
  **dict.fromkeys(
    ("sst2", "sst5", "yelp5", "yahoo_answers", "ag_news"), Format.SENTENCE
  ),
  **dict.fromkeys(("cb", "rte", "boolq"), Format.PAIRS),
  "race": Format.CHOICE,
}
"""What a prompt for a task is pre-trained on, unless its form is unified."""

PILOT = {
  "man_1": "{sentence} It was<X>[.]",
  "man_2": "Just<X>[!]{sentence}",
  "man_3": "{sentence} All in all, it was<X>[.]",
  "gen_1": "{sentence} a<X>[.]",
  "gen_2": "{sentence} A<X> one.",
}
"""Hard patterns for SST-2 of the pilot study (Gu et al., 2022, sec. 2)."""

_RACE_ASKED = "{question}[?]" + _CHOICE


def _race(form: Form) -> PVP:
  is_hard = form in (Form.HARD, Form.HYBRID)
  words = "Based on the previous passage, we ask" if is_hard else "[;]"
  return PVP(
    pattern=Pattern(
      text="{article}" + words + _RACE_ASKED,
      gives_way="article",
      max_tokens=517 if form is Form.HARD else 610 - _SOFT,
    ),
    label_field="answer",
    verbalizer=_letters(LETTERS[:4]),
    options="option",
  )


NAMES = (*TASKS, "race")


def pvp(task: str, form: Form | str) -> PVP:
  """Returns the pattern and verbalizer of a task.

  Raises:
    ValueError: There is no such task or form.
  """
  form = enum_member(Form, form, name="PPT_FORM")
  if task not in NAMES:
    raise ValueError(f"PPT_TASK must be one of {list(NAMES)}, got {task!r}")
  return _race(form) if task == "race" else TASKS[task].pvp(form)


def format_of(*, task: str, form: Form | str) -> Format:
  """Returns what a prompt for a task is pre-trained on.

  Raises:
    ValueError: There is no such task or form.
  """
  pvp(task, form)
  is_unified = enum_member(Form, form, name="PPT_FORM") is Form.UNIFIED
  return Format.UNIFIED if is_unified else FORMATS[task]


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
  form = enum_member(Form, form, name="PPT_FORM")
  metrics = TASKS[task].metrics if task in TASKS else ("accuracy",)
  if not all(isinstance(each, str) for each in files.values()):
    if task not in files:
      raise ValueError(
        f"TASK_FILES has files for {sorted(files)}, and none for {task!r}"
      )
    files = files[task]
  return pattern_tasks.described_task(
    name or f"ppt_{task}_{form.value}",
    files,
    chosen,
    vocabulary=vocabulary,
    metrics=metrics,
    expand=_questions if task == "race" else None,
  )


def answers(*, task: str, form: Form | str) -> tuple[str, ...]:
  """Returns what rank classification compares; see `PVP.answers`."""
  return pvp(task, form).answers


def _questions(record: Record) -> Iterator[Record]:
  """Yields the questions of one of RACE's articles."""
  if "questions" not in record.fields:
    yield record
    return
  columns = [record[name] for name in ("questions", "options", "answers")]
  for question, option, answer in zip(*columns, strict=True):
    yield Record(
      {
        **record.fields,
        "question": question,
        "option": option,
        "answer": answer,
      },
      record.where,
    )
