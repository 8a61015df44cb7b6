"""Runs a training command until its first step is done, and says what ran when.

It is the command itself, run as `__main__`, with a clock around imports, around
a few functions of the library, and behind what JAX reports of tracing and
compiling. Nothing is imported sooner than the command would.

python -m benchmarks.startup_probe timeline.json prompt_tuning.train --gin_...
"""

import contextlib
import functools
import importlib.machinery
import json
import os
import runpy
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import ModuleType

IMPORTS = "imports"
TENSORFLOW = "imports of TensorFlow and seqio"
CONFIGURATION = "reading recipes"
DATA = "reading data"
WEIGHTS = "reading weights"
TRACING = "tracing"
COMPILING = "compiling"
EVALUATION = "first evaluation"
SAVING = "saving step 0"
STEP = "first step"

_TENSORFLOW = ("seqio", "tensorflow", "tensorflow_datasets", "tensorflow_text")

# What is timed once its module is there, by the name that callers look up.
_TIMED = {
  "prompt_tuning.runs.main": {"parse": CONFIGURATION},
  "prompt_tuning.backbone": {"Backbone.load": WEIGHTS},
  "prompt_tuning.data.inputs": {"TaskInputs.stream": DATA},
  "prompt_tuning.evaluate.tasks": {"TaskEvaluation.prepare": DATA},
  "prompt_tuning.train.checkpoint": {"Checkpoints.save": SAVING},
}
# What is timed of what the function returns.
_RETURNED = {"TaskEvaluation.prepare": EVALUATION}

_EVENTS = {
  "/jax/core/compile/jaxpr_trace_duration": TRACING,
  "/jax/core/compile/jaxpr_to_mlir_module_duration": TRACING,
  "/jax/core/compile/backend_compile_duration": COMPILING,
}


class Recorder:
  """Notes what ran from when to when, in which thread."""

  def __init__(self) -> None:
    """Starts with nothing."""
    self.begin = time.monotonic()
    self.spans: list[tuple[str, float, float, int | None]] = []
    self._local = threading.local()

  @property
  def _labels(self) -> list[str]:
    if not hasattr(self._local, "labels"):
      self._local.labels = []
    return self._local.labels

  @property
  def label(self) -> str | None:
    """What runs in this thread now; None for nothing known."""
    return self._labels[-1] if self._labels else None

  @contextlib.contextmanager
  def span(self, label: str) -> Iterator[None]:
    """Notes the `with` block."""
    begin = time.monotonic()
    self._labels.append(label)
    try:
      yield
    finally:
      self._labels.pop()
      self.add(label, begin)

  def add(self, label: str, begin: float) -> None:
    """Notes what has run in this thread since `begin`."""
    thread = threading.current_thread()
    number = 0 if thread is threading.main_thread() else thread.ident
    self.spans.append((label, begin, time.monotonic(), number))

  def timed(
    self, function: Callable, label: str, returned: str | None = None
  ) -> Callable:
    """Returns the function with a clock around it, or around what it returns.

    Args:
      function: Any.
      label: What its calls are noted as.
      returned: What calls of the function that it returns are noted as.
    """

    @functools.wraps(function)
    def run(*args, **kwargs):
      with self.span(label):
        result = function(*args, **kwargs)
      return result if returned is None else self.timed(result, returned)

    return run

  def write(self, path: str) -> None:
    """Writes everything, and that it ends now."""
    kept = {
      "begin": self.begin,
      "end": time.monotonic(),
      "spans": self.spans,
    }
    with open(path, "w") as file:
      json.dump(kept, file)


def watch_imports(
  recorder: Recorder, when_imported: Mapping[str, Callable[[ModuleType], None]]
) -> None:
  """Times the code of modules.

  Args:
    recorder: Notes them.
    when_imported: Functions of a module, by its name, called when it is there.
  """
  source = importlib.machinery.SourceFileLoader
  binary = importlib.machinery.ExtensionFileLoader

  def watch(loader, method):
    original = getattr(loader, method)

    @functools.wraps(original)
    def run(self, subject):  # A module or, before it is made, its spec.
      name = getattr(subject, "__name__", None) or subject.name
      with recorder.span(_import_label(recorder, name)):
        result = original(self, subject)
      if name in when_imported:
        when_imported[name](subject)
      return result

    setattr(loader, method, run)

  watch(source, "exec_module")
  watch(binary, "create_module")


def _import_label(recorder: Recorder, name: str) -> str:
  # What TensorFlow imports is imported for its sake.
  within = recorder.label == TENSORFLOW
  return (
    TENSORFLOW if within or name.partition(".")[0] in _TENSORFLOW else IMPORTS
  )


def _time_functions(recorder: Recorder, module: ModuleType) -> None:
  for path, label in _TIMED[module.__name__].items():
    *parents, name = path.split(".")
    owner = functools.reduce(getattr, parents, module)
    function = getattr(owner, name)
    setattr(owner, name, recorder.timed(function, label, _RETURNED.get(path)))


def _listen_to_jax(recorder: Recorder, jax: ModuleType) -> None:
  del jax
  from jax import monitoring

  def note(event: str, duration_secs: float, **_: str | int) -> None:
    if event in _EVENTS:
      recorder.add(_EVENTS[event], time.monotonic() - duration_secs)

  monitoring.register_event_duration_secs_listener(note)


class _UntilFirstStep:
  """The progress display of a run that is over after one step."""

  def __init__(self, recorder: Recorder, path: str):
    self._recorder = recorder
    self._path = path

  def note(self, text: str) -> None:
    """Shows nothing."""

  def close(self) -> None:
    """Shows nothing."""

  def update(self, step: int, metrics: Mapping[str, float]) -> None:
    """Ends the process: the metrics of the first step are there."""
    done = [
      end
      for label, _, end, _ in self._recorder.spans
      if label in (EVALUATION, SAVING)
    ]
    self._recorder.add(STEP, max(done, default=self._recorder.begin))
    self._recorder.write(self._path)
    os._exit(0)


def _end_after_first_step(
  recorder: Recorder, path: str, module: ModuleType
) -> None:
  def progress(**_: object) -> _UntilFirstStep:
    return _UntilFirstStep(recorder, path)

  setattr(module, "default_progress", progress)  # noqa: B010 - not ours


def main(arguments: Sequence[str]) -> None:
  """Runs `module arguments` and writes a timeline to a path."""
  path, module, *rest = arguments
  recorder = Recorder()
  watch_imports(
    recorder,
    {
      "jax": functools.partial(_listen_to_jax, recorder),
      "prompt_tuning.train.progress": functools.partial(
        _end_after_first_step, recorder, path
      ),
      **{name: functools.partial(_time_functions, recorder) for name in _TIMED},
    },
  )
  sys.argv = [module, *rest]
  runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
  main(sys.argv[1:])
