"""SuperGLUE's records as text, in the plain form.

TFDS against SuperGLUE's own JSONL, both of which are taken:

* Labels: TFDS has numbers, and -1 for none. JSONL has words (CB, RTE, AX),
  booleans (BoolQ, WiC, WSC) or numbers (COPA, MultiRC), and leaves the field
  out where there is none.
* MultiRC: TFDS has a record for each answer. JSONL has one for each passage,
  with its questions, and their answers, inside.
* ReCoRD: TFDS has a record for each query, with the texts of the entities.
  JSONL has one for each passage, whose entities are offsets with the last
  included; TFDS sorts them and the answers, and so is done here.
* WSC: JSONL nests the spans in `target`; see `pronouns`.
* AX-b: the sentences are called premise and hypothesis in the text alone.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from prompt_tuning.data.text_tasks import UNLABELLED
from prompt_tuning.tasks import records
from prompt_tuning.tasks.rendering import classify, name_fields
from prompt_tuning.tasks.text_form import Rendered

TRUTH = ("False", "True")
COMMITMENT = ("entailment", "contradiction", "neutral")
ENTAILMENT = ("entailment", "not_entailment")
CHOICES = ("choice1", "choice2")

# Some passages of MultiRC are marked up.
_BREAK, _BOLD = re.compile("<br>"), re.compile("</?b>")
# Where a highlight of ReCoRD follows a sentence, its end may be missing.
_HIGHLIGHT = re.compile(r"(?P<end>[.?!\"'])?\n@highlight\n")


def boolq(record: records.Record) -> Iterator[Rendered]:
  """BoolQ: does a passage answer a question with yes?"""
  fields = {
    name: records.text(record, name) for name in ("passage", "question")
  }
  yield classify(record, fields, words=TRUTH)


def cb(record: records.Record) -> Iterator[Rendered]:
  """CommitmentBank: does the speaker of the premise hold the hypothesis?"""
  fields = {
    name: records.text(record, name) for name in ("hypothesis", "premise")
  }
  yield classify(record, fields, words=COMMITMENT)


def copa(record: records.Record) -> Iterator[Rendered]:
  """COPA: which choice is the cause or effect of a premise?"""
  names = (*CHOICES, "premise", "question")
  fields = {name: records.text(record, name) for name in names}
  yield classify(record, fields, words=CHOICES)


def rte(record: records.Record) -> Iterator[Rendered]:
  """RTE and AX-g of SuperGLUE: does the premise entail the hypothesis?"""
  fields = {
    name: records.text(record, name) for name in ("hypothesis", "premise")
  }
  yield classify(record, fields, words=ENTAILMENT)


def axb(record: records.Record) -> Iterator[Rendered]:
  """AX-b: as RTE, whose text it gets, with its sentences numbered."""
  fields = {
    "hypothesis": records.text(record, "sentence2"),
    "premise": records.text(record, "sentence1"),
  }
  yield classify(record, fields, words=ENTAILMENT)


def wic(record: records.Record) -> Iterator[Rendered]:
  """WiC: has a word the same meaning in two sentences?"""
  names = ("sentence1", "sentence2", "word")
  fields = {name: records.text(record, name) for name in names}
  yield classify(record, fields, words=TRUTH)


def multirc(record: records.Record) -> Iterator[Rendered]:
  """MultiRC: is an answer right? An example for each answer.

  `group` tells the question, `<passage>-<question>`, for metrics over all
  answers to it.
  """
  if not isinstance(record.get("passage"), Mapping):
    yield _multirc_answer(record)
    return
  passage = record["passage"]
  for question in records.field(passage, "questions"):
    for answer in records.field(question, "answers"):
      yield _multirc_answer(
        {
          "paragraph": records.text(passage, "text"),
          "question": records.text(question, "question"),
          "answer": records.text(answer, "text"),
          "label": answer.get("label"),
          "idx": {
            "paragraph": records.field(record, "idx"),
            "question": records.field(question, "idx"),
          },
        }
      )


def record(record: records.Record) -> Iterator[Rendered]:
  """ReCoRD: which entity is missing? An example for each right answer.

  `answers` are all right answers, and `group` tells the query,
  `<passage>-<query>`, so that it can be judged once.
  """
  if isinstance(record.get("passage"), Mapping):
    for query in _record_queries(record):
      yield from _record_answers(query)
  else:
    yield from _record_answers(record)


def _multirc_answer(record: records.Record) -> Rendered:
  names = ("question", "answer", "paragraph")
  text = name_fields({name: records.text(record, name) for name in names})
  return {
    "inputs": _BOLD.sub("", _BREAK.sub(" ", text)),
    "targets": records.label_word(record, TRUTH),
    "group": records.group(record, "paragraph", "question"),
  }


def _record_queries(record: records.Record) -> Iterator[dict[str, Any]]:
  """Yields the queries of a passage of JSONL as TFDS has them."""
  passage = record["passage"]
  text = records.text(passage, "text")
  entities = {
    text[records.field(span, "start") : records.field(span, "end") + 1]
    for span in records.field(passage, "entities")
  }
  for query in records.field(record, "qas"):
    answers = query.get("answers") or ()
    yield {
      "passage": text,
      "query": records.text(query, "query"),
      "entities": sorted(entities),
      "answers": sorted({records.text(answer, "text") for answer in answers}),
      "idx": {
        "passage": records.field(record, "idx"),
        "query": records.field(query, "idx"),
      },
    }


def _record_answers(record: records.Record) -> Iterator[Rendered]:
  answers = records.texts(record, "answers")
  fields = {
    "query": records.text(record, "query"),
    "entities": ", ".join(records.texts(record, "entities")),
    "passage": _HIGHLIGHT.sub(
      lambda found: f"{found['end'] or '.'} ", records.text(record, "passage")
    ),
  }
  for answer in answers or [UNLABELLED]:
    yield {
      "inputs": name_fields(fields),
      "targets": answer,
      "answers": answers,
      "group": records.group(record, "passage", "query"),
    }
