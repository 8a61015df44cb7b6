"""The error of a faulty configuration, and its suggestions."""

import difflib
from collections.abc import Iterable


class ConfigError(ValueError):
  """A recipe or a setting on the command line is wrong.

  The message is for the user: what is wrong, where it was written, and what to
  write instead.
  """


class UnknownNameError(ConfigError):
  """Nothing that the recipes mention has a name."""


def did_you_mean(
  name: str, candidates: Iterable[str], *, separator: str = "."
) -> str:
  """Returns " Did you mean A or B?", or "" if nothing is near `name`.

  Args:
    name: What was written.
    candidates: What could have been meant.
    separator: Between the parts of a name. People forget or add parts in front,
      so last parts are compared too.
  """
  names = sorted(set(candidates))
  last = {candidate.rsplit(separator, 1)[-1]: candidate for candidate in names}
  near = difflib.get_close_matches(name, names, n=3, cutoff=0.7)
  short = name.rsplit(separator, 1)[-1]
  near += [last[key] for key in difflib.get_close_matches(short, last, n=3)]
  near = list(dict.fromkeys(near))[:3]
  return f" Did you mean {' or '.join(near)}?" if near else ""
