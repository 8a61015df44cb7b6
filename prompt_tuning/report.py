"""`python -m prompt_tuning.report`: what came out of an experiment.

  python -m prompt_tuning.report runs/length

writes report.md, report.csv, report.png and report.html (one page that holds
all of it) into the folder of the experiment, and prints the table, as a sweep
does in the end. Of an experiment that has not ended it says what is missing;
that is in no mean.

Several experiments with the same axes become one table and one figure, a line
for each, in --output:

  python -m prompt_tuning.report runs/prompts runs/models --output=runs/figure
"""

import os

from absl import app, flags

from prompt_tuning.runs import main as main_lib
from prompt_tuning.sweeps import reporting

FLAGS = flags.FLAGS


def define_flags() -> None:
  """Defines the flags of a report."""
  flags.DEFINE_bool("figure", True, "Draw report.png, with matplotlib.")
  flags.DEFINE_multi_string(
    "metric",
    [],
    "Another metric than the experiment's, <task>/<metric>, or, of the final "
    "evaluation, final_eval/<task>/<metric>. May be repeated: a table each; "
    "the first is drawn, and in report.csv.",
  )
  flags.DEFINE_string(
    "output", None, "Where to write; needed for several experiments."
  )


def main(argv: list[str]) -> None:
  """Reports on the folders that the command line names."""
  folders = [os.path.normpath(folder) for folder in argv[1:]]
  if not folders:
    raise app.UsageError("name the folder of an experiment")
  if len(folders) > 1 and not FLAGS.output:
    raise app.UsageError("of several experiments, --output says where to write")
  table = reporting.write(
    folders,
    output=FLAGS.output,
    metrics=FLAGS.metric,
    with_figure=FLAGS.figure,
  )
  print(table)


if __name__ == "__main__":
  define_flags()
  main_lib.start(main)
