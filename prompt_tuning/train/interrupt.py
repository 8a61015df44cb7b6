"""Lets a run end at a step boundary when it is asked to end."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator

import jax
from absl import logging
from jax.experimental import multihost_utils

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interrupt:
  """Whether the run was asked to end.

  Attributes:
    signal_name: Name of the signal that came, such as SIGTERM, or None.
  """

  def __init__(self):
    self.signal_name: str | None = None

  def requested(self, step: int) -> bool:
    """Returns whether to end at this step.

    With several processes all of them get the same answer at the same step,
    from JAX's preemption service; a signal reaches each at another time.
    """
    if jax.process_count() == 1:
      return self.signal_name is not None
    if multihost_utils.reached_preemption_sync_point(step):
      self.signal_name = "preemption notice"
      return True
    return False


@contextlib.contextmanager
def watch_signals() -> Iterator[Interrupt]:
  """Gives an `Interrupt` that SIGTERM and SIGINT set.

  The second signal ends the program at once, as it does without this. Signals
  are left alone outside the main thread. With several processes JAX's
  preemption service catches SIGTERM and tells the others; SIGINT is passed on
  to it.
  """
  interrupt = Interrupt()
  if threading.current_thread() is not threading.main_thread():
    yield interrupt
    return
  is_one = jax.process_count() == 1
  caught = _SIGNALS if is_one else (signal.SIGINT,)
  before = {number: signal.getsignal(number) for number in caught}

  def restore():
    for number, handler in before.items():
      signal.signal(number, handler)

  def on_signal(number, frame):
    del frame
    name = signal.Signals(number).name
    restore()
    logging.warning(
      "%s: will finish this step, save and exit; send it again to exit at once "
      "without saving.",
      name,
    )
    if is_one:
      interrupt.signal_name = name
    else:
      os.kill(os.getpid(), signal.SIGTERM)

  for number in caught:
    signal.signal(number, on_signal)
  try:
    yield interrupt
  finally:
    restore()
