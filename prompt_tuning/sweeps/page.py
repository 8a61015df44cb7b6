"""The results of an experiment as one page that needs nothing else."""

import base64
import html
from collections.abc import Sequence

from prompt_tuning.sweeps import tables
from prompt_tuning.sweeps.results import Results

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222;
  margin: 2rem auto; max-width: 60rem; padding: 0 1rem; }
table { border-collapse: collapse; }
th, td { border-bottom: 1px solid #ddd; padding: .3rem .8rem;
  text-align: left; }
td.missing { color: #a33; }
img { max-width: 100%; }
pre { background: #f6f6f6; padding: .8rem; overflow-x: auto; }
"""


def page(
  tables_of: Sequence[Results],
  *,
  picture: bytes | None,
  commands: Sequence[str],
) -> str:
  """Returns HTML.

  Args:
    tables_of: What came out, by one metric or several.
    picture: A PNG, see `figure.png`; None for none.
    commands: What each job ran.
  """
  escape, results = html.escape, tables_of[0]
  parts = [
    "<!doctype html><meta charset='utf-8'>",
    f"<title>{escape(results.about)}</title><style>{_STYLE}</style>",
    f"<h1>{escape(results.about)}</h1>",
    *(part for each in tables_of for part in _section(each)),
  ]
  if picture is not None:
    data = base64.b64encode(picture).decode()
    parts.append(f"<p><img alt='' src='data:image/png;base64,{data}'></p>")
  if results.missing:
    lines = "".join(f"<li>{escape(line)}</li>" for line in results.missing)
    parts.append(f"<h2>Not ended, and in no mean</h2><ul>{lines}</ul>")
  text = escape("\n\n".join(commands))
  parts.append(f"<h2>Commands</h2><pre>{text}</pre>")
  return "\n".join(parts) + "\n"


def _section(results: Results) -> list[str]:
  text = html.escape(tables.which(results))
  repeats = html.escape(results.repeats)
  return [
    f"<p>{text}: mean and standard deviation over {repeats}.</p>",
    _table(results),
  ]


def _table(results: Results) -> str:
  differ = tables.differ_in_parameters(results)
  head = [*results.axes, *(["trained parameters"] if differ else [])]
  head += [results.metric, "each run"]
  rows = ["".join(f"<th>{html.escape(name)}</th>" for name in head)]
  for cell in results.cells:
    each = ", ".join(tables.number(run.best) for run in cell.results.values())
    labels = "".join(
      f"<td>{html.escape(label)}</td>" for label in cell.coordinates.values()
    )
    if differ:
      labels += f"<td>{html.escape(tables.trained_text(cell))}</td>"
    kind = "" if cell.is_whole else " class='missing'"
    figure = html.escape(tables.figure_text(cell))
    rows.append(f"{labels}<td{kind}>{figure}</td><td>{each}</td>")
  return f"<table>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"
