import pytest

from benchmarks import measure as measure_lib
from benchmarks.jobs import Job
from benchmarks.measure import Plan
from benchmarks.remote import Turn

JOB = Job(kind="train_step", sizes={"vocab_size": 8}, num_batches=3)
CALLS: list[tuple[str, int]] = []
CLOSED: list[str] = []


class FakeRemote:
  build_seconds = 1.0
  start_seconds = 2.0

  def __init__(self, name, job, *, platform):
    self.name = name
    if name == "broken":
      raise RuntimeError("it ended")

  def __enter__(self):
    return self

  def __exit__(self, *error):
    CLOSED.append(self.name)

  def run(self, num_steps):
    CALLS.append((self.name, num_steps))
    return Turn(seconds=num_steps * len(CALLS), busy_seconds=num_steps)

  def report(self):
    return {"peak_memory": 3}


@pytest.fixture(autouse=True)
def _fakes(monkeypatch):
  CALLS.clear()
  CLOSED.clear()
  monkeypatch.setattr(measure_lib, "Remote", FakeRemote)


def measure(names, plan):
  return measure_lib.measure(names, JOB, plan, note=lambda text: None)


def test_systems_take_turns_there_and_back():
  plan = Plan(rounds=2, steps=5, waking_steps=0)
  measured = measure(["a", "b"], plan)
  assert [name for name, _ in CALLS] == ["a", "b", "b", "a"]
  assert measured["a"].seconds == [1.0, 4.0]
  assert measured["b"].seconds == [2.0, 3.0]
  assert measured["a"].busy_cores == [1.0, 0.25]
  assert CLOSED == ["b", "a"]


def test_waking_steps_are_not_timed():
  measured = measure(["a"], Plan(rounds=1, steps=5, waking_steps=2))
  assert CALLS == [("a", 2), ("a", 5)]
  assert measured["a"].seconds == [2.0]


def test_every_worker_is_ended_when_one_breaks():
  with pytest.raises(RuntimeError, match="it ended"):
    measure(["a", "broken"], Plan(rounds=1, steps=1))
  assert CLOSED == ["a"]


def test_rounds_go_through_the_batches_in_turn():
  # Of 3 batches, each round wakes up on one and times the next two.
  plan = Plan(rounds=2, steps=2, waking_steps=1)
  assert measure_lib.batches_of_rounds(JOB, plan) == [[1, 2], [1, 2]]
  plan = Plan(rounds=2, steps=1, waking_steps=1)
  assert measure_lib.batches_of_rounds(JOB, plan) == [[1], [0]]


def test_a_plan_without_steps_is_refused():
  with pytest.raises(ValueError, match=r"at least 1 .* got 3, 0 and 1"):
    Plan(rounds=3, steps=0)
