"""The bridge to T5X where there is no T5X; tests/integration has the rest."""

import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_it_says_what_it_lacks_and_where_to_read_on():
  # As where T5X is not installed, even if it is.
  script = (
    "import sys; sys.modules['t5x'] = None; import prompt_tuning.t5x_bridge"
  )
  result = subprocess.run(
    [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True
  )
  assert result.returncode == 1
  last = result.stderr.strip().splitlines()[-1]
  assert last.startswith(
    "ImportError: prompt_tuning.t5x_bridge runs inside T5X"
  )
  for advice in ("docs/t5x.md", "need no T5X"):
    assert advice in last


def test_docs_and_the_extra_name_the_commits_that_are_installed():
  requirements = (ROOT / "requirements" / "t5x.txt").read_text().splitlines()
  named = dict(
    line.split(" @ git+https://github.com/")
    for line in requirements
    if not line.startswith("#")
  )
  assert named.keys() == {"t5x", "airio", "jestimator"}
  told = [
    (ROOT / file).read_text() for file in ("docs/t5x.md", "pyproject.toml")
  ]
  for reference in named.values():
    _, commit = reference.split("@")
    assert len(commit) == 40
    for text in told:
      assert commit[:7] in text
