"""Measures the comparisons of docs/performance.md and prints its tables.

python -m benchmarks.table --folder=runs/benchmarks

What was measured is kept in the folder, a file a comparison: given the command
again, what is there is printed and not measured again.
"""

import argparse
import json
import os
import pathlib
import time
from collections.abc import Sequence

from benchmarks import comparisons, goals
from benchmarks.comparison import Comparison, Json, Startup

Entry = Comparison | Startup


def measured(entry: Entry, folder: pathlib.Path, *, platform: str) -> Json:
  """Returns what was measured; measures what was not.

  Raises:
    ValueError: If the folder holds what was measured with other settings.
  """
  path = folder / f"{entry.name}.json"
  asked = {**entry.asked(), "platform": platform}
  if path.exists():
    kept = json.loads(path.read_text())
    if kept["asked"] != asked:
      raise ValueError(
        f"{path} was measured with other settings than {entry.name} has now; "
        "name another --folder, or delete the file to measure anew."
      )
    return kept["measured"]
  print(f"{entry.name}: about {entry.minutes:g} minutes", flush=True)
  begin = time.monotonic()
  numbers = entry.measure(platform)
  print(f"{entry.name}: took {(time.monotonic() - begin) / 60:.1f} minutes")
  kept = {"asked": asked, "measured": numbers}
  # Who is interrupted here leaves no half of a file behind.
  draft = path.with_suffix(".draft")
  draft.write_text(json.dumps(kept, indent=2) + "\n")
  os.replace(draft, path)
  return numbers


def run(
  entries: Sequence[Entry], folder: pathlib.Path, *, platform: str
) -> str:
  """Measures what is not there yet; returns all tables as Markdown.

  Raises:
    ValueError: As `measured`.
    RuntimeError: If a system fails.
  """
  folder.mkdir(parents=True, exist_ok=True)
  outcomes, parts = [], []
  for entry in entries:
    numbers = measured(entry, folder, platform=platform)
    outcomes += entry.outcomes(numbers)
    parts.append(f"### {entry.name}\n\n{entry.about}\n\n")
    parts.append(entry.markdown(numbers))
    parts.append("\n")
  return goals.table(outcomes) + "\n" + "".join(parts)


def find(names: Sequence[str] | None, *, platform: str = "cpu") -> list[Entry]:
  """Returns the comparisons of these names; without any, all.

  Raises:
    ValueError: If the platform has none of a name.
  """
  known = {entry.name: entry for entry in comparisons.on(platform)}
  for name in names or ():
    if name not in known:
      raise ValueError(
        f"unknown comparison {name!r}; on {platform!r} there are "
        f"{', '.join(known)}."
      )
  return [known[name] for name in names or known]


def at_hand(entries: Sequence[Entry]) -> list[Entry]:
  """Returns the comparisons whose systems are there; tells of the others."""
  found = []
  for entry in entries:
    missing = [name for name in entry.interpreters if name not in os.environ]
    if missing:
      print(
        f"{entry.name} is left out: it needs a Python that "
        f"{', '.join(missing)} names (docs/performance.md)."
      )
    else:
      found.append(entry)
  return found


def main(arguments: Sequence[str] | None = None) -> None:
  """Measures and prints."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument(
    "--folder",
    type=pathlib.Path,
    default=pathlib.Path("runs/benchmarks"),
    help="where what was measured is kept",
  )
  parser.add_argument(
    "--only", action="append", metavar="NAME", help="may be repeated"
  )
  parser.add_argument("--platform", default="cpu", help="where to compute")
  options = parser.parse_args(arguments)
  try:
    entries = find(options.only, platform=options.platform)
  except ValueError as error:
    parser.error(str(error))
  if not options.only:
    entries = at_hand(entries)
  print(run(entries, options.folder, platform=options.platform))


if __name__ == "__main__":
  main()
