"""`python -m prompt_tuning.report`: what came out of an experiment.

  python -m prompt_tuning.report runs/length

writes report.md, report.csv, report.png and report.html (one page that holds
all of it) into the folder of the experiment, and prints the table. Of an
experiment that has not ended it says what is missing; that is in no mean.

Several experiments with the same axes become one table and one figure, a line
for each, in --output:

  python -m prompt_tuning.report runs/prompts runs/models --output=runs/figure
"""

import os

from absl import app, flags

from prompt_tuning import paths
from prompt_tuning.runs import main as main_lib
from prompt_tuning.sweeps import figure, page, results, tables
from prompt_tuning.sweeps.jobs import as_text, read_record

FLAGS = flags.FLAGS


def define_flags() -> None:
  """Defines the flags of a report."""
  flags.DEFINE_bool("figure", True, "Draw report.png, with matplotlib.")
  flags.DEFINE_multi_string(
    "metric",
    [],
    "Another metric than the experiment's, <task>/<metric>, or, of the final "
    "evaluation, final_eval/<task>/<metric>. May be repeated: a table each; "
    "the first is drawn.",
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
  records = {folder: read_record(folder) for folder in folders}
  output = paths.make_writable_dir(FLAGS.output or folders[0])
  found = [_read(records, metric) for metric in FLAGS.metric or [None]]
  picture = None
  if FLAGS.figure and any(cell.is_whole for cell in found[0].cells):
    picture = figure.png(found[0])
    paths.write_bytes(output / "report.png", picture)
  table = "\n".join(map(tables.markdown, found))
  paths.write_text(output / "report.md", table)
  paths.write_text(output / "report.csv", tables.as_csv(found[0]))
  commands = [
    as_text(job["commands"])
    for record in records.values()
    for job in record["jobs"]
  ]
  text = page.page(found, picture=picture, commands=commands)
  paths.write_text(output / "report.html", text)
  print(table)


def _read(records: dict[str, dict], metric: str | None) -> results.Results:
  """Returns what came out by a metric, of several experiments together."""
  parts = {
    os.path.basename(folder): results.read(folder, record, metric=metric)
    for folder, record in records.items()
  }
  if len(parts) < len(records):
    raise ValueError(
      f"the folders {list(records)} are to have different last names, which "
      "say in the table which is which"
    )
  return (
    next(iter(parts.values())) if len(parts) == 1 else results.combine(parts)
  )


if __name__ == "__main__":
  define_flags()
  main_lib.start(main)
