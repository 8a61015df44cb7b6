"""The results of an experiment as a picture."""

import importlib.util
import io

from prompt_tuning.sweeps.results import Results


def is_available() -> bool:
  """Returns whether matplotlib, which draws, is installed."""
  return importlib.util.find_spec("matplotlib") is not None


def png(results: Results) -> bytes:
  """Returns the means along the first axis, a line for each of the others.

  Bars are standard deviations. A cell that is not whole is left out.

  Raises:
    ValueError: No cell is whole; or matplotlib is not installed, which comes
      with the extra `report`.
  """
  whole = [cell for cell in results.cells if cell.is_whole]
  if not whole:
    raise ValueError("there is nothing to draw: no point of the grid is whole")
  try:
    from matplotlib.figure import Figure
  except ImportError as error:
    raise ValueError(
      "drawing needs matplotlib: pip install 'prompt-tuning[report]', or give "
      "--nofigure"
    ) from error
  first, labels = next(iter(results.axes.items()), ("", [""]))
  lines: dict[str, list[tuple[int, float, float]]] = {}
  for cell in whole:
    others = [v for name, v in cell.coordinates.items() if name != first]
    place = labels.index(cell.coordinates.get(first, ""))
    point = place, cell.mean(), cell.deviation() or 0.0
    lines.setdefault(", ".join(others), []).append(point)
  picture = Figure(figsize=(6, 4), layout="constrained")
  axes = picture.add_subplot()
  for name, points in lines.items():
    places, means, deviations = zip(*points, strict=True)
    axes.errorbar(
      places, means, deviations, marker="o", capsize=3, label=name or None
    )
  axes.set_xticks(range(len(labels)), labels)
  axes.set_xlabel(first)
  axes.set_ylabel(results.metric)
  axes.grid(alpha=0.3)
  if len(lines) > 1:
    axes.legend()
  file = io.BytesIO()
  picture.savefig(file, format="png", dpi=150)
  return file.getvalue()
