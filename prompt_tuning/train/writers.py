"""Where metrics go: a JSONL file, TensorBoard, the log.

A metric has a scope, which is a folder below MODEL_DIR (`train`,
`training_eval/<task>`), a step, a name and a value.
"""

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import jax
from absl import logging

from prompt_tuning import paths

Scalars = Mapping[str, float]
METRICS_FILE = "metrics.jsonl"


class Writer(Protocol):
  """Takes the metrics of a run."""

  def rewind(self, step: int) -> None:
    """Forgets what was written after a step, because it will come again."""

  def write(self, scope: str, step: int, scalars: Scalars) -> None:
    """Takes the metrics of one step."""

  def flush(self) -> None:
    """Returns when everything taken would survive a crash."""

  def close(self) -> None:
    """Flushes and takes no more."""


class JsonlWriter:
  """One line of JSON a call: `{"scope": ..., "step": ..., <name>: <value>}`.

  Numbers that are not finite are written as null, since JSON has none.
  """

  def __init__(self, path: paths.PathLike):
    """Continues the file at `path`, or starts it."""
    self._path = path
    self._waiting: list[str] = []

  def rewind(self, step: int) -> None:
    """Drops the lines after a step, and a last line that was cut off."""
    self._waiting = []
    if not paths.exists(self._path):
      return
    text = paths.read_text(self._path)
    kept = [line for line in text.splitlines() if _is_until(line, step)]
    paths.write_text(self._path, "".join(line + "\n" for line in kept))

  def write(self, scope: str, step: int, scalars: Scalars) -> None:
    """Takes one line; it is in the file after the next `flush`."""
    values = {name: _finite(value) for name, value in scalars.items()}
    self._waiting.append(
      json.dumps({"scope": scope, "step": step} | values) + "\n"
    )

  def flush(self) -> None:
    """Appends the lines that wait."""
    if not self._waiting:
      return
    text = "".join(self._waiting)
    if paths.is_remote(self._path):
      # An object cannot be appended to.
      old = paths.read_text(self._path) if paths.exists(self._path) else ""
      paths.write_text(self._path, old + text)
    else:
      with paths.open_file(self._path, "a") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    self._waiting = []

  def close(self) -> None:
    """Appends the lines that wait."""
    self.flush()


class TensorBoardWriter:
  """TensorBoard events, one folder a scope."""

  def __init__(self, model_dir: paths.PathLike):
    """Writes below `model_dir`."""
    self._dir = paths.as_path(model_dir)
    self._writers: dict[str, Any] = {}
    self._after: int | None = None

  def rewind(self, step: int) -> None:
    """Tells TensorBoard to hide what came after a step."""
    self.close()
    self._after = step + 1

  def write(self, scope: str, step: int, scalars: Scalars) -> None:
    """Takes the metrics of one step."""
    if scope not in self._writers:
      self._writers[scope] = self._open(scope)
    for name, value in scalars.items():
      self._writers[scope].add_scalar(name, value, step)

  def flush(self) -> None:
    """Writes the events that wait."""
    for writer in self._writers.values():
      writer.flush()

  def close(self) -> None:
    """Closes the files; a further `write` opens new ones."""
    for writer in self._writers.values():
      writer.close()
    self._writers = {}

  def _open(self, scope: str) -> Any:
    # Imported here so that a run without TensorBoard does not need it.
    import tensorboardX

    return tensorboardX.SummaryWriter(
      str(self._dir / scope), purge_step=self._after
    )


class LogWriter:
  """One line of the log a call."""

  def __init__(
    self, log: Callable[[str], None] = logging.info, *, name: str = ""
  ):
    """Writes with `log`; the name of the run, if it has one, comes first."""
    self._log = log
    self._prefix = f"{name}: " if name else ""

  def rewind(self, step: int) -> None:
    """Does nothing: a log tells what happened."""

  def write(self, scope: str, step: int, scalars: Scalars) -> None:
    """Writes the line."""
    values = ", ".join(f"{name} {value:.6g}" for name, value in scalars.items())
    self._log(f"{self._prefix}step {step} {scope}: {values}")

  def flush(self) -> None:
    """Does nothing."""

  def close(self) -> None:
    """Does nothing."""


class CompositeWriter:
  """Passes everything on to several writers."""

  def __init__(self, writers: Sequence[Writer]):
    """Passes on to `writers`, in their order; none discards everything."""
    self._writers = tuple(writers)

  def rewind(self, step: int) -> None:
    """Rewinds all."""
    for writer in self._writers:
      writer.rewind(step)

  def write(self, scope: str, step: int, scalars: Scalars) -> None:
    """Writes to all."""
    for writer in self._writers:
      writer.write(scope, step, scalars)

  def flush(self) -> None:
    """Flushes all."""
    for writer in self._writers:
      writer.flush()

  def close(self) -> None:
    """Closes all."""
    for writer in self._writers:
      writer.close()


def default_writer(model_dir: paths.PathLike, *, name: str = "") -> Writer:
  """Returns JSONL, TensorBoard and log on the first process, else nothing.

  Args:
    model_dir: Where files are written.
    name: What the log calls the run, where there are several.
  """
  if jax.process_index() != 0:
    return CompositeWriter([])
  return CompositeWriter(
    [
      JsonlWriter(paths.as_path(model_dir) / METRICS_FILE),
      TensorBoardWriter(model_dir),
      LogWriter(name=name),
    ]
  )


def _finite(value: float) -> float | None:
  value = float(value)
  return value if math.isfinite(value) else None


def _is_until(line: str, step: int) -> bool:
  try:
    return json.loads(line)["step"] <= step
  except (ValueError, TypeError, KeyError):
    # Only a crash in the middle of a line leaves one that is none of ours.
    return False
