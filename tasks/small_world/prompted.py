"""The tasks of the small world as patterns and verbalizers.

As `tasks.ppt` has PPT's tasks, in the words that the embedded vocabulary knows.
It knows four letters of options, so the fifth topic is left out.
"""

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from prompt_tuning import paths
from prompt_tuning.data import described, pattern_tasks
from prompt_tuning.data.patterns import PVP, Pattern
from prompt_tuning.data.prompt_pretraining.wording import Format
from prompt_tuning.data.vocabularies import SentencePieceVocabulary
from prompt_tuning.tasks.ppt_forms import Form
from prompt_tuning.tasks.small_world.draw import SPLITS
from prompt_tuning.tasks.small_world.examples import examples
from prompt_tuning.types import enum_member

ITEM = "{letter} {option}"
_CHOICE = " ? {options} . which letter is right ?<X>"
_LETTERS = ("A", "B", "C", "D")

PLAIN = {
  "sentiment": "{text}<X>",
  "topic": "{text}<X>",
  "paraphrase": "{first}<X>{second}",
  "entailment": "{claim}<X>{story}",
  "choice": "{question} ? {options} .<X>",
}
HARD = {
  "sentiment": "{text} it was<X> .",
  "topic": "{text} this text is about<X> .",
  "paraphrase": "first : {first} . second : {second} . the same ?<X> .",
  "entailment": "{story} is it so ? {claim} .<X> .",
  "choice": "which letter is right ? {question} ? {options} .<X> .",
}
ASKED = {
  "sentiment": "{text}",
  "topic": "{text}",
  "paraphrase": "{first} . {second}",
  "entailment": "{claim} ? {story}",
  "choice": "{question}",
}
WORDS: Mapping[str, Mapping[str, str]] = {
  "sentiment": {"negative": "bad", "positive": "good"},
  "topic": {t: t for t in ("sports", "cooking", "science", "music")},
  "paraphrase": {"different": "no", "same": "yes"},
  "entailment": {"no": "no", "maybe": "maybe", "yes": "yes"},
  "choice": {letter: letter for letter in _LETTERS},
}
FORMATS: Mapping[str, Format] = {
  **dict.fromkeys(("sentiment", "topic"), Format.SENTENCE),
  **dict.fromkeys(("paraphrase", "entailment"), Format.PAIRS),
  "choice": Format.CHOICE,
}
_FIELDS = {
  "paraphrase": r"first : (?P<first>.*) \. second : (?P<second>.*) \.",
  "entailment": r"(?P<story>.*) claim : (?P<claim>.*) \.",
  "choice": r"(?P<question>.*) \? A (?P<A>.*) B (?P<B>.*) C (?P<C>.*) "
  r"D (?P<D>.*) \.",
}


def pvp(
  task: str,
  form: Form | str,
  *,
  pattern: str | None = None,
  words: Sequence[str] | None = None,
) -> PVP:
  """Returns the pattern and verbalizer of a task.

  Args:
    task: One of `WORDS`.
    form: See `tasks.ppt.Form`.
    pattern: Another text than the form's.
    words: Others than the task's, in the order of its labels.

  Raises:
    ValueError: There is no such task or form, or another number of words.
  """
  form = enum_member(Form, form, name="PPT_FORM")
  if task not in WORDS:
    raise ValueError(f"PPT_TASK must be one of {list(WORDS)}, got {task!r}")
  verbalizer = dict(WORDS[task])
  if words is not None:
    if len(words) != len(verbalizer):
      raise ValueError(
        f"WORDS must be one for each of {list(verbalizer)}, got {list(words)}"
      )
    verbalizer = dict(zip(verbalizer, words, strict=True))
  text = {
    Form.PLAIN: PLAIN[task],
    Form.UNIFIED: ASKED[task] + _CHOICE,
  }.get(form, HARD[task])
  options: Any = ()
  if task == "choice":
    options = "options"
  elif form is Form.UNIFIED:
    options = list(verbalizer.values())
    verbalizer = dict(zip(verbalizer, _LETTERS, strict=False))
  return PVP(
    pattern=Pattern(text=pattern or text, item=ITEM),
    verbalizer=verbalizer,
    options=options,
  )


def task(
  *,
  task: str,
  form: Form | str,
  pattern: str | None = None,
  words: Sequence[str] | None = None,
  name: str | None = None,
) -> str:
  """Describes a task; see `pvp` for the arguments, and `tasks.ppt.ppt_task`.

  Raises:
    ValueError: As `pvp`.
  """
  made = pvp(task, form, pattern=pattern, words=words)
  name = name or f"small_world_{task}_{Form(form).value}"
  return described.once(
    name,
    (task, made),
    lambda: pattern_tasks.add(
      name,
      {split: functools.partial(_rows, task, split) for split in SPLITS},
      made,
      vocabulary=SentencePieceVocabulary(
        str(paths.embedded_dir() / "sentencepiece.model")
      ),
    ),
  )


def answers(
  *, task: str, form: Form | str, words: Sequence[str] | None = None
) -> tuple[str, ...]:
  """Returns what rank classification compares; see `PVP.answers`."""
  return pvp(task, form, words=words).answers


def format_of(*, task: str, form: Form | str) -> Format:
  """Returns what a prompt for a task is pre-trained on.

  Raises:
    ValueError: There is no such task or form.
  """
  pvp(task, form)
  is_unified = enum_member(Form, form, name="PPT_FORM") is Form.UNIFIED
  return Format.UNIFIED if is_unified else FORMATS[task]


def _rows(task: str, split: str) -> Iterator[dict[str, Any]]:
  for example in examples(task, split):
    if example["targets"] in WORDS[task]:
      fields = _fields(task, example["inputs"])
      yield {**fields, "label": example["targets"]}


def _fields(task: str, text: str) -> dict[str, Any]:
  """Returns the parts of a text that a pattern puts in places of its own."""
  if task not in _FIELDS:
    return {"text": text}
  match = re.fullmatch(_FIELDS[task], text)
  assert match, text
  fields: dict[str, Any] = match.groupdict()
  if task == "choice":
    fields["options"] = [fields.pop(letter) for letter in _LETTERS]
  return fields
