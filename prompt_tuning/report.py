"""`python -m prompt_tuning.report`: what came out of an experiment.

  python -m prompt_tuning.report runs/length

writes report.md, report.csv, report.png and report.html (one page that holds
all of it) into the folder of the experiment, and prints the table. Of an
experiment that has not ended it says what is missing; that is in no mean.
"""

from absl import app, flags

from prompt_tuning import paths
from prompt_tuning.runs import main as main_lib
from prompt_tuning.sweeps import figure, page, results, tables
from prompt_tuning.sweeps.jobs import as_text, read_record

FLAGS = flags.FLAGS


def define_flags() -> None:
  """Defines the flags of a report."""
  flags.DEFINE_bool("figure", True, "Draw report.png, with matplotlib.")


def main(argv: list[str]) -> None:
  """Reports on the folder that the command line names."""
  if len(argv) != 2:
    raise app.UsageError("name the folder of one experiment")
  folder = paths.as_path(argv[1])
  record = read_record(folder)
  found = results.read(folder, record)
  picture = None
  if FLAGS.figure and any(cell.is_whole for cell in found.cells):
    picture = figure.png(found)
    paths.write_bytes(folder / "report.png", picture)
  table = tables.markdown(found)
  paths.write_text(folder / "report.md", table)
  paths.write_text(folder / "report.csv", tables.as_csv(found))
  commands = [as_text(job["commands"]) for job in record["jobs"]]
  text = page.page(found, picture=picture, commands=commands)
  paths.write_text(folder / "report.html", text)
  print(table)


if __name__ == "__main__":
  define_flags()
  main_lib.start(main)
