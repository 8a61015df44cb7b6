"""`python -m prompt_tuning.sweep`: runs an experiment of many runs.

  python -m prompt_tuning.sweep papers/lester2021/prompt_length.gin \
    --backbone=models/embedded.gin --gin_file=tasks/small_world_topic.gin \
    --gin.TRAIN_STEPS=600 --sweep_dir=runs/length

The recipe is the experiment's grid (`sweeps.grid.Grid`); what follows belongs
to all of its runs in which it changes something. All are checked before the
first begins. Given again, the command goes on where it was interrupted and
skips what is done. In the end it writes what `python -m prompt_tuning.report
runs/length` does, and prints the table. --dry_run prints the commands of all
jobs.
"""

import functools
import os
import signal
from collections.abc import Callable
from typing import Any

from absl import app, flags, logging

from prompt_tuning import config, paths
from prompt_tuning.runs import main as main_lib
from prompt_tuning.sweeps import execution, figure, reporting
from prompt_tuning.sweeps import jobs as jobs_lib
from prompt_tuning.sweeps.grid import Grid, Program

FLAGS = flags.FLAGS


def define_flags() -> None:
  """Defines the flags of a sweep."""
  config.define_flags()
  flags.DEFINE_multi_string(
    "backbone",
    [],
    "A recipe that comes before those of the grid: a model, its size. May be "
    "repeated.",
  )
  flags.DEFINE_string("sweep_dir", None, "Where everything is kept.")
  flags.DEFINE_bool("dry_run", False, "Print the commands and run nothing.")


def main(argv: list[str]) -> None:
  """Runs the experiment that the command line describes."""
  if len(argv) != 2:
    raise app.UsageError("name one recipe of an experiment, before the flags")
  if not FLAGS.sweep_dir:
    raise app.UsageError("--sweep_dir says where everything is kept")
  if paths.is_remote(FLAGS.sweep_dir):
    raise ValueError(
      f"--sweep_dir={FLAGS.sweep_dir}: logs and records of a sweep are kept on "
      "a local disk; name a local folder"
    )
  folder = os.path.normpath(FLAGS.sweep_dir)
  # As Ctrl-C: the job is told, and saves where it stands.
  signal.signal(signal.SIGTERM, _exit)
  grid = read_grid(argv[1])
  settings = jobs_lib.Settings(
    folder=folder,
    backbone=FLAGS.backbone,
    gin_files=FLAGS.gin_file,
    bindings=FLAGS.gin_bindings,
    search_paths=FLAGS.gin_search_paths,
  )
  jobs = jobs_lib.plan(
    grid,
    settings,
    without_effect=functools.partial(
      config.without_effect,
      search_paths=FLAGS.gin_search_paths,
      entry=_entry(Program(grid.program)),
    ),
  )
  if FLAGS.dry_run:
    for job in jobs:
      print(f"# {job.name}: {len(job.runs)} runs\n{job.text}\n")
    return
  try:
    with execution.alone(folder):
      jobs_lib.write_record(folder, grid, jobs)
      outcome = execution.run(folder, jobs)
      fault = _report(folder)
  except KeyboardInterrupt:
    raise SystemExit(
      "Interrupted; the command given again goes on where this stands."
    ) from None
  faults = [] if fault is None else [f"There is no report: {fault}"]
  if outcome.failed:
    # What broke off is why, and comes first.
    faults.insert(
      0,
      f"{len(outcome.failed)} of {len(jobs)} jobs broke off: "
      f"{', '.join(outcome.failed)}. The log says why; the command given again "
      "tries them again.",
    )
  if faults:
    raise ValueError("\n".join(faults))


def _report(folder: str) -> ValueError | OSError | None:
  """Writes and prints the report; returns why there is none, if there is none.

  It has a figure where matplotlib is, and the log says so where it is not.
  """
  if not figure.is_available():
    logging.warning(
      "report.png is not drawn, for want of matplotlib: pip install "
      "'prompt-tuning[report]', then `python -m prompt_tuning.report`."
    )
  try:
    print(reporting.write([folder], with_figure=figure.is_available()))
  except (ValueError, OSError) as error:
    return error
  return None


def read_grid(recipe: str) -> Grid:
  """Returns the grid of an experiment's recipe.

  Raises:
    ConfigError: It is no such recipe.
  """
  config.parse([recipe], [], FLAGS.gin_search_paths, entry=Grid)
  return config.call(Grid)


def _entry(program: Program) -> Callable[..., Any]:
  """Returns what a job calls in the end."""
  from prompt_tuning.runs import evaluate, train

  return evaluate.evaluate if program is Program.EVAL else train.train


def _exit(number: int, frame: Any) -> None:
  del frame
  raise SystemExit(128 + number)


if __name__ == "__main__":
  define_flags()
  main_lib.start(main)
