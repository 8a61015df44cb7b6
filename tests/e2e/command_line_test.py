"""The commands of the README, as a user types them, cut short."""

import json
import re
import shlex
import subprocess
import sys

import pytest

from prompt_tuning import paths

ROOT = paths.recipe_roots()[0].parent
# Applied to every command: few steps, and everything below one folder.
SHORT = "--gin.TRAIN_STEPS=3"
FEWER_JOBS = ("/prompt_length.gin", "/prompt_attention.gin")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def readme_commands(name="README.md"):
  """Returns the `python -m prompt_tuning...` commands of a page."""
  text = (ROOT / name).read_text()
  blocks = re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL)
  lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
  return [shlex.split(li) for li in lines if li.startswith("python -m prompt")]


def run(command, folder):
  """Runs a command in a folder of its own, with this interpreter."""
  return subprocess.run(
    [sys.executable, *command[1:]],
    cwd=folder,
    env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(folder)},
    capture_output=True,
    text=True,
    check=False,
  )


def test_the_commands_of_the_readme_follow_on_each_other(tmp_path):
  commands = readme_commands()
  mains = [command[2].split(".")[1] for command in commands]
  assert {"train", "eval", "infer", "train_jointly"} <= set(mains)
  texts = ["the plot was dull .", "we love the music ."]
  (tmp_path / "texts.jsonl").write_text(
    "".join(json.dumps({"inputs": text}) + "\n" for text in texts)
  )
  for main, command in zip(mains, commands, strict=True):
    extra = [SHORT] if main.startswith(("train", "sweep")) else []
    # Of two jobs, where README's has six.
    command = [part.replace(*FEWER_JOBS) for part in command]
    result = run([*command, *extra], tmp_path)
    assert result.returncode == 0, (command, result.stderr[-3000:])
  answers = (tmp_path / "answers.jsonl").read_text().splitlines()
  assert [json.loads(line)["inputs"] for line in answers] == texts
  metrics = json.loads(
    (tmp_path / "runs" / "sentiment" / "eval" / "metrics.json").read_text()
  )
  assert 0 <= metrics["small_world_sentiment/accuracy"] <= 100
  report = (tmp_path / "runs" / "prompt_length" / "report.md").read_text()
  assert "| full | " in report
  assert "Not whole" not in report
  for seed in range(3):
    model_dir = tmp_path / "runs" / "seeds" / f"RANDOM_SEED={seed}"
    assert (model_dir / "prompts" / "best.npy").exists()
    recipe = (model_dir / "config.gin").read_text()
    assert f"RANDOM_SEED = {seed}\n" in recipe
    assert f"RANDOM_SEED={seed}'" in recipe  # Its own MODEL_DIR.


# In the place of five methods with ten prompts each.
ONE_METHOD = """
include "papers/ppt2022/embedded_few_shot.gin"
from __gin__ import dynamic_registration
from prompt_tuning.sweeps import grid
grid.Grid.jobs = {"method": {"PPT": "--gin_file=prompts/pretrained.gin"}}
grid.Grid.together = {"LEARNING_RATE": [0.01, 0.05], "RANDOM_SEED": [10]}
"""
PPT_CUTS = {
  "papers/ppt2022/embedded_few_shot.gin": "one_method.gin",
  "--gin.NUM_SENTENCES=20000": "--gin.NUM_SENTENCES=500",
  "--gin.VOCABULARY_PATH='spiece.model'": "--gin.VOCABULARY_PATH="
  f"'{paths.embedded_dir() / 'sentencepiece.model'}'",
}


def test_the_commands_of_ppt_follow_on_each_other(tmp_path):
  (tmp_path / "one_method.gin").write_text(ONE_METHOD)
  for command in readme_commands("docs/ppt.md"):
    command = [PPT_CUTS.get(part, part) for part in command]
    main = command[2].split(".")[1]
    extra = [SHORT] if main in ("train", "sweep") else []
    if main == "cache_task":
      extra = ["--gin.NUM_QUESTIONS={'train': 300, 'validation': 10}"]
    if "pretrain_sentences" in str(command):
      # Three steps make no labeller.
      extra.append("--gin.THRESHOLDS={'bad': 0.0, 'good': 0.0}")
      label_every_class(tmp_path / "runs" / "labelled.jsonl")
    result = run([*command, *extra], tmp_path)
    assert result.returncode == 0, (command, result.stderr[-3000:])
  report = (tmp_path / "runs/few_shot/entailment/report.md").read_text()
  assert "Not whole" not in report
  assert "at the best LEARNING_RATE" in report
  cached = tmp_path / "runs" / "cached" / "next_sentence_prediction"
  assert (cached / "COMPLETED").exists()


def test_the_example_of_serving_runs(tmp_path):
  for command in readme_commands("docs/interchange.md"):
    result = run([*command, SHORT], tmp_path)
    assert result.returncode == 0, (command, result.stderr[-3000:])
  text = (ROOT / "docs/interchange.md").read_text()
  [script] = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
  result = run(["python", "-c", script], tmp_path)
  assert result.returncode == 0, result.stderr[-3000:]
  *_, sentiment, topic = result.stdout.splitlines()
  assert sentiment.split()[0] in ("bad", "good")
  assert topic.split()[0] in ("sports", "cooking", "science", "music", "travel")


def label_every_class(path):
  """Gives some sentences the other label: a bad labeller may know but one."""
  rows = [json.loads(line) for line in path.read_text().splitlines()]
  for row in rows[::2]:
    row["label"] = "bad"
  for row in rows[1::2]:
    row["label"] = "good"
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_dry_run_of_each_command_writes_nothing(tmp_path):
  (tmp_path / "texts.jsonl").write_text('{"inputs": "the team won ."}\n')
  for command in readme_commands():
    bare = [part for part in command if not part.startswith("--gin.PROMPT_F")]
    result = run([*bare, "--dry_run"], tmp_path)
    assert result.returncode == 0, (command, result.stderr[-3000:])
    shown = ["Backbone.checkpoint = ", "subtree ", "one batch"]
    if command[2].endswith(".sweep"):
      shown = [f"# PROMPT_LENGTH={length}: 3 runs" for length in (1, 150)]
    for part in shown:
      assert part in result.stdout, (command, result.stdout)
  names = [path.name for path in tmp_path.iterdir()]
  # Keras makes a hidden folder in the home of the user.
  assert [n for n in names if not n.startswith(".")] == ["texts.jsonl"]


@pytest.mark.parametrize(
  ("extra", "message"),
  [
    (["--gin.PROMPT_LENGHT=5"], "PROMPT_LENGTH"),
    (["--gin.MODEL_DIR=/tmp/x"], "quotes"),
    (["--gin.TRAIN_STEPS='3'"], "TRAIN_STEPS"),
    (["--gin.MIXTURE_OR_TASK_NAME='small_world_topik'"], "small_world_topic"),
  ],
)
def test_a_mistake_is_one_readable_message(tmp_path, extra, message):
  train = next(c for c in readme_commands() if c[2].endswith("train"))
  result = run([*train, *extra], tmp_path)
  assert result.returncode != 0
  assert message in result.stderr[-2000:], result.stderr[-2000:]
  assert not (tmp_path / "runs").exists()


def test_a_missing_macro_is_named(tmp_path):
  command = "python -m prompt_tuning.train --gin_file=models/embedded.gin"
  result = run([*command.split(), "--gin_file=runs/prompt_tune.gin"], tmp_path)
  assert result.returncode != 0
  for macro in ("MODEL_DIR", "MIXTURE_OR_TASK_NAME", "TRAIN_STEPS"):
    assert macro in result.stderr
