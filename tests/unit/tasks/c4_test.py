"""C4's tasks, in a process of their own, for a registry forgets none."""

import json
import os
import subprocess
import sys

from prompt_tuning import paths

_VOCABULARY = paths.embedded_dir() / "sentencepiece.model"
_SCRIPT = """
import json, seqio
from prompt_tuning.tasks import c4
print(json.dumps({
  name: [task.source.tfds_dataset.name, list(task.splits)]
  for name in c4.TASKS
  for task in [seqio.TaskRegistry.get(name)]
}))
"""


def test_their_names_data_set_and_splits():
  result = subprocess.run(
    [sys.executable, "-c", _SCRIPT],
    env=os.environ | {"PROMPT_TUNING_T5_VOCABULARY": str(_VOCABULARY)},
    capture_output=True,
    text=True,
    check=False,
  )
  assert result.returncode == 0, result.stderr
  expected = ["c4/en:2.2.0", ["train", "validation"]]
  assert json.loads(result.stdout) == {
    "c4_v220_span_corruption": expected,
    "c4_v220_prefix_lm": expected,
  }
