import io
import json

import pytest

from benchmarks import systems, worker
from benchmarks.flops import Mode
from benchmarks.jobs import Job
from benchmarks.systems import Entry

JOB = Job(kind="train_step", sizes={"vocab_size": 8})


class Fake:
  """A system that remembers what it was asked, and has memory to show."""

  def __init__(self, job):
    self.job = job
    self.taken = 0

  def start(self):
    bytearray(50_000_000)

  def run(self, num_steps):
    self.taken += num_steps

  def facts(self):
    return {"taken": self.taken, "batch_size": self.job.batch_size}


@pytest.fixture(autouse=True)
def _fake(monkeypatch):
  entry = Entry(__name__, "Fake", Mode.FULL)
  monkeypatch.setattr(Entry, "load", lambda self: Fake)
  monkeypatch.setitem(systems.SYSTEMS, "fake", entry)


def serve(*requests):
  answers = io.StringIO()
  lines = "".join(json.dumps(request) + "\n" for request in requests)
  worker.serve(io.StringIO(lines), answers)
  return [json.loads(line) for line in answers.getvalue().splitlines()]


def test_answers_every_request():
  build, start, first, second, report = serve(
    {"do": "build", "system": "fake", "job": JOB.to_json()},
    {"do": "start"},
    {"do": "run", "steps": 3},
    {"do": "run", "steps": 2},
    {"do": "report"},
  )
  for answer in (build, start, first, second):
    assert answer["seconds"] > 0
  assert set(first) == {"seconds", "busy_seconds"}
  assert report["facts"] == {"taken": 5, "batch_size": 32}
  # What starting took was given back before the steps.
  peak, in_steps = report["peak_memory"], report["peak_memory_in_steps"]
  assert peak - in_steps > 40_000_000
  assert 0 < report["base_memory"] <= peak


def test_an_unknown_system_ends_the_worker():
  with pytest.raises(ValueError, match="unknown system"):
    serve({"do": "build", "system": "theirs", "job": JOB.to_json()})
