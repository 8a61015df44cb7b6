"""A small program to configure: an entry point and things to hand to it."""

import dataclasses
import enum
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal


class Place(enum.StrEnum):
  PREFIX = "prefix"
  SUFFIX = "suffix"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Network:
  width: int
  activations: tuple[str, ...] = ("gelu",)
  dropout_rate: float = 0.0


def uniform(*, scale: float = 0.5) -> str:
  return f"uniform {scale}"


def from_file(*, path: str) -> str:
  return f"file {path}"


def schedule(step: int, *, rate: float = 0.3) -> float:
  return rate * step


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
  model_dir: str
  steps: int
  network: Network
  init: str
  rate: Callable[[int], float]
  lengths: Mapping[str, int] | None
  patterns: Sequence[str]
  place: Place
  extra: dict[str, Any]


def train(
  *,
  model_dir: str,
  steps: int,
  network: Network,
  init: Any = None,
  rate: Callable[[int], float] = schedule,
  lengths: Mapping[str, int] | None = None,
  patterns: Sequence[str] = (),
  place: Place = Place.PREFIX,
  other_place: Place | str | None = None,
  mode: Literal["full", "prefix"] = "full",
  cached: bool = False,
  dry_run: bool = False,
) -> Result:
  return Result(
    model_dir=model_dir,
    steps=steps,
    network=network,
    init=init,
    rate=rate,
    lengths=lengths,
    patterns=patterns,
    place=Place(place),
    extra={"mode": mode, "cached": cached, "dry_run": dry_run},
  )


def export(*, model_dir: str) -> str:
  return model_dir


def fail() -> None:
  raise ValueError("the reason")
