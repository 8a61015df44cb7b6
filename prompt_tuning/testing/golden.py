"""Compares a text with a committed one, and rewrites it on request.

A golden text shows a reviewer what a change does to every effective setting of
a recipe, or to anything else that is best reviewed as a whole.
"""

import difflib
import os
import pathlib

_UPDATE = "UPDATE_GOLDEN"
_MAX_DIFF_LINES = 100


def assert_matches(actual: str, path: os.PathLike[str] | str) -> None:
  """Fails the test unless the file at `path` holds the text `actual`.

  With UPDATE_GOLDEN=1 in the environment it writes the file instead.

  Args:
    actual: What the code gives now.
    path: The committed file.

  Raises:
    AssertionError: With a unified diff, if the two differ or there is no file.
  """
  path = pathlib.Path(path)
  if os.environ.get(_UPDATE) == "1":
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(actual, encoding="utf-8")
    return
  if not path.exists():
    raise AssertionError(
      f"There is no golden file {path}. {_update_command()} writes it; read it "
      "before you commit it."
    )
  expected = path.read_text(encoding="utf-8")
  if actual != expected:
    raise AssertionError(
      f"{path.name} is not what it was:\n\n{_diff(expected, actual)}\n\n"
      "If you meant to change this, run\n"
      f"  {_update_command()}\n"
      "and commit the new file with the change that caused it. If you did not, "
      "this is the bug: do not update the file."
    )


def _update_command() -> str:
  # Of the running test alone, so that no other file is rewritten unseen.
  test = os.environ.get("PYTEST_CURRENT_TEST", "").split(" ")[0]
  return f"{_UPDATE}=1 pytest '{test}'"


def _diff(expected: str, actual: str) -> str:
  lines = list(
    difflib.unified_diff(
      expected.splitlines(),
      actual.splitlines(),
      "committed",
      "now",
      lineterm="",
    )
  )
  hidden = len(lines) - _MAX_DIFF_LINES
  if hidden > 0:
    lines = [*lines[:_MAX_DIFF_LINES], f"... and {hidden} lines more"]
  return "\n".join(lines) or "(they differ in line ends only)"
