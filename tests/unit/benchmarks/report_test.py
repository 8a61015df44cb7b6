import json

import pytest

from benchmarks import sizes
from benchmarks.flops import Mode
from benchmarks.jobs import Job
from benchmarks.measure import Measurement, Plan
from benchmarks.report import Report
from benchmarks.systems import matrix

GIB = 2**30
PLAN = Plan(rounds=3, steps=1, waking_steps=0)
JOB = Job(
  kind="train_step",
  sizes=sizes.read("tiny", vocab_size=64),
  batch_size=2,
  inputs_length=10,
  targets_length=5,
)


def measurement(name, seconds, *, peak=GIB, **facts):
  return Measurement(
    name=name,
    build_seconds=1.0,
    start_seconds=2.0,
    seconds=seconds,
    busy_cores=[1.0] * len(seconds),
    report={
      "peak_memory": peak,
      "peak_memory_in_steps": peak,
      "base_memory": GIB / 2,
      "facts": facts,
    },
  )


def make(**facts):
  matrices = {
    "matrix_xla": measurement("matrix_xla", [1.0, 2.0, 1.0]),
    "matrix_torch": measurement("matrix_torch", [2.0, 1.0, 1.0]),
  }
  return Report(
    job=JOB,
    plan=PLAN,
    systems={
      "ours": measurement("ours", [1.0, 2.0, 4.0], peak=GIB, **facts),
      "peft": measurement("peft", [3.0, 6.0, 12.0], peak=4 * GIB),
    },
    matrix=matrices,
  )


def cells(text, row):
  line = next(s for s in text.splitlines() if s.startswith(f"| {row} "))
  return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_floor_follows_the_fastest_matrix_product_of_each_round():
  report = make()
  assert report.matrix_rates == [matrix.step_flops(JOB)] * 3
  needed = report.needed_flops(Mode.FULL)[0]
  floor = report.seconds()["floor_full"]
  assert floor == pytest.approx([needed / matrix.step_flops(JOB)] * 3)


def test_only_floors_of_what_was_measured_are_shown():
  assert set(make().seconds()) == {"ours", "peft", "floor_full"}


def test_tables_say_how_fast_and_against_what():
  text = make().markdown(baseline="peft")
  speed, costs = text.split("\n\n")[:2]
  ours = cells(speed, "ours")
  assert ours[1] == "2.000 (1.500-3.000)"
  assert ours[2] == "3.00 (3.00-3.00)"
  assert ours[3] == "1.0 (0.8-1.5)"  # Two examples a step.
  assert ours[4] == "15 (11-22)"  # Of ten and five tokens each.
  assert cells(costs, "ours")[-1] == "0.25"
  assert cells(costs, "peft")[2] == "4.00"


def test_memory_is_not_compared_with_a_floor():
  text = make().markdown(baseline="floor_full")
  assert cells(text, "floor_full")[2] == "1.00 (1.00-1.00)"
  assert "peak / " not in text


def test_the_compiled_step_is_compared_with_the_forward_pass():
  assert "forward pass" not in make().markdown(baseline="peft")
  text = make(compiled_flops=1e9).markdown(baseline="peft")
  assert "ours: the compiled step has 1.0 GFLOP" in text


def test_everything_is_kept_as_json():
  kept = json.loads(json.dumps(make().as_json()))
  assert kept["measurements"]["ours"]["seconds"] == [1.0, 2.0, 4.0]
  assert Report.from_json(kept) == make()
  assert kept["measurements"]["matrix_xla"]["seconds"] == [1.0, 2.0, 1.0]
  assert Job(**kept["job"]) == JOB
  assert kept["machine"]["cores"] >= 1
