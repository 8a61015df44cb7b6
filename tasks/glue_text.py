"""GLUE's records as text, in the plain form.

TFDS calls the fields as the text does. GLUE's own TSV say `gold_label` (MNLI),
`is_duplicate` (QQP), `score` (STS-B), and `#1 String`, `#2 String`, `Quality`
(MRPC); copies of the data often say `text_a` and `text_b`. All are taken.
"""

from collections.abc import Iterator

import numpy as np

from prompt_tuning.data.text_tasks import UNLABELLED
from prompt_tuning.tasks import records
from prompt_tuning.tasks.rendering import classify, name_fields
from prompt_tuning.tasks.super_glue_text import ENTAILMENT
from prompt_tuning.tasks.text_form import Rendered

ACCEPTABILITY = ("unacceptable", "acceptable")
SENTIMENT = ("negative", "positive")
EQUIVALENCE = ("not_equivalent", "equivalent")
DUPLICATION = ("not_duplicate", "duplicate")
INFERENCE = ("entailment", "neutral", "contradiction")
# WNLI counts the other way round than RTE.
WINOGRAD = ("not_entailment", "entailment")

_STEPS_PER_POINT = 5


def cola(record: records.Record) -> Iterator[Rendered]:
  """CoLA: is a sentence English?"""
  fields = {"sentence": records.text(record, "sentence", "text_a")}
  yield classify(record, fields, words=ACCEPTABILITY)


def sst2(record: records.Record) -> Iterator[Rendered]:
  """SST-2: is a sentence of a film review positive?"""
  fields = {"sentence": records.text(record, "sentence", "text_a")}
  yield classify(record, fields, words=SENTIMENT)


def mrpc(record: records.Record) -> Iterator[Rendered]:
  """MRPC: do two sentences say the same?"""
  fields = _two_sentences(record)
  yield classify(record, fields, words=EQUIVALENCE, label=("label", "Quality"))


def qqp(record: records.Record) -> Iterator[Rendered]:
  """QQP: do two questions ask the same?"""
  fields = {
    "question1": records.text(record, "question1", "text_a"),
    "question2": records.text(record, "question2", "text_b"),
  }
  label = ("label", "is_duplicate")
  yield classify(record, fields, words=DUPLICATION, label=label)


def stsb(record: records.Record) -> Iterator[Rendered]:
  """STS-B: how similar are two sentences, from 0 to 5, in steps of 0.2?

  Raises:
    ValueError: The label is no number.
  """
  labels = [record.get("label"), record.get("score")]
  given = [label for label in labels if label is not None]
  yield {
    "inputs": name_fields(_two_sentences(record)),
    "targets": _similarity(given[0]) if given else UNLABELLED,
  } | records.numbered(record)


def mnli(record: records.Record) -> Iterator[Rendered]:
  """MNLI and the diagnostic set AX: how does a hypothesis follow?"""
  fields = {
    "hypothesis": records.text(record, "hypothesis", "sentence2", "text_b"),
    "premise": records.text(record, "premise", "sentence1", "text_a"),
  }
  label = ("label", "gold_label")
  yield classify(record, fields, words=INFERENCE, label=label)


def qnli(record: records.Record) -> Iterator[Rendered]:
  """QNLI: does a sentence hold the answer to a question?"""
  fields = {
    "question": records.text(record, "question", "text_a"),
    "sentence": records.text(record, "sentence", "text_b"),
  }
  yield classify(record, fields, words=ENTAILMENT)


def rte(record: records.Record) -> Iterator[Rendered]:
  """RTE of GLUE, whose sentences are numbered, unlike SuperGLUE's."""
  yield classify(record, _two_sentences(record), words=ENTAILMENT)


def wnli(record: records.Record) -> Iterator[Rendered]:
  """WNLI: does a sentence with its pronoun replaced follow?"""
  yield classify(record, _two_sentences(record), words=WINOGRAD)


def _similarity(label: object) -> str:
  try:
    # In float32, halves to the even number of steps, as TensorFlow rounds.
    steps = round(float(np.float32(str(label)) * np.float32(_STEPS_PER_POINT)))
    if not 0 <= steps <= 5 * _STEPS_PER_POINT:
      raise ValueError("it is outside")
  except (OverflowError, ValueError) as error:
    raise ValueError(
      f"the label must be a similarity from 0 to 5, got {label!r}"
    ) from error
  return f"{steps / _STEPS_PER_POINT:.1f}"


def _two_sentences(record: records.Record) -> dict[str, str]:
  return {
    "sentence1": records.text(record, "sentence1", "text_a", "#1 String"),
    "sentence2": records.text(record, "sentence2", "text_b", "#2 String"),
  }
