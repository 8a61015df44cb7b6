"""Google's own command line reads every command that launchers give it.

It has no account here, and says so once it has understood the command.
"""

import os
import shutil
import subprocess

import pytest

from launch import tpu_slice, tpu_vm, xm

GCLOUD = shutil.which("gcloud")
FLAGS = {
  tpu_vm: ["--zone=us-central1-a", "--accelerator=v5litepod-8", "--spot"],
  tpu_slice: ["--zone=us-central2-b", "--accelerator=v4-32", "--valid_for=6h"],
  xm: ["--accelerator=a100:8", "--image=us-docker.pkg.dev/p/r/pt"],
}

pytestmark = [
  pytest.mark.slow,
  pytest.mark.skipif(GCLOUD is None, reason="gcloud is not installed"),
]


def ask_gcloud(line, folder):
  # Nothing of the user's, and nobody to ask for an account.
  environment = {
    "PATH": os.environ["PATH"],
    "HOME": str(folder),
    "CLOUDSDK_CONFIG": str(folder / "gcloud"),
    "CLOUDSDK_CORE_CHECK_GCE_METADATA": "false",
    "CLOUDSDK_CORE_DISABLE_PROMPTS": "true",
    "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "true",
  }
  return subprocess.run(
    ["sh", "-c", line], env=environment, capture_output=True, text=True
  )


@pytest.mark.parametrize("target", FLAGS, ids=lambda target: target.__name__)
@pytest.mark.parametrize("verb", ["create", "install", "run", "stop", "delete"])
def test_gcloud_understands(target, verb, tmp_path, capsys):
  run = ["--", "python", "x.py", "--distributed"] if verb == "run" else []
  if target is xm and run:
    run.pop()
  argv = [verb, "--dry_run", "--name=pt", "--project=none", *FLAGS[target]]
  assert target.TARGET.main([*argv, *run]) == 0
  for line in capsys.readouterr().out.splitlines():
    if line.startswith(("gcloud ", "sh -c 'gcloud ")):
      result = ask_gcloud(line, tmp_path)
      assert "do not currently have an active account" in result.stderr


def test_gcloud_says_what_it_does_not_understand(tmp_path):
  line = "gcloud compute tpus tpu-vm create pt --zone=z --no-such-flag"
  assert "unrecognized arguments" in ask_gcloud(line, tmp_path).stderr
