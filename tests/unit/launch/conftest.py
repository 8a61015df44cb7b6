"""Stand-ins on PATH for the programs that launchers call."""

import dataclasses
import json
import os
import pathlib
import sys

import pytest

from launch import source

# Before a test names a stand-in here.
_PYTHON = sys.executable
# Notes how it was called; answers and fails as it was told to.
_PROGRAM = """#!{python} -IS
import json, os, sys
folder, name = os.path.split(os.path.abspath(__file__))
with open(os.path.join(folder, "calls"), "a") as calls:
  calls.write(json.dumps([sys.argv[0], *sys.argv[1:]]) + "\\n")
with open(os.path.join(folder, "replies.json")) as file:
  replies = json.load(file)
for reply in replies:
  if reply["words"] in " ".join([name, *sys.argv[1:]]):
    break
else:
  sys.exit(0)
out = reply["outputs"]
print(out[0])
if len(out) > 1:
  out.pop(0)
  with open(os.path.join(folder, "replies.json"), "w") as file:
    json.dump(replies, file)
sys.exit(reply["code"])
"""


@dataclasses.dataclass
class StandIns:
  """Programs in a folder that is first on PATH."""

  folder: pathlib.Path
  replies: list[dict] = dataclasses.field(default_factory=list)

  def add(self, *names):
    for name in names:
      path = self.folder / name
      path.write_text(_PROGRAM.format(python=_PYTHON))
      path.chmod(0o755)

  def reply(self, words, *outputs, code=0):
    """To calls with these words: each output once, the last for ever."""
    self.replies.append(
      {"words": words, "outputs": outputs or ("",), "code": code}
    )
    self._write()

  def _write(self):
    (self.folder / "replies.json").write_text(json.dumps(self.replies))

  def calls(self):
    """What was called so far, as lists of words, names without folders."""
    path = self.folder / "calls"
    lines = path.read_text().splitlines() if path.exists() else []
    words = [json.loads(line) for line in lines]
    return [[os.path.basename(first), *rest] for first, *rest in words]


@pytest.fixture
def stand_ins(tmp_path, monkeypatch):
  folder = tmp_path / "bin"
  folder.mkdir()
  programs = StandIns(folder)
  programs._write()
  programs.add("gcloud", "sbatch", "squeue", "scancel", "python", "xmanager")
  # What would change this machine.
  programs.add("git", "rm", "mkdir", "cp")
  monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
  monkeypatch.setattr(source, "WORK", tmp_path / "work")
  monkeypatch.setattr(sys, "executable", str(folder / "python"))
  return programs


@pytest.fixture
def installed(stand_ins, tmp_path):
  """An environment for runs on this machine, as `create` makes it."""
  binaries = tmp_path / "work" / "pt" / "venv" / "bin"
  binaries.parent.mkdir(parents=True)
  binaries.symlink_to(stand_ins.folder)
  return binaries
