"""PPT's English tasks, in the forms of the released code (Gu et al., 2022).

That is followed where the paper's tables may differ.
"""

import dataclasses
from collections.abc import Iterator, Sequence

from prompt_tuning.data.prompt_pretraining.wording import STARS, Format
from prompt_tuning.data.sources import Record
from prompt_tuning.tasks.ppt_forms import (
  SOFT,
  ChoiceTask,
  PromptedTask,
  numbered,
  with_fields,
)


def _review(words: Sequence[str]) -> PromptedTask:
  return PromptedTask(
    plain="{sentence}<X>",
    hard="{sentence} It was<X>[.]",
    asked="{sentence}[?]",
    words=numbered(words),
    gives_way="sentence",
    format=Format.SENTENCE,
  )


_YAHOO_TOPICS = (
  *("culture", "science", "health", "education", "computer", "sports"),
  *("business", "music", "family", "politics"),
)
_NEWS_TOPICS = ("world", "sports", "business", "technology")
_INFERENCE = "{hypothesis}[?]{premise}[.]"

_RACE = "{question}[?]{options}[?]The correct one is<X>"


def _questions(record: Record) -> Iterator[Record]:
  """Yields the questions of one of RACE's articles, or the one of a line."""
  if "questions" not in record.fields:
    yield record
    return
  columns = [record[name] for name in ("questions", "options", "answers")]
  names = ("question", "option", "answer")
  yield from with_fields(
    record,
    (dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)),
  )


TASKS: dict[str, PromptedTask | ChoiceTask] = {
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
    format=Format.PAIRS,
    metrics=("accuracy", "macro_f1"),
  ),
  "rte": PromptedTask(
    # Unlike CB's, and unlike the other forms', its premise comes first.
    plain="{premise}<X>{hypothesis}",
    hard="{hypothesis}[?]<X>[.]{premise}",
    asked=_INFERENCE,
    words={"not_entailment": "no", "entailment": "yes"},
    gives_way="premise",
    format=Format.PAIRS,
  ),
  "boolq": PromptedTask(
    plain="{question}<X>{passage}",
    hard="question:{question}[?]<X>[.]{passage}",
    asked="{question}[?]{passage}[.]",
    words={"False": "no", "True": "yes"},
    gives_way="passage",
    format=Format.PAIRS,
  ),
  "yahoo_answers": PromptedTask(
    plain="{question_title}{question_content}{best_answer}<X>",
    hard="{question_title}{question_content}{best_answer} It is about<X>[.]",
    asked="{question_title}{question_content}{best_answer}[?]",
    words=numbered(_YAHOO_TOPICS),
    gives_way=("question_content", "best_answer"),
    format=Format.SENTENCE,
    label_field="topic",
  ),
  "ag_news": PromptedTask(
    plain="{text}<X>",
    hard="{text} It is about<X>[.]",
    asked="{text}[?]",
    words=numbered(_NEWS_TOPICS),
    gives_way="text",
    format=Format.SENTENCE,
  ),
  "race": ChoiceTask(
    plain="{article}[;]" + _RACE,
    hard="{article}Based on the previous passage, we ask" + _RACE,
    gives_way="article",
    options="option",
    max_tokens=(610 - SOFT, 517),
    expand=_questions,
  ),
}
"""By name. AG News is not the paper's; its pattern and that of Yahoo Answers
are this project's own, in the manner of the others."""
