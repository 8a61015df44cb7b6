"""Grids of experiments: what they describe, and what they refuse."""

import dataclasses
import shlex

import pytest

from prompt_tuning.config.errors import ConfigError
from prompt_tuning.sweeps import jobs as jobs_lib
from prompt_tuning.sweeps.grid import Grid
from prompt_tuning.sweeps.jobs import Settings


def grid(**changes):
  plain = {
    "about": "Length",
    "recipes": ("runs/prompt_tune.gin",),
    "jobs": {"PROMPT_LENGTH": [1, 20]},
    "together": {
      "start": {"a": "--gin_file=a.gin", "b": "'--gin.X=(1, 2)'"},
      "RANDOM_SEED": [0, 1],
    },
  }
  return Grid(**plain | changes)


SETTINGS = Settings(
  folder="runs/x",
  backbone=("models/embedded.gin",),
  gin_files=("tasks/t.gin",),
  bindings=("TRAIN_STEPS=3",),
)


def test_every_combination_is_a_run():
  jobs = jobs_lib.plan(grid(), SETTINGS)
  assert [job.name for job in jobs] == ["PROMPT_LENGTH=1", "PROMPT_LENGTH=20"]
  for job in jobs:
    assert [run.coordinates for run in job.runs] == [
      {"PROMPT_LENGTH": job.name[14:], "start": start, "RANDOM_SEED": seed}
      for start in "ab"
      for seed in "01"
    ]
    assert job.runs[2].folder == f"{job.name}/start=b,RANDOM_SEED=0"


def test_a_job_is_one_command_of_all_its_runs():
  [command] = jobs_lib.plan(grid(), SETTINGS)[1].commands
  assert command == [
    "prompt_tuning.train_jointly",
    "--gin_file=models/embedded.gin",
    "--gin_file=runs/prompt_tune.gin",
    "--gin_file=tasks/t.gin",
    "--gin.TRAIN_STEPS=3",
    "--gin.PROMPT_LENGTH=20",
    "--gin.MODEL_DIR='runs/x/PROMPT_LENGTH=20'",
    "--member=start=a,RANDOM_SEED=0 --gin_file=a.gin --gin.RANDOM_SEED=0",
    "--member=start=a,RANDOM_SEED=1 --gin_file=a.gin --gin.RANDOM_SEED=1",
    *(
      "--member="
      + shlex.join(
        [
          f"start=b,RANDOM_SEED={seed}",
          "--gin.X=(1, 2)",
          f"--gin.RANDOM_SEED={seed}",
        ]
      )
      for seed in "01"
    ),
  ]


def test_what_cannot_be_trained_jointly_is_a_command_a_run():
  job = jobs_lib.plan(grid(program="train"), SETTINGS)[0]
  assert len(job.commands) == len(job.runs) == 4
  for command, run in zip(job.commands, job.runs, strict=True):
    assert command[0] == "prompt_tuning.train"
    assert f"--gin.MODEL_DIR='runs/x/{run.folder}'" == command[-1]


def test_without_axes_of_jobs_there_is_one():
  [job] = jobs_lib.plan(grid(jobs={}), SETTINGS)
  assert job.name == "all"
  assert job.runs[0].folder == "all/start=a,RANDOM_SEED=0"


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"repeats": "SEED"}, "'SEED', which is no axis of together; there are st"),
    ({"jobs": {"RANDOM_SEED": [1]}}, "RANDOM_SEED is in jobs and in together"),
    ({"jobs": {"PROMPT_LENGTH": []}}, "'PROMPT_LENGTH' has no values"),
    ({"jobs": {"X": ["a b", "a-b"]}}, "must differ in letters"),
    ({"jobs": {"X": {"a": "--steps=3"}}}, "axis 'X': .*got '--steps=3'"),
    ({"program": "infer"}, "Grid.program"),
    ({"choose": "RATE"}, "'RATE', which is to be an axis of together"),
    ({"choose": "RANDOM_SEED"}, "and not RANDOM_SEED"),
  ],
)
def test_what_is_no_grid(changes, message):
  with pytest.raises(ValueError, match=message):
    grid(**changes)


@pytest.mark.parametrize("binding", ["PROMPT_LENGTH=3", "MODEL_DIR='a'"])
def test_the_command_line_may_not_set_what_an_axis_sets(binding):
  settings = Settings(folder="x", bindings=(binding,))
  with pytest.raises(ConfigError, match="is set by the sweep itself"):
    jobs_lib.plan(grid(), settings)


def without_effect(files, bindings):
  """Lengths change nothing without a prompt, and Y never does."""
  idle = ["Y"] if "none.gin" not in files else ["Y", "PROMPT_LENGTH"]
  return {b: f"{b} is idle" for b in bindings if b.partition("=")[0] in idle}


PROMPT_OR_NOT = {"tuning": {"prompt": "", "model": "--gin_file=none.gin"}}


def test_what_changes_nothing_in_a_job_is_left_out_of_it(caplog):
  settings = dataclasses.replace(
    SETTINGS, bindings=("TRAIN_STEPS=3", "PROMPT_LENGTH=20")
  )
  with caplog.at_level("INFO", logger="absl"):
    jobs = jobs_lib.plan(
      grid(jobs=PROMPT_OR_NOT, together={"RANDOM_SEED": [0]}),
      settings,
      without_effect=without_effect,
    )
  given = ["--gin.PROMPT_LENGTH=20" in job.commands[0] for job in jobs]
  assert given == [True, False]
  assert all("--gin.TRAIN_STEPS=3" in job.commands[0] for job in jobs)
  assert (
    "tuning=model/RANDOM_SEED=0 goes without PROMPT_LENGTH=20" in caplog.text
  )


def test_what_changes_nothing_anywhere_is_an_error():
  settings = dataclasses.replace(SETTINGS, bindings=("Y=1", "TRAIN_STEPS=3"))
  with pytest.raises(ConfigError, match=r"^Y=1 is idle$"):
    jobs_lib.plan(
      grid(jobs=PROMPT_OR_NOT), settings, without_effect=without_effect
    )


def test_what_changes_nothing_in_the_grid_is_an_error():
  jobs = {"tuning": {"prompt": "", "model": "--gin.Y=1"}}
  with pytest.raises(ConfigError, match=r"^Run tuning=model/.*: Y=1 is idle$"):
    jobs_lib.plan(grid(jobs=jobs), SETTINGS, without_effect=without_effect)


@pytest.mark.parametrize("program", ["train_jointly", "train"])
def test_what_some_runs_of_a_job_take_stands_with_them(program):
  starts = {"file": "--gin_file=none.gin", "random": "--gin_file=random.gin"}
  settings = dataclasses.replace(
    SETTINGS, bindings=("TRAIN_STEPS=3", "PROMPT_LENGTH=20")
  )
  [job] = jobs_lib.plan(
    grid(
      jobs={},
      together={"start": starts, "RANDOM_SEED": [0]},
      program=program,
    ),
    settings,
    without_effect=without_effect,
  )
  if program == "train":
    given = ["--gin.PROMPT_LENGTH=20" in each for each in job.commands]
    assert given == [False, True]
    return
  [command] = job.commands
  assert "--gin.TRAIN_STEPS=3" in command
  assert "--gin.PROMPT_LENGTH=20" not in command
  file, random = [each for each in command if each.startswith("--member=")]
  assert "PROMPT_LENGTH" not in file
  assert "--gin_file=random.gin --gin.PROMPT_LENGTH=20 --gin.RANDOM" in random
