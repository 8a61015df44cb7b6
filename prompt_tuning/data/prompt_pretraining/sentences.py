"""Running text to sentences, in English and Chinese."""

import re
from collections.abc import Iterator

# By number where a letter is easily taken for another.
_QUOTES = "\u201d\u2019\u300d\u300f"
_OPEN_QUOTES = "\u201c\u2018"
_WIDE_STOPS = "\u3002\uff01\uff1f"
_WIDE_CLOSE = _QUOTES + "\uff09"
# A stop, what closes behind it, and the space in front of what may begin a
# sentence; or a Chinese stop, which needs no space.
_BOUNDARY = re.compile(
  rf"(?<![.!?\u2026])(?P<stop>[.!?\u2026]++)(?P<close>[\"'{_QUOTES})\]]*)\s+"
  rf"(?=[\"'{_OPEN_QUOTES}(\[]*[A-Z0-9])"
  rf"|(?<=[{_WIDE_STOPS}])[{_WIDE_CLOSE}]*(?![{_WIDE_STOPS}{_WIDE_CLOSE}])"
)
# What a full stop abbreviates, in lower case.
_WORDS = (
  "mr mrs ms dr prof rev gen col capt lt sgt hon sr jr st mt ft no nos vol pp "
  "fig figs eq sec ch vs al cf eg ie approx dept univ inc ltd co corp jan feb "
  "mar apr jun jul aug sep sept oct nov dec u.s u.k u.n e.g i.e a.m p.m"
)
_ABBREVIATIONS = frozenset(_WORDS.split())
_LAST_WORD = re.compile(r"[\w.]+\Z")


def split(text: str) -> list[str]:
  """Returns the sentences of a text, in order and without space around them.

  A line ends a sentence. So do the stops of English, closing quotes and
  brackets behind them included, in front of a capital letter or a digit; but
  not the full stop of a known abbreviation or of an initial. Chinese stops do
  in any case.
  """
  return [
    sentence
    for line in text.splitlines()
    for sentence in _of_line(line.strip())
    if sentence
  ]


def _of_line(line: str) -> Iterator[str]:
  start = 0
  for match in _BOUNDARY.finditer(line):
    if match["stop"] == "." and _abbreviates(line[start : match.start()]):
      continue
    end = match.end() if match["stop"] is None else match.end("close")
    yield line[start:end].strip()
    start = match.end()
  yield line[start:].strip()


def _abbreviates(before: str) -> bool:
  """Returns whether a full stop belongs to the word in front of it."""
  found = _LAST_WORD.search(before)
  word = found[0] if found else ""
  is_initial = len(word) == 1 and word.isupper()
  return is_initial or word.lower() in _ABBREVIATIONS
