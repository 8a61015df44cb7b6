"""Sets beyond the paper's main ones: summaries, SNLI and ANLI.

SPoT (Vu et al., 2022) learns prompts from them.
"""

from collections.abc import Iterator

from prompt_tuning.tasks import records
from prompt_tuning.tasks.glue_text import INFERENCE
from prompt_tuning.tasks.rendering import classify, name_fields
from prompt_tuning.tasks.text_form import Rendered


def xsum(record: records.Record) -> Iterator[Rendered]:
  """XSum: a news article in one sentence."""
  yield _summary(
    records.text(record, "document"), records.text(record, "summary")
  )


def cnn_dailymail(record: records.Record) -> Iterator[Rendered]:
  """CNN/DailyMail: the highlights of a news article."""
  yield _summary(
    records.text(record, "article"), records.text(record, "highlights")
  )


def snli(record: records.Record) -> Iterator[Rendered]:
  """SNLI: as MNLI, of captions of pictures."""
  names = ("hypothesis", "premise")
  fields = {name: records.text(record, name) for name in names}
  yield classify(record, fields, words=INFERENCE)


def anli(record: records.Record) -> Iterator[Rendered]:
  """ANLI: as MNLI, but the premise is called context."""
  names = ("hypothesis", "context")
  fields = {name: records.text(record, name) for name in names}
  yield classify(record, fields, words=INFERENCE)


def _summary(document: str, summary: str) -> Rendered:
  return {
    "inputs": name_fields({"summarize": document}),
    "targets": summary,
  }
