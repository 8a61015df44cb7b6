"""The job that is submitted to XManager, whose place a stand-in takes."""

import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[3]
XM = """
def Dockerfile(path): return {"path": path}
def Packageable(executable_spec, executor_spec):
  return executable_spec | executor_spec
def JobRequirements(**resources): return resources
def ShellSafeArg(word): return word
def Job(**fields): return fields
"""
XM_LOCAL = """
import contextlib, json
def Vertex(requirements): return requirements
Vertex.Spec = lambda push_image_tag: {"image": push_image_tag}
class Experiment:
  def package(self, packageables): return packageables
  def add(self, job): print(json.dumps(job))
@contextlib.contextmanager
def create_experiment(experiment_title):
  print(json.dumps(experiment_title))
  yield Experiment()
"""


def test_the_image_and_the_run_command_are_submitted(tmp_path):
  package = tmp_path / "xmanager"
  package.mkdir()
  for name, text in {"__init__": "", "xm": XM, "xm_local": XM_LOCAL}.items():
    (package / f"{name}.py").write_text(text)
  run = ["python", "-m", "prompt_tuning.train", "--gin.MODEL_DIR='gs://b/m'"]
  flags = ["--image=host/pt", "--image_folder=/f", "--accelerator=a100:8"]
  script = ROOT / "launch" / "xm_experiment.py"
  result = subprocess.run(
    [sys.executable, script, "--title=pt", *flags, "--", *run],
    env={"PYTHONPATH": str(tmp_path)},
    capture_output=True,
    text=True,
  )
  assert result.returncode == 0, result.stderr
  title, job = map(json.loads, result.stdout.splitlines())
  assert title == "pt"
  assert job == {
    "executable": {"path": "/f", "image": "host/pt"},
    "executor": {"a100": 8},
    "args": run,
  }
