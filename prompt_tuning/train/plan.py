"""How long to train, and what to do when."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
  """How long to train and what to do when, all in steps of this run.

  Attributes:
    total_steps: Steps to take.
    log_every: Steps between two lines of metrics, which are averages over them.
    eval_every: Steps between evaluations; there is one before the first step
      and one after the last.
    save_every: Steps between checkpoints; there is also one at every new best
      and at the end.
  """

  total_steps: int
  log_every: int = 100
  eval_every: int = 1000
  save_every: int = 1000

  def __post_init__(self):
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      if not isinstance(value, int) or value < 1:
        raise ValueError(
          f"Plan.{field.name} must be a positive number of steps, got "
          f"{value!r}."
        )
