"""Winograd schemas as text: what does a pronoun refer to?

WSC asks whether a pronoun refers to a candidate. As text it is made the
question what it refers to (Raffel et al., 2020, sec. 2.1; Lester et al., 2021,
appendix A), and only where the candidate is right is it known: 259 of 554
training examples remain. In evaluation a prediction counts as "yes" where it
names the candidate, see `metrics.referents`.

TFDS has the spans as fields of a record, JSONL in its `target`. TFDS's
`wsc.fixed` also writes spans as the text has them; this is done here for both.
"""

import re
from collections.abc import Iterator
from typing import Any

from prompt_tuning.tasks import records
from prompt_tuning.tasks.text_form import Rendered


def wsc(record: records.Record) -> Iterator[Rendered]:
  """WSC: the text with the pronoun between stars to the candidate.

  `label` tells whether the candidate is right, 1 or 0; 0 where it is unknown.

  Raises:
    ValueError: The pronoun does not stand in the text at its place or later.
  """
  spans: records.Record = record.get("target") or record
  yield {
    "inputs": _mark(
      records.text(record, "text"),
      pronoun=records.text(spans, "span2_text"),
      place=int(records.field(spans, "span2_index")),
    ),
    "targets": _as_in_text(
      records.text(spans, "span1_text"),
      text=records.text(record, "text"),
      place=int(records.field(spans, "span1_index")),
    ),
    "label": int(records.label_word(record, ("0", "1")) == "1"),
  } | records.numbered(record)


def has_right_candidate(example: Rendered) -> bool:
  """Returns whether a WSC example says what its pronoun refers to."""
  return bool(example["label"])


def definite_pronouns(record: records.Record) -> Iterator[Rendered]:
  """Definite Pronoun Resolution (Rahman and Ng, 2012), in WSC's text.

  The first occurrence of the pronoun that a space, comma or full stop follows
  is marked; a text without one stays as it is.

  Raises:
    ValueError: The label is none of the candidates, nor the number of one.
  """
  pronoun = re.escape(records.text(record, "pronoun"))
  yield {
    "inputs": re.sub(
      rf" ({pronoun})(?=[ .,])",
      r" *\1*",
      records.text(record, "sentence"),
      count=1,
    ),
    "targets": _candidate(record),
  }


def _candidate(record: records.Record) -> str:
  """Returns what the pronoun of DPR refers to, or that nobody says it."""
  candidates = records.texts(record, "candidates")
  return records.label_word(record, candidates)


def _mark(text: str, *, pronoun: str, place: int) -> str:
  """Puts stars around the pronoun, the word at a place or the next like it.

  In the data one place is early by some words, and one pronoun is followed by
  punctuation without a space; T5 has a space there, and none at the end.
  """
  words: list[Any] = text.split(" ")
  if not 0 <= place < len(words):
    raise ValueError(
      f"the pronoun {pronoun!r} must be one of the {len(words)} words of "
      f"{text!r}, got the place {place}"
    )
  for index in range(place, len(words)):
    if words[index] == pronoun:
      words[index] = f"*{pronoun}*"
      return " ".join(words)
    rest = words[index].removeprefix(pronoun)
    if rest != words[index] and not rest[0].isalnum() and index == place:
      words[index] = f"*{pronoun}* {rest}"
      return " ".join(words).rstrip()
  raise ValueError(
    f"the pronoun {pronoun!r} stands nowhere in {text!r} from word {place} on"
  )


def _as_in_text(span: str, *, text: str, place: int) -> str:
  """Returns a span as the text writes it, where that can be told."""
  words = text.split()
  if span in text or not 0 <= place < len(words):
    return span
  first = span[:1]
  first = first.lower() if words[place][:1].islower() else first.upper()
  fixed = f"{first}{span[1:]}".rstrip(".").replace("\n", " ")
  return fixed if fixed in text else span
