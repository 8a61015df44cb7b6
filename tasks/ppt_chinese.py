"""PPT's Chinese tasks, in the manner of the English ones (Gu et al., 2022).

Their patterns and words are this project's own, not those of any release.
They need a vocabulary that writes Chinese, such as mT5's; words of several
pieces are ranked by their likelihood over their number. Fields are those of the
data sets as CLUE and their authors give them, a line of JSONL each.
"""

from collections.abc import Iterator

from prompt_tuning.data.patterns import LETTERS
from prompt_tuning.data.prompt_pretraining.wording import Format
from prompt_tuning.data.sources import Record
from prompt_tuning.tasks.ppt_forms import (
  ChoiceTask,
  PromptedTask,
  numbered,
  with_fields,
)

_ITEM = "[{letter}][.]{option}[。]"
_CHOICE = "{options}正确的是<X>"
_STARS = ("很差", "差", "一般", "好", "很好")
_RELATIONS = {"contradiction": "不", "neutral": "可能", "entailment": "是"}
_NEWS = {
  "100": "故事",
  "101": "文化",
  "102": "娱乐",
  "103": "体育",
  "104": "财经",
  "106": "房产",
  "107": "汽车",
  "108": "教育",
  "109": "科技",
  "110": "军事",
  "112": "旅游",
  "113": "国际",
  "114": "股票",
  "115": "农业",
  "116": "游戏",
}


def _labelled(**settings) -> PromptedTask:
  return PromptedTask(choice=_CHOICE, item=_ITEM, **settings)


def _inference() -> PromptedTask:
  return _labelled(
    plain="{sentence2}<X>{sentence1}",
    hard="{sentence2}[?]<X>[。]{sentence1}",
    asked="{sentence2}[?]{sentence1}",
    words=_RELATIONS,
    gives_way="sentence1",
    format=Format.PAIRS,
    expand=_agreed,
  )


def _agreed(record: Record) -> Iterator[Record]:
  """Leaves out a pair on whose label its annotators did not agree."""
  if record["label"] != "-":
    yield record


def _questions(record: Record) -> Iterator[Record]:
  """Yields a question of C3 with its answer as a letter."""
  options = list(record["choice"])
  if record["answer"] not in options:
    raise ValueError(
      f"{record.where}: the answer {record['answer']!r} is none of {options}"
    )
  letter = LETTERS[options.index(record["answer"])]
  yield from with_fields(record, [{"letter": letter}])


TASKS: dict[str, PromptedTask | ChoiceTask] = {
  "chnsenticorp": _labelled(
    plain="{text_a}<X>",
    hard="{text_a}总的来说很<X>[。]",
    asked="{text_a}[?]",
    words=numbered(("差", "好")),
    gives_way="text_a",
    format=Format.SENTENCE,
  ),
  "amazon_zh": _labelled(
    plain="{sentence}<X>",
    hard="{sentence}总的来说<X>[。]",
    asked="{sentence}[?]",
    words=numbered(_STARS, first=1),
    gives_way="sentence",
    format=Format.SENTENCE,
  ),
  "tnews": _labelled(
    plain="{sentence}<X>",
    hard="{sentence}这是关于<X>的[。]",
    asked="{sentence}[?]",
    words=_NEWS,
    gives_way="sentence",
    format=Format.SENTENCE,
  ),
  "lcqmc": _labelled(
    plain="{text_a}<X>{text_b}",
    hard="{text_a}[?]<X>[。]{text_b}",
    asked="{text_a}[?]{text_b}",
    words=numbered(("不", "是")),
    gives_way="text_a",
    format=Format.PAIRS,
  ),
  "cmnli": _inference(),
  "ocnli": _inference(),
  "ccpm": ChoiceTask(
    plain="{translation}" + _CHOICE,
    hard="以下哪句诗的意思是{translation}[?]" + _CHOICE,
    gives_way="translation",
    options="choices",
    labels=tuple("0123"),
    item=_ITEM,
  ),
  "c3": ChoiceTask(
    plain="{context}[。]{question}[?]" + _CHOICE,
    hard="{context}根据上文回答[。]{question}[?]" + _CHOICE,
    gives_way="context",
    options="choice",
    label_field="letter",
    item=_ITEM,
    expand=_questions,
  ),
}
"""By name. C3's `context` is one text: its authors' lists of lines, joined."""
