"""Workers of systems that have a Python of their own."""

import subprocess
import sys

import pytest

from benchmarks import remote, systems
from benchmarks.jobs import Job

JOB = Job(kind="train_step", sizes={"vocab_size": 8})


def test_without_its_python_it_says_how_to_name_one(monkeypatch):
  monkeypatch.delenv("T5X_PYTHON", raising=False)
  with pytest.raises(ValueError, match="name its Python in the variable T5X"):
    remote.Remote("t5x", JOB)


def test_a_worker_elsewhere_takes_what_is_installed_there(
  monkeypatch, tmp_path
):
  # A package called as ours is, as google's is.
  (tmp_path / "prompt_tuning").mkdir()
  (tmp_path / "prompt_tuning" / "__init__.py").write_text("there = True")
  monkeypatch.setenv("PYTHONPATH", str(tmp_path))
  monkeypatch.setenv("T5X_PYTHON", sys.executable)
  python, *arguments = remote._command(systems.find("t5x"))
  code = arguments.index("-c") + 1
  arguments[code] = arguments[code].replace(
    "worker.main()",
    "assert 'prompt_tuning' not in sys.modules; "
    "import prompt_tuning; assert prompt_tuning.there",
  )
  subprocess.run([python, *arguments], check=True, cwd=remote._ROOT)
