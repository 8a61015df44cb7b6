"""Tests of showing where a run is."""

import io
import logging as std_logging

from absl import logging

from prompt_tuning.train import progress


class Terminal(io.StringIO):
  """Text that says that it is a terminal."""

  def isatty(self):
    return True


def test_lines_come_at_most_every_few_seconds():
  now, lines = [0.0], []
  shown = progress.Lines(
    start=100,
    total=400,
    every_seconds=30.0,
    log=lines.append,
    clock=lambda: now[0],
  )
  for step in range(101, 201):
    now[0] += 0.5
    shown.update(step, {"loss": 1.25, "grad_norm": 7.0})
  # After 30 s at 2 steps/s: 160 of 400, 120 s left.
  assert lines == ["step 160 of 400, 2 steps/s, 0:02:00 left, loss 1.25"]


def test_no_line_before_its_time():
  lines = []
  shown = progress.Lines(start=0, total=9, log=lines.append, clock=lambda: 0.0)
  shown.update(1, {})
  assert not lines
  shown.note("evaluating")
  assert lines == ["evaluating"]


def test_a_terminal_gets_a_live_bar():
  terminal = Terminal()
  shown = progress.default_progress(start=3, total=10, stream=terminal)
  shown.note("evaluating step 3")
  for step in range(4, 11):
    shown.update(step, {"loss": 0.5})
  shown.close()
  text = terminal.getvalue()
  assert "evaluating step 3" in text
  assert "10/10" in text


def test_the_log_scrolls_by_above_the_bar():
  handler = logging.get_absl_handler().python_handler
  before = handler.stream
  terminal = Terminal()
  bar = progress.Bar(start=0, total=10, stream=terminal)
  bar.update(4, {})
  record = std_logging.LogRecord(
    "absl", std_logging.INFO, __file__, 1, "step 4: all is well", (), None
  )
  handler.emit(record)
  bar.close()
  # The bar is wiped, the line has its own, and the bar is drawn again.
  line, rest = terminal.getvalue().rsplit("step 4: all is well", 1)
  assert line.rsplit("\n", 1)[-1].rsplit("\r", 1)[-1].strip().endswith("]")
  assert rest.startswith("\n")
  assert "4/10" in rest
  assert handler.stream is before


def test_a_file_gets_lines():
  shown = progress.default_progress(start=0, total=1, stream=io.StringIO())
  assert isinstance(shown, progress.Lines)


def test_several_runs_share_a_display():
  shown, noted, closed = [], [], []

  class Display:
    def update(self, step, metrics):
      shown.append((step, metrics))

    def note(self, text):
      noted.append(text)

    def close(self):
      closed.append(True)

  shared = progress.OfSeveral(Display())
  first, second = shared.of("a"), shared.of("b")
  first.update(3, {"loss": 1.0})
  second.update(1, {"loss": 3.0})
  second.note("saving")
  second.close()
  second.close()
  first.update(4, {"loss": 2.0})
  assert shown == [(3, {"loss": 1.0}), (1, {"loss": 2.0}), (4, {"loss": 2.0})]
  assert noted == ["b: saving"]
  assert not closed
  first.close()
  assert closed == [True]
