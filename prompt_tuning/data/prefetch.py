"""Batches laid out ahead, in a thread, while the device computes.

What a run sees, saves and says is that of the batches it has taken: those that
wait are laid out anew where it goes on.
"""

import collections
import copy
import threading
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from prompt_tuning.data.batches import Batches
from prompt_tuning.data.features import Features


class _Ready(NamedTuple):
  """A batch, or what came in the place of one, and how things stood after it.

  Attributes:
    batch: The batch; None at the end.
    error: What was raised instead; StopIteration where the data ends.
    state: Where the next batch stands.
    cuts: What was cut so far, from inputs and targets.
  """

  batch: Features | None
  error: BaseException | None
  state: dict[str, Any]
  cuts: tuple[Any, Any]


class PrefetchedBatches:
  """The batches of `Batches`, some of them ready before they are asked for.

  They are the same in the same order, whatever the depth. The thread begins
  with the first batch that is asked for, and ends with the data, an error,
  `restore` or `close`; it never keeps a process from ending. Another thread
  than the one that asks must not use the batches meanwhile.

  Attributes:
    card: See `Batches`.
  """

  def __init__(self, batches: Batches, *, depth: int):
    """Lays nothing out yet.

    Args:
      batches: What is read from now on by this alone.
      depth: PREFETCH_BATCHES, how many batches wait at most; with 0 there is no
        thread, and each is laid out when it is asked for.

    Raises:
      ValueError: `depth` is negative.
    """
    check_depth(depth)
    self._batches = batches
    self._depth = depth
    self._state = batches.state()
    self._cuts = _cuts(batches)
    self._ready: collections.deque[_Ready] = collections.deque()
    self._changed = threading.Condition()
    self._thread: threading.Thread | None = None
    self._stopped = False
    self.card = batches.card

  def __iter__(self) -> Iterator[Features]:
    return self

  def __next__(self) -> Features:
    """Returns the next batch.

    Raises:
      StopIteration: The data ends.
      Exception: What laying it out raised, from where it was raised; again at
        every further call.
    """
    taken = self._take() if self._depth else self._lay_out()
    if taken.batch is None:
      assert taken.error is not None
      raise taken.error
    self._state, self._cuts = taken.state, taken.cuts
    return taken.batch

  def summary(self) -> str:
    """Returns one line that says what was cut from the batches taken so far."""
    return "; ".join(cuts.summary() for cuts in self._cuts)

  def state(self) -> dict[str, Any]:
    """Returns where the next batch to be taken stands, JSON-able."""
    return self._state

  def restore(self, state: Mapping[str, Any]) -> None:
    """Continues from a position that `state` returned.

    Raises:
      ValueError: See `Batches.restore`.
    """
    self.close()
    self._batches.restore(state)
    self._state = self._batches.state()

  def close(self) -> None:
    """Stops the thread, once it has the batch that it lays out.

    What waits is dropped; the batches continue after the last that was taken.
    """
    thread, self._thread = self._thread, None
    if thread is None:
      return
    with self._changed:
      self._stopped = True
      self._changed.notify_all()
    thread.join()
    self._ready.clear()
    self._batches.restore(self._state)
    builder = self._batches.builder
    builder.input_cuts, builder.target_cuts = copy.deepcopy(self._cuts)

  def _take(self) -> _Ready:
    """Waits for a batch."""
    if self._thread is None:
      self._stopped = False
      self._thread = threading.Thread(
        target=self._fill, name="prefetch", daemon=True
      )
      self._thread.start()
    with self._changed:
      self._changed.wait_for(lambda: self._ready)
      # What ends the data stays, for whoever asks again.
      last = self._ready[0].batch is None
      taken = self._ready[0] if last else self._ready.popleft()
      self._changed.notify_all()
    return taken

  def _fill(self) -> None:
    """Lays batches out until one is None; runs in the thread."""
    while True:
      made = self._lay_out()
      with self._changed:
        self._changed.wait_for(
          lambda: self._stopped or len(self._ready) < self._depth
        )
        if self._stopped:
          return
        self._ready.append(made)
        self._changed.notify_all()
      if made.batch is None:
        return

  def _lay_out(self) -> _Ready:
    batch = error = None
    try:
      batch = next(self._batches)
    except BaseException as raised:  # It is raised where a batch is asked for.
      error = raised
    state = self._batches.state()
    return _Ready(batch, error, state, _cuts(self._batches))


def check_depth(depth: int) -> None:
  """Raises a ValueError unless there can be so many batches."""
  if isinstance(depth, bool) or not isinstance(depth, int) or depth < 0:
    raise ValueError(
      "PREFETCH_BATCHES must be 0 (none) or a number of batches, got "
      f"{depth!r}."
    )


def _cuts(batches: Batches) -> tuple[Any, Any]:
  builder = batches.builder
  return copy.copy(builder.input_cuts), copy.copy(builder.target_cuts)
