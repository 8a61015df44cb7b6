import pytest

from benchmarks import goals, sizes
from benchmarks.goals import Goal, Outcome, Quantity
from benchmarks.jobs import Job
from benchmarks.measure import Measurement, Plan
from benchmarks.report import Report


def measurement(name, seconds, peak):
  return Measurement(
    name=name,
    build_seconds=1.0,
    start_seconds=1.0,
    seconds=seconds,
    busy_cores=[2.0] * len(seconds),
    report={"peak_memory": peak},
  )


# Twice as fast, once four times; a fifth of the memory.
REPORT = Report(
  job=Job(kind="train_step", sizes=sizes.read("tiny", vocab_size=64)),
  plan=Plan(rounds=3, steps=1),
  systems={
    "ours": measurement("ours", [1.0, 2.0, 1.0], peak=100),
    "peft": measurement("peft", [2.0, 4.0, 4.0], peak=500),
  },
  matrix={"matrix_xla": measurement("matrix_xla", [1.0, 2.0, 1.0], peak=1)},
)


@pytest.mark.parametrize(
  ("quantity", "reach", "figure", "is_reached"),
  [
    (Quantity.SPEED, 1.9, "2.00 (2.00-3.00) times as fast as peft", True),
    (Quantity.SPEED, 2.1, "2.00 (2.00-3.00) times as fast as peft", False),
    (Quantity.TIME, 1.05, "0.50 (0.38-0.50) of the time of peft", True),
    (Quantity.TIME, 0.4, "0.50 (0.38-0.50) of the time of peft", False),
    (Quantity.PEAK_MEMORY, 0.25, "0.20 (0.20-0.20) of the peak memory", True),
    (Quantity.PEAK_MEMORY, 0.1, "0.20 (0.20-0.20) of the peak memory", False),
  ],
)
def test_the_median_is_held_against_the_reach(
  quantity, reach, figure, is_reached
):
  goal = Goal(
    about="step", of="ours", to="peft", quantity=quantity, reach=reach
  )
  outcome = goal.outcome(REPORT)
  assert outcome.figure.startswith(figure)
  assert outcome.is_reached == is_reached
  assert outcome.reach.endswith(f" {reach:g}")


def test_the_matrix_rate_is_to_be_reached_from_below():
  rate = REPORT.utilization("ours").median
  for reach, is_reached in ((rate * 0.9, True), (rate * 1.1, False)):
    goal = Goal(
      about="rate", of="ours", quantity=Quantity.MATRIX_RATE, reach=reach
    )
    assert goal.outcome(REPORT).is_reached == is_reached
    assert goal.outcome(REPORT).reach.startswith("at least")


def test_a_table_says_what_is_reached():
  text = goals.table(
    [
      Outcome("speed", "2 times", "at least 1.9", is_reached=True),
      Outcome("memory", "0.3", "at most 0.25", is_reached=False),
    ]
  )
  assert "| speed  | 2 times  | at least 1.9 | yes     |" in text
  assert "| memory | 0.3      | at most 0.25 | no      |" in text
