"""A sweep from its jobs to its report, with a fake in the place of training."""

import json
import pathlib
import re
import shlex
import statistics
import subprocess
import sys
import time
import types

import pytest
from absl import app

from prompt_tuning import report, sweep
from prompt_tuning.config.errors import ConfigError
from prompt_tuning.sweeps import execution, figure, page, results, tables
from prompt_tuning.sweeps import jobs as jobs_lib
from prompt_tuning.sweeps.grid import Grid
from prompt_tuning.sweeps.jobs import Settings

SCORES = {"1": [50.0, 60.0], "20": [90.0, 80.0]}


def make(folder, **changes):
  plain = {
    "about": "Length <matters>",
    "recipes": (),
    "jobs": {"PROMPT_LENGTH": [1, 20]},
    "together": {"RANDOM_SEED": [0, 1]},
  }
  grid = Grid(**plain | changes)
  jobs = jobs_lib.plan(grid, Settings(folder=str(folder)))
  jobs_lib.write_record(folder, grid, jobs)
  return jobs


class Trainer:
  """Writes the metrics that a job would; breaks off where it is told to."""

  def __init__(self, folder, *, fails=(), interrupted=(), diverges=()):
    self.folder, self.fails, self.started = folder, fails, []
    self.interrupted, self.diverges = interrupted, diverges

  def __call__(self, command, log):
    [model_dir] = [each for each in command if "MODEL_DIR" in each]
    job = model_dir.split("/")[-1].strip("'")
    self.started.append(job)
    log.write_text("one\ntwo\n")
    if job in self.fails:
      return 1
    for seed, score in enumerate(SCORES[job.partition("=")[2]]):
      run = self.folder / job / f"RANDOM_SEED={seed}"
      run.mkdir(parents=True, exist_ok=True)
      rows = [
        {"scope": "train", "step": 5, "score": 99.0},
        {"scope": "training_eval/mean", "step": 5, "score": score - 10},
        {"scope": "training_eval/mean", "step": 10, "score": score},
        {"scope": "training_eval/mean", "step": 15, "score": score},
        {"scope": "training_eval/mean", "step": 20, "score": None},
      ]
      lines = "".join(json.dumps(row) + "\n" for row in rows)
      (run / "metrics.jsonl").write_text(lines)
      reason = "interrupted" if job in self.interrupted else "finished"
      if (job, seed) in self.diverges:
        reason = "running"
      (run / "ended.json").write_text(json.dumps({"reason": reason}))
    return int(bool(self.diverges))


def read(folder):
  return results.read(folder, jobs_lib.read_record(folder))


def test_what_is_done_is_skipped(tmp_path):
  jobs = make(tmp_path)
  first = Trainer(tmp_path, fails=["PROMPT_LENGTH=1"])
  outcome = execution.run(tmp_path, jobs, start=first)
  assert outcome.failed == ["PROMPT_LENGTH=1"]
  assert outcome.done == ["PROMPT_LENGTH=20"]
  second = Trainer(tmp_path)
  outcome = execution.run(tmp_path, jobs, start=second)
  assert second.started == outcome.done == ["PROMPT_LENGTH=1"]
  assert outcome.skipped == ["PROMPT_LENGTH=20"]


def test_interrupted_it_goes_on_there(tmp_path):
  jobs = make(tmp_path)

  def interrupted(command, log):
    raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    execution.run(tmp_path, jobs, start=interrupted)
  trainer = Trainer(tmp_path)
  execution.run(tmp_path, jobs, start=trainer)
  assert trainer.started == [job.name for job in jobs]


def test_a_job_that_was_told_to_stop_is_not_done(tmp_path):
  jobs = make(tmp_path)
  told = Trainer(tmp_path, interrupted=["PROMPT_LENGTH=20"])
  assert execution.run(tmp_path, jobs, start=told).failed == [jobs[1].name]
  again = Trainer(tmp_path)
  assert execution.run(tmp_path, jobs, start=again).done == [jobs[1].name]


def test_a_run_that_diverges_hides_no_other(tmp_path):
  jobs = make(tmp_path, together={"RANDOM_SEED": [0, 1]})
  trainer = Trainer(tmp_path, diverges=[("PROMPT_LENGTH=1", 1)])
  assert execution.run(tmp_path, jobs, start=trainer).failed
  first, second = read(tmp_path).cells
  assert list(first.results) == ["0"]
  assert first.missing == ["1"]
  assert second.is_whole


def test_of_a_loss_the_least_is_best(tmp_path):
  jobs = make(tmp_path, larger_is_better=False)
  execution.run(tmp_path, jobs, start=Trainer(tmp_path))
  cell = read(tmp_path).cells[0]
  assert [run.best for run in cell.results.values()] == [40.0, 50.0]
  assert {run.best_step for run in cell.results.values()} == {5}


@pytest.mark.parametrize(
  ("value", "text"),
  [(87.654, "87.7"), (0.98765, "0.988"), (1.5, "1.5"), (0.0, "0")],
)
def test_small_numbers_keep_their_digits(value, text):
  assert tables.number(value) == text


def test_commands_on_the_page_can_be_pasted(tmp_path):
  [job, _] = make(tmp_path)
  words = shlex.split(jobs_lib.as_text(job.commands))
  assert words == ["python", "-m", *job.commands[0]]


def test_another_command_is_another_experiment(tmp_path):
  execution.run(tmp_path, make(tmp_path), start=Trainer(tmp_path))
  with pytest.raises(ConfigError, match=r"of another experiment: .*other axes"):
    make(tmp_path, jobs={"PROMPT_LENGTH": [1]})
  grid = Grid(about="", recipes=("x.gin",), jobs={"PROMPT_LENGTH": [1]})
  others = jobs_lib.plan(grid, Settings(folder=str(tmp_path)))
  with pytest.raises(ConfigError, match="made by another command"):
    execution.run(tmp_path, others, start=Trainer(tmp_path))


def test_the_best_evaluation_counts(tmp_path):
  execution.run(tmp_path, make(tmp_path), start=Trainer(tmp_path))
  for cell in read(tmp_path).cells:
    expected = SCORES[cell.coordinates["PROMPT_LENGTH"]]
    assert [run.best for run in cell.results.values()] == expected
    assert {run.best_step for run in cell.results.values()} == {10}
    assert {run.last_step for run in cell.results.values()} == {20}
    assert cell.mean() == statistics.fmean(expected)
    assert cell.deviation() == statistics.stdev(expected)


def test_what_is_missing_is_in_no_mean(tmp_path):
  trainer = Trainer(tmp_path, fails=["PROMPT_LENGTH=20"])
  execution.run(tmp_path, make(tmp_path), start=trainer)
  found = read(tmp_path)
  whole, lacking = found.cells
  assert whole.is_whole
  with pytest.raises(ValueError, match="lacks 0, 1"):
    lacking.mean()
  text = tables.markdown(found)
  assert "| 20 | 0 of 2 runs |" in text
  assert "* PROMPT_LENGTH=20: RANDOM_SEED 0, 1" in text
  assert "20,0,,,,,,\n20,1,,,,,,\n" in tables.as_csv(found)


def test_two_axes_are_rows_and_columns(tmp_path):
  jobs = make(
    tmp_path, together={"TASK": ["a", "b"], "RANDOM_SEED": [0]}, jobs={}
  )
  values = {"a": 70.0, "b": 75.5}
  for run in jobs[0].runs:
    place = tmp_path / run.folder
    place.mkdir(parents=True)
    row = {"scope": "training_eval/mean", "step": 1}
    row["score"] = values[run.coordinates["TASK"]]
    (place / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    (place / "ended.json").write_text('{"reason": "early stopped"}')
  execution.run(tmp_path, jobs, start=lambda command, log: 0)
  assert "| a | 70.0 |" in tables.markdown(read(tmp_path))


RATES = {
  # Rate 0.3 is best on what selects, 0.01 on what is measured at the end.
  ("0.01", "0"): (50.0, 91.0),
  ("0.01", "1"): (60.0, 92.0),
  ("0.3", "0"): (70.0, 81.0),
  ("0.3", "1"): (65.0, 82.0),
}


def searched(folder, *, without=()):
  jobs = make(
    folder,
    jobs={},
    together={"LEARNING_RATE": [0.01, 0.3], "RANDOM_SEED": [0, 1]},
    choose="LEARNING_RATE",
    metric="final_eval/mean/score",
  )
  for run in jobs[0].runs:
    rate, seed = run.coordinates.values()
    if (rate, seed) in without:
      continue
    selected, final = RATES[rate, seed]
    rows = [
      {"scope": "training_eval/mean", "step": 5, "score": selected},
      {"scope": "final_eval/mean", "step": 5, "score": final},
    ]
    place = folder / run.folder
    place.mkdir(parents=True)
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (place / "metrics.jsonl").write_text(lines)
    (place / "ended.json").write_text(json.dumps({"reason": "finished"}))
  return read(folder)


def test_a_rate_is_chosen_by_what_selects(tmp_path):
  found = searched(tmp_path)
  [cell] = found.cells
  assert cell.chosen == "0.3"
  assert cell.mean() == 81.5
  assert "at the best LEARNING_RATE" in tables.markdown(found)
  header, first, *_ = tables.as_csv(found).splitlines()
  assert header.endswith(",LEARNING_RATE")
  assert first.startswith("0,81.0")
  assert first.endswith(",0.3")


def test_no_rate_is_chosen_while_one_is_missing(tmp_path):
  found = searched(tmp_path, without=[("0.01", "1")])
  [cell] = found.cells
  assert cell.missing == ["1 (LEARNING_RATE 0.01)"]
  assert "Not whole" in tables.markdown(found)


def test_no_such_metric(tmp_path):
  jobs = make(tmp_path, metric="boolq/accuracy")
  execution.run(tmp_path, jobs, start=Trainer(tmp_path))
  with pytest.raises(ValueError, match="no run has an evaluation with 'boolq"):
    read(tmp_path)


def test_the_page_holds_all_of_it(tmp_path):
  execution.run(tmp_path, make(tmp_path), start=Trainer(tmp_path))
  found = read(tmp_path)
  picture = figure.png(found)
  assert picture.startswith(b"\x89PNG")
  text = page.page([found], picture=picture, commands=["python -m a 'b'"])
  assert "Length &lt;matters&gt;" in text
  assert "<td>55.0 ± 7.1</td>" in text
  assert "data:image/png;base64," in text
  assert "http" not in text


def test_nothing_to_draw(tmp_path):
  make(tmp_path)
  with pytest.raises(ValueError, match="no point of the grid is whole"):
    figure.png(read(tmp_path))


def test_a_report_is_written(tmp_path, capsys, monkeypatch):
  execution.run(tmp_path, make(tmp_path), start=Trainer(tmp_path))
  write_report(monkeypatch, tmp_path)
  assert "| 20 | 85.0 ± 7.1 |" in capsys.readouterr().out
  written = {path.name for path in tmp_path.glob("report.*")}
  assert written == {"report.md", "report.csv", "report.png", "report.html"}


def run_sweep(monkeypatch, folder, trainer, *, metric="mean/score"):
  """Runs an experiment of two jobs with a fake in the place of training."""
  recipe = folder.parent / "length.gin"
  recipe.write_text(f"""from __gin__ import dynamic_registration
from prompt_tuning.sweeps import grid
grid.Grid:
  about = "Length"
  recipes = ()
  jobs = {{"PROMPT_LENGTH": [1, 20]}}
  together = {{"RANDOM_SEED": [0, 1]}}
  metric = "{metric}"
""")
  monkeypatch.setattr(execution, "_process", trainer)
  monkeypatch.setattr(sweep.config, "without_effect", lambda *a, **k: {})
  lists = ("backbone", "gin_file", "gin_bindings", "gin_search_paths")
  flags = {"sweep_dir": str(folder), "dry_run": False}
  flags |= {name: [] for name in lists}
  monkeypatch.setattr(sweep, "FLAGS", types.SimpleNamespace(**flags))
  monkeypatch.setattr(sweep.signal, "signal", lambda *a: None)
  sweep.main(["sweep", str(recipe)])


def test_a_sweep_ends_with_its_report(tmp_path, capsys, monkeypatch, caplog):
  """Also where a job broke off, and without a figure where none can be."""
  folder = tmp_path / "runs"
  monkeypatch.setattr(figure, "is_available", lambda: False)
  trainer = Trainer(folder, fails=["PROMPT_LENGTH=1"])
  with pytest.raises(ValueError, match="1 of 2 jobs broke off"):
    run_sweep(monkeypatch, folder, trainer)
  out = capsys.readouterr().out
  assert "| 20 | 85.0 ± 7.1 |" in out
  assert "Not whole" in out
  written = {path.name for path in folder.glob("report.*")}
  assert written == {"report.md", "report.csv", "report.html"}
  assert "report.png is not drawn" in caplog.text


def test_what_broke_off_is_told_before_a_report_that_cannot_be(
  tmp_path, monkeypatch
):
  folder = tmp_path / "runs"
  trainer = Trainer(folder, fails=["PROMPT_LENGTH=1"])
  message = r"(?s)1 of 2 jobs broke off: .*no report: no run has .*'typo/score'"
  with pytest.raises(ValueError, match=message):
    run_sweep(monkeypatch, folder, trainer, metric="typo/score")


def test_a_mistyped_metric_is_mended_without_running_again(
  tmp_path, monkeypatch, capsys
):
  folder = tmp_path / "runs"
  trainer = Trainer(folder)
  with pytest.raises(ValueError, match="what has run is not run again"):
    run_sweep(monkeypatch, folder, trainer, metric="typo/score")
  run_sweep(monkeypatch, folder, trainer)
  assert "| 20 | 85.0 ± 7.1 |" in capsys.readouterr().out
  assert len(trainer.started) == 2


@pytest.mark.parametrize(
  ("value", "message"),
  [("null", None), ("Infinity", None), ("NaN", None), ('"9"', "no number")],
)
def test_a_metric_that_is_no_finite_number(tmp_path, value, message):
  jobs = make(tmp_path)
  execution.run(tmp_path, jobs, start=Trainer(tmp_path))
  path = tmp_path / jobs[0].runs[0].folder / "metrics.jsonl"
  path.write_text(
    f'{{"scope": "training_eval/mean", "step": 5, "score": {value}}}\n'
  )
  if message:
    with pytest.raises(ValueError, match=r"metrics.jsonl:1 is damaged: 'sc"):
      read(tmp_path)
    return
  first, second = read(tmp_path).cells
  assert first.missing == ["0"]
  assert second.is_whole


def write_report(monkeypatch, *folders, **flags):
  given = {"figure": True, "metric": [], "output": None} | flags
  monkeypatch.setattr(report, "FLAGS", type("Flags", (), given))
  report.main(["report", *map(str, folders)])


def rows(folder):
  """Writes what runs of two metrics, a final evaluation too, would."""
  jobs = make(folder)
  for run in (run for job in jobs for run in job.runs):
    place = folder / run.folder
    place.mkdir(parents=True)
    value = float(run.coordinates["PROMPT_LENGTH"])
    lines = [
      {"scope": "training_eval/mean", "step": 1, "score": value},
      # Of a run that was prolonged after this one.
      {"scope": "final_eval/other", "step": 1, "f1": 99.0},
      {"scope": "final_eval/other", "step": 7, "f1": 2 * value},
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (place / "metrics.jsonl").write_text(text)
    (place / "ended.json").write_text('{"reason": "finished"}')
    counts = {"trained": int(value), "frozen": 99 * int(value)}
    (place / "parameters.json").write_text(json.dumps(counts))


def test_other_metrics_are_tables_of_their_own(tmp_path, capsys, monkeypatch):
  rows(tmp_path)
  metrics = ["mean/score", "final_eval/other/f1"]
  write_report(monkeypatch, tmp_path, metric=metrics)
  text = capsys.readouterr().out
  assert "mean/score, the best evaluation of each run" in text
  assert "final_eval/other/f1, of the selected step of each run" in text
  assert "| 20 | 20 (1 %) | 20.0 ± 0.0 | 20.0, 20.0 | 1, 1 |" in text
  assert "| 20 | 20 (1 %) | 40.0 ± 0.0 | 40.0, 40.0 | 7, 7 |" in text
  assert (tmp_path / "report.html").read_text().count("<table>") == 2


def test_experiments_side_by_side(tmp_path, capsys, monkeypatch):
  for name in ("prompts", "models"):
    rows(tmp_path / name)
  folders = [tmp_path / name for name in ("prompts", "models")]
  write_report(monkeypatch, *folders, output=str(tmp_path / "both"))
  text = capsys.readouterr().out
  assert "| PROMPT_LENGTH | experiment prompts | experiment models |" in text
  assert "| 20 | 20.0 ± 0.0 | 20.0 ± 0.0 |" in text
  assert (tmp_path / "both" / "report.png").exists()


def test_experiments_of_other_axes_are_no_table(tmp_path, monkeypatch):
  make(tmp_path / "a")
  make(tmp_path / "b", jobs={"PROMPT_LENGTH": [1]})
  with pytest.raises(ValueError, match="a and b cannot be one table: their"):
    write_report(monkeypatch, tmp_path / "a", tmp_path / "b", output="x")
  with pytest.raises(app.UsageError, match="--output says where"):
    write_report(monkeypatch, tmp_path / "a", tmp_path / "b")


def test_what_is_only_evaluated(tmp_path):
  jobs = make(tmp_path, program="eval")
  assert [len(job.commands) for job in jobs] == [2, 2]

  def start(command, log):
    assert command[0] == "prompt_tuning.eval"
    [setting] = [each for each in command if "EVAL_OUTPUT_DIR" in each]
    place = pathlib.Path(setting.partition("=")[2].strip("'"))
    place.mkdir(parents=True)
    (place / "metrics.json").write_text(json.dumps({"mean/score": 30.0}))
    return 0

  assert not execution.run(tmp_path, jobs, start=start).failed
  assert [cell.mean() for cell in read(tmp_path).cells] == [30.0, 30.0]


@pytest.mark.parametrize(
  ("name", "content"),
  [
    ("ended.json", ""),
    ("ended.json", "{}"),
    ("metrics.jsonl", '{"scope": "training_eval/mean", "step": 5}\n{"sco'),
    ("metrics.jsonl", '{"scope": "training_eval/mean"}\n'),
    ("parameters.json", '{"trained": 3'),
    ("parameters.json", "[1]"),
  ],
)
def test_a_damaged_file_is_named(tmp_path, name, content):
  jobs = make(tmp_path)
  execution.run(tmp_path, jobs, start=Trainer(tmp_path))
  path = tmp_path / jobs[0].runs[0].folder / name
  path.write_text(content)
  with pytest.raises(ValueError, match=rf"{re.escape(str(path))}.* is damaged"):
    read(tmp_path)


@pytest.mark.parametrize("content", ["", "{}", "[]"])
def test_a_damaged_record_is_named(tmp_path, content):
  make(tmp_path)
  (tmp_path / "sweep.json").write_text(content)
  with pytest.raises(ValueError, match=r"sweep\.json is damaged"):
    read(tmp_path)


def test_a_mistyped_folder_is_not_made(tmp_path, monkeypatch):
  monkeypatch.setattr(
    report, "FLAGS", types.SimpleNamespace(output=None, metric=[], figure=False)
  )
  with pytest.raises(ConfigError, match=r"holds no sweep\.json"):
    report.main(["report", str(tmp_path / "typo")])
  assert not (tmp_path / "typo").exists()


def test_no_experiment(tmp_path):
  with pytest.raises(ConfigError, match=r"holds no sweep\.json"):
    jobs_lib.read_record(tmp_path)


_JOB = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: told.append(1))
told = []
print("ready", flush=True)
while not told:
  time.sleep(0.01)
time.sleep(0.4)  # As long as saving takes.
print("told", len(told), flush=True)
"""


def test_a_job_is_told_once_when_the_sweep_ends(tmp_path, monkeypatch):
  (tmp_path / "a_job.py").write_text(_JOB)
  monkeypatch.setenv("PYTHONPATH", str(tmp_path))
  log = tmp_path / "log.txt"
  wait = subprocess.Popen.wait

  def interrupted(process, timeout=None):
    if not log.read_text():
      while not log.read_text():
        time.sleep(0.01)
      raise KeyboardInterrupt
    return wait(process, timeout)

  monkeypatch.setattr(subprocess.Popen, "wait", interrupted)
  with pytest.raises(KeyboardInterrupt):
    execution._process(["a_job"], log)
  assert log.read_text() == "ready\ntold 1\n"


def test_one_sweep_at_a_time_in_a_folder(tmp_path):
  with execution.alone(tmp_path):
    with (
      pytest.raises(ConfigError, match="Another sweep runs in"),
      execution.alone(tmp_path),
    ):
      pass
    with execution.alone(tmp_path / "other"):
      pass
  with execution.alone(tmp_path):
    pass


def test_a_folder_elsewhere_is_refused():
  command = [
    *(sys.executable, "-m", "prompt_tuning.sweep"),
    "papers/lester2021/prompt_length.gin",
    "--sweep_dir=gs://bucket/x",
  ]
  root = pathlib.Path(__file__).parents[3]
  run = subprocess.run(command, capture_output=True, text=True, cwd=root)
  assert run.returncode != 0
  assert "name a local folder" in run.stderr
