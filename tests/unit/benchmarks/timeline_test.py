import pytest

from benchmarks.timeline import Span, own_seconds


@pytest.mark.parametrize(
  ("spans", "expected"),
  [
    ([("a", 0, 2), ("b", 2, 5)], {"a": 2, "b": 3}),
    # Within another, in whatever order they were noted.
    ([("inner", 1, 3), ("outer", 0, 10)], {"outer": 8, "inner": 2}),
    ([("a", 0, 9), ("b", 1, 8), ("a", 2, 4)], {"a": 4, "b": 5}),
    # Both begin together.
    ([("inner", 0, 3), ("outer", 0, 10)], {"outer": 7, "inner": 3}),
    # A little too long for what is around it.
    ([("outer", 0, 10), ("inner", 8, 11)], {"outer": 8, "inner": 2}),
  ],
)
def test_nothing_is_counted_twice(spans, expected):
  seconds = own_seconds(Span(*span) for span in spans)
  assert seconds == expected


def test_own_times_add_up_to_the_whole():
  spans = [Span("a", 0, 8), Span("b", 1, 7), Span("c", 2, 3), Span("a", 4, 6)]
  assert sum(own_seconds(spans).values()) == 8
