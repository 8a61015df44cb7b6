import functools
import importlib
import json
import pathlib
import subprocess
import sys

import pytest

from benchmarks import startup, startup_probe
from benchmarks.startup import Cache, Start
from prompt_tuning.runs import compilation_cache

ROOT = pathlib.Path(__file__).resolve().parents[3]


def timeline(*, without=""):
  """A second for each part of the main thread, and compiling beside it."""
  parts = [part for part in startup.PARTS if part != startup.INTERPRETER]
  spans = [
    [part, 11.0 + index, 12.0 + index, 0]
    for index, part in enumerate(parts)
    if part != without
  ]
  spans.append([startup_probe.COMPILING, 11.0, 14.0, 7])
  return {"begin": 11.0, "end": 22.5, "spans": spans}


def test_parts_add_up_to_the_whole():
  start = startup.read(timeline(), begin=10.0)
  assert start.total == 12.5
  assert set(start.parts) == {*startup.PARTS, startup.REST}
  assert sum(start.parts.values()) == pytest.approx(12.5)
  assert start.parts[startup.INTERPRETER] == 1.0
  assert start.parts[startup_probe.COMPILING] == 1.0
  assert start.beside == {startup_probe.COMPILING: 3.0}


def test_a_part_that_was_not_seen_is_named():
  with pytest.raises(
    RuntimeError, match="Nothing was noted of reading weights"
  ):
    startup.read(timeline(without=startup_probe.WEIGHTS), begin=10.0)


def test_the_command_is_that_of_the_readme():
  module, *arguments = startup.readme_command()
  assert module == "prompt_tuning.train"
  assert arguments[0] == "--gin_file=models/embedded.gin"
  assert "--gin.TRAIN_STEPS=600" in arguments
  assert not any("MODEL_DIR" in argument for argument in arguments)


def test_what_is_timed_is_there():
  for module, paths in startup_probe._TIMED.items():
    for path in paths:
      owner = importlib.import_module(module)
      assert callable(functools.reduce(getattr, path.split("."), owner))
  progress = importlib.import_module("prompt_tuning.train.progress")
  assert callable(progress.default_progress)


def test_caches_take_turns_and_one_is_filled_before(monkeypatch):
  calls = []

  def start(command, cache, platform):
    calls.append(None if cache is None else cache.name)
    return Start(1.0, {}, {})

  monkeypatch.setattr(startup, "_start", start)
  measured = startup.measure(
    ["module"], list(Cache), rounds=2, note=lambda text: None
  )
  one, other = [None, "cold_0", "warm"], ["warm", "cold_1", None]
  assert calls == ["warm", *one, *other]
  assert [len(measured[cache]) for cache in Cache] == [2, 2, 2]


def test_programs_are_kept_where_a_run_keeps_them(tmp_path, monkeypatch):
  monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/elsewhere")
  for name, value in startup._environment(tmp_path).items():
    monkeypatch.setenv(name, value)
  assert compilation_cache.default_folder().is_relative_to(tmp_path)
  assert compilation_cache.FOLDER not in startup._environment(tmp_path)
  nowhere = startup._environment(None)
  assert nowhere["JAX_ENABLE_COMPILATION_CACHE"] == "0"


def test_starts_can_be_kept_and_shown():
  start = startup.read(timeline(), begin=10.0)
  starts = {Cache.NONE: [start, start], Cache.WARM: [start, start]}
  kept = startup.from_json(json.loads(json.dumps(startup.as_json(starts))))
  assert kept == starts
  text = startup.markdown(kept)
  assert "seconds, cache: warm" in text
  for row in (startup.TOTAL, startup.REST, "beside it: compiling"):
    assert f"| {row} " in text


def test_a_command_that_ends_early_is_shown():
  with pytest.raises(RuntimeError, match=r"(?s)before its first step.*nowhere"):
    startup._start(["nowhere"], None, "cpu")


def test_imports_are_timed_and_what_they_import_is_theirs(tmp_path):
  (tmp_path / "seqio.py").write_text("import time, inner; time.sleep(0.01)")
  (tmp_path / "inner.py").write_text("import time; time.sleep(0.01)")
  (tmp_path / "other.py").write_text("VALUE = 1")
  script = (
    "import json, sys\n"
    "from benchmarks import startup_probe as probe\n"
    f"sys.path.insert(0, {str(tmp_path)!r})\n"
    "recorder = probe.Recorder()\n"
    "seen = []\n"
    "probe.watch_imports(recorder, {'other': lambda m: seen.append(m.VALUE)})\n"
    "import seqio, other\n"
    "assert seen == [1]\n"
    "print(json.dumps(recorder.spans))"
  )
  done = subprocess.run(
    [sys.executable, "-c", script],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=True,
  )
  labels = [label for label, *_ in json.loads(done.stdout)]
  theirs, ours = startup_probe.TENSORFLOW, startup_probe.IMPORTS
  assert labels == [theirs, theirs, ours]


def test_functions_are_timed_and_what_they_return():
  recorder = startup_probe.Recorder()
  prepare = recorder.timed(lambda x: lambda y: x + y, "prepare", "measure")
  assert prepare(1)(2) == 3
  assert [label for label, *_ in recorder.spans] == ["prepare", "measure"]
  assert recorder.label is None
