"""SQuAD and the sets of MRQA as text: a question and its context to an answer.

Both get T5's text of SQuAD, with spaces around punctuation (Lester et al.,
2021, sec. 5 and appendix A). TFDS nests the answers of SQuAD in `text`; MRQA,
and copies of SQuAD, have a list of them.
"""

from collections.abc import Iterator, Mapping

from prompt_tuning.tasks import records
from prompt_tuning.tasks.rendering import single_spaces, space_punctuation
from prompt_tuning.tasks.text_form import Rendered


def squad(record: records.Record) -> Iterator[Rendered]:
  """SQuAD 1.1 and MRQA: the first answer is the target, `answers` are all.

  A record is a question; or as MRQA publishes them, a context with its
  questions in `qas`, below a line that says where they are from (`header`).

  Raises:
    ValueError: There is no answer.
  """
  if "header" in record and "context" not in record:
    return
  if "qas" not in record:
    yield _question(record)
    return
  for question in records.field(record, "qas"):
    yield _question({**question, "context": record["context"]})


def _question(record: records.Record) -> Rendered:
  answers = records.field(record, "answers")
  if isinstance(answers, Mapping):
    answers = records.field(answers, "text")
  if isinstance(answers, str) or not len(answers):
    raise ValueError(
      f"the field 'answers' must be a list of at least one, got {answers!r}"
    )
  answers = list(
    map(space_punctuation, records.texts({"answers": answers}, "answers"))
  )
  question = space_punctuation(records.text(record, "question"))
  context = space_punctuation(records.text(record, "context"))
  return {
    "inputs": single_spaces(f"question: {question} context: {context}"),
    "targets": answers[0],
    "answers": answers,
  }
