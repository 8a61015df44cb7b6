"""The process of one system: does what it is asked, line by line.

It is started by `benchmarks.remote`, which writes a request a line to its input
and reads an answer a line from its output, both JSON. Between requests it
sleeps.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from typing import IO, Any

from benchmarks import memory, systems
from benchmarks.jobs import Job

Answer = dict[str, Any]


def serve(requests: IO[str], answers: IO[str]) -> None:
  """Answers requests until there are no more.

  Args:
    requests: `{"do": "build", "system": ..., "job": ...}` first, then
      `{"do": "start"}`, then any number of `{"do": "run", "steps": ...}` and
      `{"do": "report"}`.
    answers: Gets one line for each request.
  """
  worker = _Worker()
  actions: dict[str, Callable[..., Answer]] = {
    "build": worker.build,
    "start": worker.start,
    "run": worker.run,
    "report": worker.report,
  }
  for line in requests:
    request = json.loads(line)
    action = actions[request.pop("do")]
    answers.write(json.dumps(action(**request)) + "\n")
    answers.flush()


class _Worker:
  """One system and what was measured of it."""

  def build(self, *, system: str, job: str) -> Answer:
    """Imports the system and builds its model."""
    begin = time.perf_counter()
    make = systems.find(system).load()
    self._base_memory = memory.resident()
    self._system = make(Job.from_json(job))
    return {"seconds": time.perf_counter() - begin}

  def start(self) -> Answer:
    """Compiles and takes a step of every shape; then counts memory anew."""
    begin = time.perf_counter()
    self._system.start()
    seconds = time.perf_counter() - begin
    self._peak_before = memory.peak()
    memory.reset_peak()
    return {"seconds": seconds}

  def run(self, *, steps: int) -> Answer:
    """Takes steps; `busy_seconds` sums over the cores that were at work."""
    begin, busy = time.perf_counter(), time.process_time()
    self._system.run(steps)
    return {
      "seconds": time.perf_counter() - begin,
      "busy_seconds": time.process_time() - busy,
    }

  def report(self) -> Answer:
    """Returns memory in bytes, and the system's own facts.

    `base_memory` is what the process held with its libraries imported and
    nothing built; the peaks include it.
    """
    in_steps = memory.peak()
    return {
      "base_memory": self._base_memory,
      "peak_memory": max(self._peak_before, in_steps),
      "peak_memory_in_steps": in_steps,
      "facts": self._system.facts(),
    }


def main() -> None:
  """Serves on what were this process's input and output.

  Libraries print: what they print goes to the error stream.
  """
  answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
  os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
  serve(sys.stdin, answers)


if __name__ == "__main__":
  main()
