"""What makes two runs the same run, so that one may resume the other."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class RunIdentity:
  """What decides the course of a run.

  Attributes:
    backbone: Fingerprint of the frozen parameters (or of the initial ones where
      all are trained).
    trainable: Path patterns of what is trained.
    seed: Seed of the run's random numbers.
    config: Every setting that changes what is learned, by name, JSON-able.
      Settings that do not (how long, how often to save) stay out, so that a run
      can be resumed with others.
  """

  backbone: str
  trainable: Sequence[str]
  seed: int
  config: Mapping[str, Any]

  @property
  def config_hash(self) -> str:
    """A short digest of `config`."""
    text = json.dumps(_plain(self.config), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]

  def as_json(self) -> dict[str, Any]:
    """Returns the identity for a checkpoint."""
    return {
      "backbone": self.backbone,
      "trainable": list(self.trainable),
      "seed": self.seed,
      "config": _plain(self.config),
      "config_hash": self.config_hash,
    }

  @classmethod
  def from_json(cls, entry: Mapping[str, Any]) -> "RunIdentity":
    """Returns the identity that `as_json` gave."""
    return cls(
      backbone=entry["backbone"],
      trainable=tuple(entry["trainable"]),
      seed=entry["seed"],
      config=entry["config"],
    )

  def differences(self, other: "RunIdentity") -> list[str]:
    """Returns a line `name: other's -> ours` for each thing that differs."""
    ours, theirs = _flat(self), _flat(other)
    absent = "(not set)"
    return [
      f"{name}: {theirs.get(name, absent)} -> {ours.get(name, absent)}"
      for name in sorted(ours.keys() | theirs.keys())
      if ours.get(name, absent) != theirs.get(name, absent)
    ]


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
  """As JSON gives it back: lists for tuples."""
  return json.loads(json.dumps(dict(config)))


def _flat(run: RunIdentity) -> dict[str, str]:
  entry = run.as_json()
  settings = {name: repr(value) for name, value in entry.pop("config").items()}
  entry.pop("config_hash")
  labels = {
    "backbone": "backbone fingerprint",
    "trainable": "trainable patterns",
    "seed": "random seed",
  }
  return settings | {labels[key]: repr(value) for key, value in entry.items()}
