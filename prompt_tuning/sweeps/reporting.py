"""The report of one experiment or several: a table, a figure, one page."""

from collections.abc import Mapping, Sequence
from typing import Any

from prompt_tuning import paths
from prompt_tuning.sweeps import figure, page, results, tables
from prompt_tuning.sweeps.jobs import as_text, read_record


def write(
  folders: Sequence[str],
  *,
  output: str | None = None,
  metrics: Sequence[str] = (),
  with_figure: bool = True,
) -> str:
  """Writes report.md, .csv, .html and .png; returns the tables as Markdown.

  Args:
    folders: Of experiments, each with a last name of its own.
    output: Where to; by default into the first folder.
    metrics: A table each, of which report.csv and the figure have the first; by
      default the experiment's own.
    with_figure: Whether to draw, where a point of the grid is whole.

  Raises:
    ConfigError: A folder is of no experiment.
    ValueError: The folders' names are equal, or the experiments do not belong
      into one table; or there is no matplotlib to draw with. Nothing is written
      then.
  """
  records = {folder: read_record(folder) for folder in folders}
  found = [_read(records, metric) for metric in metrics or [None]]
  picture = None
  if with_figure and any(cell.is_whole for cell in found[0].cells):
    picture = figure.png(found[0])
  table = "\n".join(map(tables.markdown, found))
  commands = [
    as_text(job["commands"])
    for record in records.values()
    for job in record["jobs"]
  ]
  place = paths.make_writable_dir(output or folders[0])
  # An older figure is of other results.
  (place / "report.png").unlink(missing_ok=True)
  if picture is not None:
    paths.write_bytes(place / "report.png", picture)
  paths.write_text(place / "report.md", table)
  paths.write_text(place / "report.csv", tables.as_csv(found[0]))
  text = page.page(found, picture=picture, commands=commands)
  paths.write_text(place / "report.html", text)
  return table


def _read(
  records: Mapping[str, dict[str, Any]], metric: str | None
) -> results.Results:
  """Returns what came out by a metric, of several experiments together."""
  parts = {
    paths.as_path(folder).name: results.read(folder, record, metric=metric)
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
