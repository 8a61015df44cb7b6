"""Spans of time and what each part of a program took of its own."""

import collections
from collections.abc import Iterable
from typing import NamedTuple


class Span(NamedTuple):
  """Something that ran in one thread.

  Attributes:
    label: What it was.
    begin: Seconds of a clock.
    end: Seconds of the same clock.
    thread: A number of the thread; 0 is the main one.
  """

  label: str
  begin: float
  end: float
  thread: int = 0


def own_seconds(spans: Iterable[Span]) -> dict[str, float]:
  """Returns seconds by label, without those of spans within a span.

  So they add up to the time that any span covers, nothing counted twice.

  Args:
    spans: Of one thread, each within another or beside it. Where one reaches a
      little over the end of the one around it, as clocks may say, that part is
      left out.
  """
  seconds: dict[str, float] = collections.defaultdict(float)
  around: list[Span] = []
  for span in sorted(spans, key=lambda each: (each.begin, -each.end)):
    while around and around[-1].end <= span.begin:
      around.pop()
    if around:
      outer = around[-1]
      span = span._replace(end=min(span.end, outer.end))
      seconds[outer.label] -= span.end - span.begin
    seconds[span.label] += span.end - span.begin
    around.append(span)
  return dict(seconds)
