"""The error of a faulty configuration, and its suggestions."""

import difflib
from collections.abc import Iterable


class ConfigError(ValueError):
  """A recipe or a setting on the command line is wrong.

  The message is for the user: what is wrong, where it was written, and what to
  write instead.
  """


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
  """Returns " Did you mean A or B?", or "" if nothing is near `name`."""
  names = sorted(set(candidates))
  # The parts that people forget or add (a scope, a module) are in front.
  last = {candidate.rsplit(".", 1)[-1]: candidate for candidate in names}
  near = difflib.get_close_matches(name, names, n=3, cutoff=0.7)
  short = difflib.get_close_matches(
    name.rsplit(".", 1)[-1], last, n=3, cutoff=0.7
  )
  near = list(dict.fromkeys([*near, *(last[key] for key in short)]))[:3]
  return f" Did you mean {' or '.join(near)}?" if near else ""
