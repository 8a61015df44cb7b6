import shlex
import subprocess
import sys

import pytest

from launch.command import LaunchError, State, command, execute, exit_code

HARD_WORDS = [
  "plain",
  "",
  "two words",
  "--flag=two words",
  "--flag=",
  "--gin.MODEL_DIR='gs://bucket/run'",
  """--command='a' "b" $HOME `c` \\d""",
  "--x=a\nb",
  "a#b",
  "--format=value(state.state)",
]


def test_what_is_printed_is_what_a_shell_would_run():
  script = "import sys; print(sys.argv[1:])"
  step = command(sys.executable, "-c", script, *HARD_WORDS)
  result = subprocess.run(
    ["sh", "-c", str(step)], capture_output=True, text=True, check=True
  )
  assert result.stdout.strip() == str(HARD_WORDS)


def test_only_the_value_of_a_flag_is_quoted():
  assert str(command("x", "--a=b c")) == "x --a='b c'"


def test_a_note_is_a_comment():
  step = command("echo", "a#b", note="it's why")
  assert shlex.split(str(step), comments=True) == ["echo", "a#b"]


def test_dry_runs_print_to_stdout_and_run_nothing(capsys, stand_ins):
  execute([command("gcloud", "a b")], dry_run=True)
  assert capsys.readouterr().out == "gcloud 'a b'\n"
  assert stand_ins.calls() == []


def test_commands_run_in_order_and_are_shown(capsys, stand_ins):
  execute([command("gcloud", "1"), command("git", "2")], dry_run=False)
  assert stand_ins.calls() == [["gcloud", "1"], ["git", "2"]]
  assert capsys.readouterr().err == "+ gcloud 1\n+ git 2\n"


def test_the_first_failure_ends_the_plan_and_is_named(stand_ins):
  stand_ins.reply("git", code=3)
  plan = [command("gcloud"), command("git", "a b"), command("sbatch")]
  with pytest.raises(LaunchError, match="Exit code 3 from:\n  git 'a b'") as e:
    execute(plan, dry_run=False)
  assert e.value.code == 3
  assert stand_ins.calls() == [["gcloud"], ["git", "a b"]]


def test_a_program_that_is_missing_is_named():
  with pytest.raises(LaunchError, match="no_such_program is not inst") as e:
    execute([command("no_such_program", "x")], dry_run=False)
  assert e.value.code == 127


def test_signals_become_exit_codes_as_in_a_shell():
  assert exit_code(-15) == 143
  assert exit_code(3) == 3


STATE = State(wanted="ON", passing=("SOON",), hint="Try later.", period=0.0)


def test_a_state_is_awaited(capsys, stand_ins):
  stand_ins.reply("ask", "SOON", "SOON", "ON")
  execute(
    [command("gcloud", "ask", state=STATE), command("git")], dry_run=False
  )
  assert stand_ins.calls() == [["gcloud", "ask"]] * 3 + [["git"]]
  assert capsys.readouterr().err.count("SOON") == 1


def test_a_state_that_will_not_pass_ends_the_plan(stand_ins):
  stand_ins.reply("ask", "SOON", "OFF")
  with pytest.raises(LaunchError, match=r"Expected ON, got OFF.*\n.*\nTry lat"):
    execute([command("gcloud", "ask", state=STATE)], dry_run=False)


def test_a_dry_run_says_what_a_state_is_for():
  asks = command("gcloud", "ask", state=STATE)
  assert str(asks) == "gcloud ask  # repeated until ON"
