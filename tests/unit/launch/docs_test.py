"""The commands of docs/launching.md are ones that the launchers take."""

import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]
TEXT = (ROOT / "docs" / "launching.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
# Every launcher with --dry_run, and how many there were.
AS_DRY_RUN = """set -e
calls=0
python() {{
  module=$2 verb=$3
  shift 3
  calls=$((calls + 1))
  "{python}" -S -m "$module" "$verb" --dry_run "$@" > /dev/null
}}
{block}
echo $calls
"""


@pytest.mark.parametrize("block", BLOCKS)
def test_the_documented_commands_are_taken(block):
  script = AS_DRY_RUN.format(python=sys.executable, block=block)
  result = subprocess.run(
    ["sh", "-c", script], cwd=ROOT, capture_output=True, text=True
  )
  assert result.returncode == 0, result.stderr
  assert int(result.stdout) == block.count("python -m launch.")


def test_every_launcher_is_documented():
  for path in (ROOT / "launch").glob("*.py"):
    if "TARGET = Target(" in path.read_text():
      assert any(f"launch.{path.stem} run" in block for block in BLOCKS)
