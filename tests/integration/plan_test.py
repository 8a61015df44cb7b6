"""The command, with the TPU compiler, on a machine without a TPU."""

import subprocess
import sys

import pytest

from prompt_tuning import paths

pytest.importorskip("libtpu", reason="pip install 'prompt-tuning[plan]'")

ROOT = paths.recipe_roots()[0].parent
RUN = [
  "--gin_file=models/t5_1_1.gin",
  "--gin_file=sizes/tiny.gin",
  "--gin_file=runs/prompt_tune.gin",
  "--gin_file=runs/plan.gin",
  "--gin.NUM_ENCODER_LAYERS=1",
  "--gin.NUM_DECODER_LAYERS=1",
  "--gin.BATCH_SIZE=16",
  "--gin.PROMPT_LENGTH=4",
  "--gin.TASK_FEATURE_LENGTHS={'inputs': 28, 'targets': 4}",
]


def plan(*arguments, folder):
  """Runs the command in a folder of its own, with this interpreter."""
  return subprocess.run(
    [sys.executable, "-m", "prompt_tuning.plan", *RUN, *arguments],
    cwd=folder,
    env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(folder)},
    capture_output=True,
    text=True,
    check=False,
  )


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_steps_are_compiled_for_chips_that_are_not_there(tmp_path):
  result = plan(
    "--topology=v5e:2x2,v4:2x2x1", "--model_partitions=2", folder=tmp_path
  )
  assert result.returncode == 0, result.stderr
  rows = [li.split(" | ") for li in result.stdout.splitlines() if " | " in li]
  head, _, *rows = [[cell.strip("| ") for cell in row] for row in rows]
  assert [row[head.index("slice")] for row in rows] == ["v5e:2x2", "v4:2x2x1"]
  assert {row[head.index("mesh")] for row in rows} == {"2 x 2"}
  for name in ("train", "score", "decode"):
    assert f"\n{name}: " in result.stdout
  # The frozen weights stay where they are; only activations are summed up.
  assert "all-to-all" not in result.stdout
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["--topology=v5e:2x2x2"], "has 2 dimensions"),
    (["--topology=v5e:2x2", "--gin.BATCH_SIZ=8"], "BATCH_SIZE"),
    ([], "--topology"),
  ],
)
def test_a_mistake_is_told_before_anything_is_compiled(
  tmp_path, arguments, message
):
  result = plan(*arguments, folder=tmp_path)
  assert result.returncode != 0
  assert message in result.stderr
  assert "Traceback" not in result.stderr
