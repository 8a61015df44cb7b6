"""Shows where a run is: a live bar on a terminal, otherwise a line at times."""

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TextIO

import jax
from absl import logging

_SHOWN = ("loss", "accuracy")


class Progress(Protocol):
  """Tells a person how a run goes."""

  def update(self, step: int, metrics: Mapping[str, float]) -> None:
    """Takes a finished step."""

  def note(self, text: str) -> None:
    """Tells what takes a while now."""

  def close(self) -> None:
    """Ends the display."""


class Bar:
  """A live progress bar; lines of the log scroll by above it."""

  def __init__(self, *, start: int, total: int, stream: TextIO):
    """Shows steps from `start` to `total` on a terminal."""
    import tqdm

    self._bar = tqdm.tqdm(
      initial=start,
      total=total,
      file=stream,
      unit="step",
      dynamic_ncols=True,
    )
    self._log_stream = logging.get_absl_handler().python_handler.setStream(
      _AboveBar(self._bar, stream)
    )

  def update(self, step: int, metrics: Mapping[str, float]) -> None:
    """Moves the bar."""
    self._bar.set_postfix_str(_shown(metrics), refresh=False)
    self._bar.set_description_str("training", refresh=False)
    self._bar.update(step - self._bar.n)

  def note(self, text: str) -> None:
    """Shows the text before the bar."""
    self._bar.set_description_str(text, refresh=True)

  def close(self) -> None:
    """Leaves the bar as it is."""
    self._bar.close()
    logging.get_absl_handler().python_handler.setStream(self._log_stream)


class _AboveBar:
  """A stream that takes the bar away while it writes."""

  def __init__(self, bar: Any, stream: TextIO):
    self._bar = bar
    self._stream = stream

  def write(self, text: str) -> None:
    self._bar.write(text, file=self._stream, end="")

  def flush(self) -> None:
    self._stream.flush()


class Lines:
  """A line of the log every few seconds."""

  def __init__(
    self,
    *,
    start: int,
    total: int,
    every_seconds: float = 30.0,
    log: Callable[[str], None] = logging.info,
    clock: Callable[[], float] = time.monotonic,
  ):
    """Writes lines about the steps from `start` to `total`.

    Args:
      start: Steps already taken.
      total: Steps in all.
      every_seconds: Least time between two lines.
      log: Takes a line.
      clock: Returns seconds.
    """
    self._total = total
    self._every = every_seconds
    self._log = log
    self._clock = clock
    self._last_step = start
    self._last_time = clock()

  def update(self, step: int, metrics: Mapping[str, float]) -> None:
    """Writes a line if the last one is old enough."""
    now = self._clock()
    seconds = now - self._last_time
    if seconds < self._every:
      return
    rate = (step - self._last_step) / seconds
    left = _duration((self._total - step) / rate) if rate else "unknown"
    self._log(
      f"step {step} of {self._total}, {rate:.3g} steps/s, {left} left, "
      f"{_shown(metrics)}"
    )
    self._last_step, self._last_time = step, now

  def note(self, text: str) -> None:
    """Writes the text."""
    self._log(text)

  def close(self) -> None:
    """Does nothing."""


class OfSeveral:
  """One display for several runs: the step of the last, the mean of metrics."""

  def __init__(self, progress: Progress):
    """Shows on `progress`, which is closed with the last run."""
    self._progress = progress
    self._latest: dict[str, tuple[int, Mapping[str, float]]] = {}
    self._open: set[str] = set()

  def of(self, name: str) -> Progress:
    """Returns the display of one run."""
    self._open.add(name)
    return _OfOne(self, name)

  def update(self, name: str, step: int, metrics: Mapping[str, float]) -> None:
    """Takes a finished step of one run."""
    self._latest[name] = step, metrics
    steps, taken = zip(*self._latest.values(), strict=True)
    means = {
      key: sum(each[key] for each in taken) / len(taken)
      for key in _SHOWN
      if all(key in each for each in taken)
    }
    self._progress.update(min(steps), means)

  def note(self, name: str, text: str) -> None:
    """Tells what takes a while now, and in which run."""
    self._progress.note(f"{name}: {text}")

  def close(self, name: str) -> None:
    """Takes a run out; does nothing if it is out already."""
    self._latest.pop(name, None)
    if name in self._open:
      self._open.remove(name)
      if not self._open:
        self._progress.close()


class _OfOne:
  """What one of several runs shows."""

  def __init__(self, shared: OfSeveral, name: str):
    self._shared = shared
    self._name = name

  def update(self, step: int, metrics: Mapping[str, float]) -> None:
    self._shared.update(self._name, step, metrics)

  def note(self, text: str) -> None:
    self._shared.note(self._name, text)

  def close(self) -> None:
    self._shared.close(self._name)


def default_progress(
  *, start: int, total: int, stream: TextIO | None = None
) -> Progress:
  """Returns a bar if the first process writes to a terminal, else lines.

  Args:
    start: Steps already taken.
    total: Steps in all.
    stream: Where to; standard error by default.
  """
  stream = sys.stderr if stream is None else stream
  if jax.process_index() == 0 and stream is not None and stream.isatty():
    return Bar(start=start, total=total, stream=stream)
  return Lines(start=start, total=total)


def _shown(metrics: Mapping[str, float]) -> str:
  return ", ".join(f"{k} {metrics[k]:.4g}" for k in _SHOWN if k in metrics)


def _duration(seconds: float) -> str:
  minutes, seconds = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  return f"{hours}:{minutes:02}:{seconds:02}"
