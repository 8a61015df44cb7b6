import json

import pytest

from benchmarks import comparison as comparison_lib
from benchmarks import comparisons, sizes, table
from benchmarks.comparison import Comparison, Startup
from benchmarks.goals import Goal, Quantity
from benchmarks.jobs import Job
from benchmarks.measure import Measurement, Plan

MEASURED: list[str] = []
PACKED = "ours:packed_length=248"


def fake_measure(names, job, plan, *, platform):
  MEASURED.append(job.kind.value)
  return {
    name: Measurement(
      name=name,
      build_seconds=1.0,
      start_seconds=1.0,
      seconds=[float(index + 1)] * plan.rounds,
      busy_cores=[2.0] * plan.rounds,
      report={
        "peak_memory": 5,
        "peak_memory_in_steps": 4,
        "base_memory": 1,
        "facts": {},
      },
    )
    for index, name in enumerate(names)
  }


@pytest.fixture(autouse=True)
def _fakes(monkeypatch):
  MEASURED.clear()
  monkeypatch.setattr(comparison_lib, "measure", fake_measure)


def make(**settings):
  plain = {
    "name": "steps",
    "about": "A step.",
    "job": Job(kind="train_step", sizes=sizes.read("tiny", vocab_size=64)),
    "systems": (PACKED, "peft"),
    "baseline": "peft",
    "plan": Plan(rounds=2, steps=1),
    "goals": (
      Goal(
        about="speed", of=PACKED, to="peft", quantity=Quantity.SPEED, reach=2
      ),
    ),
  }
  return Comparison(**plain | settings)


def test_what_is_measured_can_be_kept_and_shown():
  comparison = make()
  kept = json.loads(json.dumps(comparison.measure("cpu")))
  text = comparison.markdown(kept)
  assert f"| {PACKED} |" in text
  assert "times peft" in text
  assert "weights and activations GiB" in text
  assert [each.is_reached for each in comparison.outcomes(kept)] == [True]


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"systems": ("theirs",)}, "unknown system 'theirs'"),
    ({"systems": ("peft", "peft")}, "none twice"),
    ({"matrix": ()}, "at least one name each"),
    ({"baseline": "ours"}, "--baseline=ours is none of"),
    ({"systems": ("ours_joint",)}, "does no train_step"),
  ],
)
def test_refuses_what_cannot_be_compared(settings, message):
  with pytest.raises(ValueError, match=message):
    make(**settings)


def test_what_was_measured_is_not_measured_again(tmp_path):
  one, other = make(), make(name="other")
  first = table.run([one], tmp_path, platform="cpu")
  assert len(MEASURED) == 1
  both = table.run([one, other], tmp_path, platform="cpu")
  assert len(MEASURED) == 2
  assert "### steps\n\nA step.\n" in first
  assert "### other\n" in both
  assert "| speed |" in both.partition("###")[0]
  assert {path.name for path in tmp_path.iterdir()} == {
    "steps.json",
    "other.json",
  }


@pytest.mark.parametrize(
  "change",
  [
    {"plan": Plan(rounds=3, steps=1)},
    {"systems": ("ours", "peft"), "goals": ()},
    {"job": Job(kind="train_step", sizes=sizes.read("mini", vocab_size=64))},
  ],
)
def test_figures_of_other_settings_are_not_shown(change, tmp_path):
  table.run([make()], tmp_path, platform="cpu")
  with pytest.raises(ValueError, match=r"steps\.json was measured with other"):
    table.run([make(**change)], tmp_path, platform="cpu")


def test_figures_of_another_platform_are_not_shown(tmp_path):
  table.run([make()], tmp_path, platform="cpu")
  with pytest.raises(ValueError, match="other settings"):
    table.run([make()], tmp_path, platform="cuda")


def test_comparisons_are_found_by_name():
  assert table.find(None) == list(comparisons.COMPARISONS)
  assert [each.name for each in table.find(["decode", "sst2"])] == [
    "decode",
    "sst2",
  ]
  with pytest.raises(ValueError, match="unknown comparison 'all'; on 'cpu'"):
    table.find(["all"])


def test_a_gpu_has_its_own():
  found = table.find(None, platform="cuda")
  assert found == list(comparisons.GPU_COMPARISONS)
  with pytest.raises(
    ValueError, match="on 'cuda' there are train_step, train_step_xl, many"
  ):
    table.find(["startup"], platform="cuda")


@pytest.mark.parametrize("platform", ["cpu", "cuda"])
def test_goals_are_of_systems_that_are_measured(platform):
  entries = comparisons.on(platform)
  assert len({each.name for each in entries}) == len(entries)
  for each in entries:
    if isinstance(each, Startup):
      continue
    for goal in each.goals:
      assert {goal.of, goal.to} <= {*each.systems, ""}


def test_all_of_it_fits_into_the_time_there_is():
  alone = [e for e in comparisons.COMPARISONS if not e.interpreters]
  assert sum(each.minutes for each in alone) <= 25


def test_lengths_of_sst2_are_of_every_training_text():
  job = comparisons.SST2.job
  assert sum(times for _, times in job.lengths) == 67_349
  assert max(tokens for tokens, _ in job.lengths) < job.inputs_length


def test_what_needs_another_python_is_left_out_and_told(monkeypatch, capsys):
  entries = [make(), make(name="t5x", systems=("ours", "t5x"), baseline="t5x")]
  monkeypatch.delenv("T5X_PYTHON", raising=False)
  assert table.at_hand(entries) == entries[:1]
  assert "t5x is left out: it needs a Python that T5X_PYTHON names" in (
    capsys.readouterr().out
  )
  monkeypatch.setenv("T5X_PYTHON", "python")
  assert table.at_hand(entries) == entries
