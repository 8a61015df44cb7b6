"""Tests of ending a run at a step boundary."""

import os
import signal
import threading

import pytest

from prompt_tuning.train.interrupt import watch_signals


@pytest.fixture
def python_handles_interrupts():
  """As in a foreground process; a shell's `&` ignores them."""
  before = signal.signal(signal.SIGINT, signal.default_int_handler)
  yield
  signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_noted(number):
  with watch_signals() as interrupt:
    assert not interrupt.requested(0)
    os.kill(os.getpid(), number)
    assert interrupt.requested(1)
    assert interrupt.signal_name == number.name


@pytest.mark.usefixtures("python_handles_interrupts")
def test_the_second_signal_ends_at_once():
  with watch_signals():
    os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
      os.kill(os.getpid(), signal.SIGINT)


def test_handlers_are_put_back():
  before = signal.getsignal(signal.SIGTERM)
  with watch_signals():
    assert signal.getsignal(signal.SIGTERM) is not before
  assert signal.getsignal(signal.SIGTERM) is before


def test_other_threads_leave_signals_alone():
  asked = []

  def run():
    with watch_signals() as interrupt:
      asked.append(interrupt.requested(0))

  thread = threading.Thread(target=run)
  thread.start()
  thread.join()
  assert asked == [False]
