"""Runs on TPU hosts, the hosts being folders and gcloud a stand-in.

Everything that the launchers send to a host is really run there, by a shell:
keeping a run alive, following it, stopping it.
"""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from launch import source, tpu_slice, tpu_vm

HOSTS = ("host0", "host1")
# ssh in the home of each host, scp to it, and the state of the slice.
GCLOUD = f"""#!{sys.executable} -IS
import os, shutil, subprocess, sys
words, root = sys.argv[1:], os.environ["HOSTS"]
flags = dict(w.split("=", 1) for w in words if w.startswith("--") and "=" in w)
workers = flags.get("--worker")
hosts = {HOSTS!r} if workers == "all" else [f"host{{workers}}"]
if "describe" in words:
  print(open(os.path.join(root, "state")).read())
if "scp" in words:
  *files, target = [w for w in words if not w.startswith("--")][4:]
  for host in hosts:
    for file in files:
      shutil.copy(file, os.path.join(root, host, target.split(":")[1]))
if "ssh" in words:
  codes = [
    subprocess.run(["sh", "-c", flags["--command"]], cwd=os.path.join(root, h))
    .returncode for h in hosts
  ]
  sys.exit(next((code for code in codes if code), 0))
"""
# Makes a wheel where pip is asked to, and an environment where uv is.
PYTHON = f"""#!{sys.executable} -IS
import os, sys
words = sys.argv[1:]
if words[:3] == ["-m", "pip", "wheel"]:
  folder = words[words.index("--wheel-dir") + 1]
  os.makedirs(folder, exist_ok=True)
  open(os.path.join(folder, os.environ["WHEEL"]), "w").close()
if words[:3] == ["-m", "uv", "venv"]:
  os.makedirs(os.path.join(words[-1], "bin"))
  path = os.path.join(words[-1], "bin", "python")
  with open(path, "w") as file:
    # Without the library, of which only the version is asked.
    file.write('#!/bin/sh\\n[ "$1" = -c ] || exec {sys.executable} "$@"\\n')
  os.chmod(path, 0o755)
"""
TRAIN = """
import pathlib, signal, sys, time
def save(number, frame):
  print("saved", flush=True)
  sys.exit(0)
signal.signal(signal.SIGTERM, save)
print("training", *sys.argv[1:], flush=True)
while not pathlib.Path("go").exists():
  time.sleep(0.02)
sys.exit(7)
"""


@pytest.fixture
def hosts(tmp_path, monkeypatch):
  """The folders that are the hosts' homes."""
  binaries = tmp_path / "bin"
  binaries.mkdir()
  for name, text in {"gcloud": GCLOUD, "python3": PYTHON, "rm": ""}.items():
    (binaries / name).write_text(text or "#!/bin/sh\n")
    (binaries / name).chmod(0o755)
  for host in HOSTS:
    (tmp_path / host).mkdir()
    (tmp_path / host / "train.py").write_text(TRAIN)
  (tmp_path / "state").write_text("ACTIVE")
  monkeypatch.setenv("PATH", f"{binaries}:{os.environ['PATH']}")
  monkeypatch.setenv("HOSTS", str(tmp_path))
  monkeypatch.setattr(source, "WORK", tmp_path / "work")
  built = source.resolve(str(source.ROOT), tmp_path / "work" / "pt")
  monkeypatch.setenv("WHEEL", built.file.name)
  monkeypatch.setattr(sys, "executable", str(binaries / "python3"))
  homes = [tmp_path / host for host in HOSTS]
  yield homes
  for home in homes:
    (home / "go").touch()
    until(lambda home=home: "training" not in log(home) or ended(home))


def until(is_so, seconds=20.0):
  end = time.monotonic() + seconds
  while not is_so():
    assert time.monotonic() < end
    time.sleep(0.02)


def log(home):
  path = home / "prompt-tuning" / "run" / "log.txt"
  return path.read_text() if path.exists() else ""


def ended(home):
  return (home / "prompt-tuning" / "run" / "exit_code").exists()


def launch(target, verb, *more):
  return target.TARGET.main([verb, "--name=pt", "--zone=z", *more])


def run_on(hosts):
  command = ["--", "python", "train.py", "--distributed", "it's $HOME"]
  assert launch(tpu_slice, "install") == 0
  assert launch(tpu_slice, "run", *command) == 0
  until(lambda: all("training" in log(home) for home in hosts))
  return command


def test_every_host_gets_the_same_and_is_watched_to_its_end(hosts, capfd):
  run_on(hosts)
  for home in hosts:
    installed = {path.name for path in (home / "prompt-tuning").iterdir()}
    assert {"keeper.py", "lock-py312.txt", os.environ["WHEEL"]} <= installed
    assert log(home) == "training --distributed it's $HOME\n"
    assert not ended(home)
    (home / "go").touch()
  capfd.readouterr()
  assert launch(tpu_slice, "watch") == 7
  out, err = capfd.readouterr()
  assert out == "training --distributed it's $HOME\n"
  assert "Exit code 7 from:\n  gcloud compute tpus tpu-vm ssh pt" in err


def test_stopping_lets_every_host_save(hosts, capfd):
  run_on(hosts)
  assert launch(tpu_slice, "stop", "--grace=20") == 0
  assert [log(home).splitlines()[-1] for home in hosts] == ["saved", "saved"]
  assert launch(tpu_slice, "watch", "--worker=all") == 0


def test_a_run_is_not_started_twice_but_again(hosts, capfd):
  command = run_on(hosts)
  assert launch(tpu_slice, "run", *command) == 1
  assert "A run is going on" in capfd.readouterr().err
  assert launch(tpu_slice, "stop", "--grace=20") == 0
  assert launch(tpu_slice, "run", *command) == 0
  until(lambda: all("training" in log(home) for home in hosts))


def test_a_run_outlives_the_connection(hosts):
  run_on(hosts)
  script = (
    "import sys; from launch import tpu_vm; sys.exit(tpu_vm.TARGET.main())"
  )
  python = os.path.realpath("/proc/self/exe")
  watching = subprocess.Popen(
    [python, "-c", script, "watch", "--name=pt", "--zone=z"],
    cwd=pathlib.Path(tpu_vm.__file__).parents[1],
    stdout=subprocess.PIPE,
    start_new_session=True,
  )
  assert watching.stdout
  assert watching.stdout.readline().startswith(b"training")
  os.killpg(watching.pid, signal.SIGKILL)
  watching.communicate()
  assert not ended(hosts[0])
  (hosts[0] / "go").touch()
  assert launch(tpu_vm, "watch") == 7


def test_a_slice_that_was_taken_away_is_told_from_a_failed_run(hosts, capfd):
  run_on(hosts)
  (hosts[0].parent / "state").write_text("SUSPENDED")
  assert launch(tpu_slice, "watch") == 1
  assert "got SUSPENDED" in capfd.readouterr().err
