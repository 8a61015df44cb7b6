"""What each launcher would run, and that it runs just that."""

import pathlib
import re
import shlex
import subprocess
import sys

import pytest

from launch import local, slurm, tpu_slice, tpu_vm, xm
from launch.cli import VERBS

ROOT = pathlib.Path(__file__).resolve().parents[3]
TRAIN = ["--", "python", "-m", "prompt_tuning.train", "--gin.NAME='a b'"]
TARGETS = {
  "tpu_vm": (tpu_vm, ["--zone=z", "--accelerator=v5litepod-8"]),
  "tpu_slice": (
    tpu_slice,
    ["--zone=z", "--project=p", "--accelerator=v4-32", "--spot"],
  ),
  "slurm": (slurm, ["--accelerator=a100:8", "--time=1:00:00"]),
  "xm": (xm, ["--accelerator=a100:8", "--image=host/project/pt"]),
  "local": (local, ["--processes=2", "--port=12345"]),
}
IN_ORDER = [
  (name, verb)
  for name in TARGETS
  for verb in VERBS
  # These two watch their processes instead; tests/integration has them.
  if (name, verb) not in {("slurm", "watch"), ("local", "run")}
]


def arguments(name, verb, *more):
  _, flags = TARGETS[name]
  run = TRAIN if verb == "run" else []
  if run and name == "tpu_slice":
    run = [*run, "--distributed"]
  return [verb, "--name=pt", *flags, *more, *run]


def dry_run(name, verb, capsys, *more):
  module, _ = TARGETS[name]
  capsys.readouterr()
  assert module.TARGET.main(arguments(name, verb, "--dry_run", *more)) == 0
  return capsys.readouterr().out.splitlines()


def words_of(line):
  first, *rest = shlex.split(line, comments=True)
  return [pathlib.Path(first).name, *rest]


@pytest.mark.parametrize(("name", "verb"), IN_ORDER)
def test_a_dry_run_prints_what_is_run(name, verb, capsys, stand_ins, installed):
  stand_ins.reply("describe", "ACTIVE")
  stand_ins.add("sh")
  printed = dry_run(name, verb, capsys)
  assert stand_ins.calls() == []
  assert printed
  assert TARGETS[name][0].TARGET.main(arguments(name, verb)) == 0
  assert stand_ins.calls() == [words_of(line) for line in printed]


@pytest.mark.parametrize(("name", "verb"), [*IN_ORDER, ("slurm", "watch")])
def test_the_first_command_that_fails_is_reported(
  name, verb, capsys, stand_ins, installed
):
  stand_ins.add("sh")
  stand_ins.reply("", code=9)
  printed = dry_run(name, verb, capsys)
  assert TARGETS[name][0].TARGET.main(arguments(name, verb)) == 9
  assert f"Exit code 9 from:\n  {printed[0]}" in capsys.readouterr().err


def test_a_vm_is_made_and_deleted(capsys):
  assert dry_run("tpu_vm", "create", capsys) == [
    "gcloud compute tpus tpu-vm create pt --zone=z "
    "--accelerator-type=v5litepod-8 --version=v2-alpha-tpuv5-lite"
  ]
  assert dry_run("tpu_vm", "create", capsys, "--spot")[0].endswith(" --spot")
  assert dry_run("tpu_vm", "delete", capsys)[0] == (
    "gcloud compute tpus tpu-vm delete pt --zone=z --quiet"
  )


def test_a_slice_is_queued_and_deleted_with_its_node(capsys):
  assert dry_run("tpu_slice", "create", capsys, "--valid_for=6h") == [
    "gcloud compute tpus queued-resources create pt --zone=z --project=p "
    "--node-id=pt --accelerator-type=v4-32 "
    "--runtime-version=tpu-ubuntu2204-base --spot --valid-until-duration=6h"
  ]
  assert dry_run("tpu_slice", "delete", capsys)[0] == (
    "gcloud compute tpus queued-resources delete pt --zone=z --project=p "
    "--force --quiet"
  )


def test_installing_waits_for_the_slice_and_reaches_every_host(
  capsys, stand_ins, monkeypatch
):
  monkeypatch.setattr("time.sleep", lambda seconds: None)
  stand_ins.reply("describe", "WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE")
  assert tpu_slice.TARGET.main(arguments("tpu_slice", "install")) == 0
  calls = stand_ins.calls()
  assert [call[4] for call in calls[:3]] == ["describe"] * 3
  reached = [call for call in calls if {"ssh", "scp"} & set(call)]
  assert len(reached) == 3
  assert all("--worker=all" in call for call in reached)
  assert all("--project=p" in call for call in reached)


@pytest.mark.parametrize("verb", ["run", "watch", "stop"])
def test_a_slice_that_was_taken_away_is_named(verb, capsys, stand_ins):
  stand_ins.reply("describe", "SUSPENDED")
  assert tpu_slice.TARGET.main(arguments("tpu_slice", verb)) == 1
  error = capsys.readouterr().err
  assert "Expected ACTIVE, got SUSPENDED" in error
  assert "resumes from its MODEL_DIR" in error
  assert not any("ssh" in call for call in stand_ins.calls())


def test_every_flag_of_a_verb_is_taken_by_the_others(capsys):
  for name in TARGETS:
    for verb in VERBS:
      assert dry_run(name, verb, capsys)


@pytest.mark.parametrize(
  ("name", "verb", "more", "message"),
  [
    ("tpu_slice", "run", TRAIN, "add --distributed"),
    ("slurm", "run", ["--nodes=2", *TRAIN], "add --distributed"),
    ("xm", "run", [*TRAIN, "--distributed"], "leave --distributed out"),
    ("tpu_vm", "run", [], "needs the command to run, behind --"),
    ("tpu_vm", "watch", ["--", "x"], "watch takes no run command"),
    (
      "tpu_vm",
      "run",
      [*TRAIN, "--gin.MODEL_DIR='runs/x'"],
      r"--gin.MODEL_DIR='runs/x': expected a folder on gs://",
    ),
    ("tpu_vm", "create", ["--accelerator=v9-8"], "expected one of v2-N"),
    ("xm", "run", ["--accelerator=8", *TRAIN], "such as a100:8; got '8'"),
    ("local", "create", ["--venv=mine"], "one that you look after"),
    ("local", "run", ["--processes=0", *TRAIN], "--processes: expected 1"),
    (
      "slurm",
      "run",
      ["--accelerator=a100", *TRAIN, "--distributed"],
      "expected a number of GPUs a node",
    ),
    ("tpu_vm", "stop", ["--name=My_VM"], "got 'My_VM'"),
    ("tpu_vm", "install", ["--source=/"], "expected a checkout"),
  ],
)
def test_what_cannot_work_is_refused(name, verb, more, message, capsys):
  module, flags = TARGETS[name]
  argv = [verb, "--dry_run", "--name=pt", *flags, *more]
  assert module.TARGET.main(argv) != 0
  assert re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize(
  ("name", "verb", "flag"),
  [
    ("tpu_vm", "create", "zone"),
    ("tpu_vm", "create", "accelerator"),
    ("slurm", "run", "accelerator"),
    ("xm", "delete", "image"),
    ("local", "watch", "name"),
  ],
)
def test_a_missing_flag_is_named(name, verb, flag, capsys):
  module, flags = TARGETS[name]
  argv = [
    word
    for word in [verb, "--dry_run", "--name=pt", *flags]
    if not word.startswith(f"--{flag}=")
  ]
  run = TRAIN if verb == "run" else []
  assert module.TARGET.main([*argv, *run]) == 2
  assert f"{verb} needs --{flag}" in capsys.readouterr().err


def test_without_an_environment_runs_are_not_started(capsys, stand_ins):
  for name in ("slurm", "local"):
    assert TARGETS[name][0].TARGET.main(arguments(name, "run")) == 1
    assert "`create` and `install` make it" in capsys.readouterr().err
  assert stand_ins.calls() == []


def test_under_slurm_jax_gets_a_process_per_gpu_or_one_alone(capsys):
  def submitted(*more):
    _, flags = TARGETS["slurm"]
    argv = ["run", "--dry_run", "--name=pt", *flags, *more]
    assert slurm.TARGET.main(argv) == 0
    return words_of(capsys.readouterr().out.splitlines()[-1])

  alone = submitted(*TRAIN)
  assert "--ntasks-per-node=1" in alone
  assert "--gpus-per-node=a100:8" in alone
  many = submitted("--nodes=2", "--cpus=4", *TRAIN, "--distributed")
  assert "--cpus-per-task=4" in many
  assert "srun --kill-on-bad-exit=1 --cpus-per-task=4 " in many[-1]
  assert "--ntasks-per-node=8" in many
  assert "--nodes=2" in many
  for call in (alone, many):
    # One after the other, in one log, with time to save.
    assert {"--dependency=singleton", "--open-mode=append"} <= set(call)
    assert "--signal=TERM@120" in call


def test_the_latest_job_of_vertex_is_the_one_that_is_stopped(stand_ins):
  stand_ins.reply("list", "projects/1/locations/us-central1/customJobs/7")
  assert xm.TARGET.main(arguments("xm", "stop", "--project=p")) == 0
  listing, cancelling = stand_ins.calls()
  assert "--filter=displayName~^pt_" in listing
  assert "--sort-by=~createTime" in listing
  assert cancelling == [
    *("gcloud", "ai", "custom-jobs", "cancel"),
    "projects/1/locations/us-central1/customJobs/7",
    *("--region=us-central1", "--project=p"),
  ]


@pytest.mark.parametrize("name", ["slurm", "local"])
def test_what_was_installed_is_not_hidden_by_the_checkout(name, capsys):
  own = dry_run(name, "run", capsys)[-1]
  assert "env PYTHONSAFEPATH=1 " in own
  assert "PYTHONSAFEPATH" not in dry_run(name, "run", capsys, "--venv=v")[-1]


def test_a_git_ref_is_archived(capsys, tmp_path):
  line = dry_run("tpu_vm", "install", capsys, "--source=origin/my-branch")[1]
  words = words_of(line)
  assert words[:4] == ["git", "-C", str(ROOT), "archive"]
  assert words[-1] == "origin/my-branch"
  file = words[-2].removeprefix("--output=")
  assert pathlib.Path(file).name == "prompt_tuning-origin-my-branch.tar.gz"
  installs = dry_run("tpu_vm", "install", capsys, "--source=origin/my-branch")
  assert file in installs[3]


@pytest.mark.parametrize("name", TARGETS)
def test_launchers_need_nothing_but_the_standard_library(name):
  # -S leaves out every installed package.
  result = subprocess.run(
    [sys.executable, "-S", "-m", f"launch.{name}", "--help"],
    cwd=ROOT,
    capture_output=True,
    text=True,
  )
  assert result.returncode == 0, result.stderr
  assert f"python -m launch.{name} VERB" in result.stdout
