"""A system with settings of its own, as one word.

`ours:packed_length=248:num_microbatches=2` is the system `ours` that packs and
cuts its batches; the examples are those of the job for all.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from benchmarks import systems
from benchmarks.flops import Mode
from benchmarks.jobs import Job, Kind
from benchmarks.systems import Entry


@dataclasses.dataclass(frozen=True)
class Variant:
  """A system and how it goes about a job.

  Attributes:
    system: Its name, see `benchmarks.systems`.
    settings: Fields of `Job` that it has its own value of.
  """

  system: str
  settings: Mapping[str, int | str]

  @property
  def entry(self) -> Entry:
    """How it is made."""
    return systems.find(self.system)

  @property
  def mode(self) -> Mode:
    """What it tunes."""
    return self.entry.mode

  def job(self, job: Job) -> Job:
    """Returns a job as this system is given it.

    Raises:
      ValueError: If it does not do such a job, or not with these settings.
    """
    if job.kind not in self.entry.kinds:
      able = ", ".join(sorted(kind.value for kind in self.entry.kinds))
      raise ValueError(
        f"{self.system} does no {Kind(job.kind).value}; it does {able}."
      )
    settings: Any = self.settings
    return dataclasses.replace(job, **settings)


def find(name: str) -> Variant:
  """Returns the system and the settings that a name states.

  Raises:
    ValueError: If there is no such system, it has no such setting, or the value
      is not of the setting's type.
  """
  system, *settings = name.split(":")
  known = systems.find(system).settings
  own = {}
  for text in settings:
    setting, _, value = text.partition("=")
    if setting not in known:
      raise ValueError(
        f"{name}: {system} has no setting {setting!r} of its own; it has "
        f"{', '.join(known) or 'none'}."
      )
    own[setting] = _value(name, setting, value)
  return Variant(system, own)


def _value(name: str, setting: str, text: str) -> int | str:
  """Returns a value of the type that the job's field has by default."""
  if isinstance(getattr(Job, setting), str):
    return text
  if not text.isdecimal():
    raise ValueError(
      f"{name}: {setting} must be a whole number, got {text!r}; write "
      f"{setting}=2."
    )
  return int(text)
