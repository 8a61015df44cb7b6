"""Stops a run that cannot succeed, and says why."""

import io
import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from prompt_tuning import paths

_WATCHED = ("loss", "grad_norm", "update_norm")
_STILL_STEPS = 3
_SHOWN_TOKENS = 12


class NonFiniteError(FloatingPointError):
  """A loss, gradient or update is infinite or not a number."""


def check_finite(
  metrics: Mapping[str, float],
  batch: Mapping[str, np.ndarray],
  *,
  step: int,
  model_dir: paths.PathLike,
) -> None:
  """Raises, after saving the batch, if training has left the numbers.

  Args:
    metrics: Metrics of the step.
    batch: The batch of the step, on the host.
    step: Number of the step, counted from 1.
    model_dir: Where `non_finite_batch_<step>.npz` is written; with several
      processes, one file each.

  Raises:
    NonFiniteError: Naming the step and the batch.
  """
  bad = {
    name: metrics[name]
    for name in _WATCHED
    if name in metrics and not math.isfinite(metrics[name])
  }
  if not bad:
    return
  name = f"non_finite_batch_{step}"
  if jax.process_count() > 1:
    name += f"_process_{jax.process_index()}"
  path = paths.as_path(model_dir) / f"{name}.npz"
  content = io.BytesIO()
  arrays: dict[str, Any] = {k: np.asarray(v) for k, v in batch.items()}
  np.savez(content, **arrays)
  try:
    paths.write_bytes(path, content.getvalue())
    saved = f"The batch is saved as {path}"
  except OSError as error:
    saved = f"The batch could not be saved as {path} ({error})"
  inputs = np.asarray(batch["encoder_input_tokens"])
  targets = np.asarray(batch["decoder_target_tokens"])
  values = ", ".join(f"{name} {value}" for name, value in bad.items())
  raise NonFiniteError(
    f"Step {step} is not finite: {values}. {saved}; its first example begins "
    f"with the inputs {inputs[0, :_SHOWN_TOKENS].tolist()} and the targets "
    f"{targets[0, :_SHOWN_TOKENS].tolist()}, and its largest input id is "
    f"{inputs.max()} (an id beyond the vocabulary and the prompt's slots gives "
    "NaN). Earlier checkpoints are intact. Otherwise lower the learning rate, "
    "or compute in float32."
  )


class MovementCheck:
  """Notices a run whose updates change nothing from the start."""

  def __init__(self):
    self._still = 0
    self._moved = False

  def check(self, metrics: Mapping[str, float], *, step: int) -> None:
    """Takes the metrics of a step.

    Raises:
      ValueError: If the first updates were all exactly zero, although the
        learning rate was not.
    """
    if self._moved or metrics.get("learning_rate", 1.0) == 0.0:
      return
    if metrics.get("update_norm", 1.0) != 0.0:
      self._moved = True
      return
    self._still += 1
    if self._still >= _STILL_STEPS:
      raise ValueError(
        f"Nothing moves: the updates of the first {self._still} steps with a "
        f"learning rate above zero (until step {step}) are exactly zero. Does "
        "the input hold slots of the prompt that is trained (is the layout's "
        "prompt length that of the prompt), do the trainable patterns name "
        "parameters that the loss depends on, and has the batch targets "
        f"(num_tokens is {metrics.get('num_tokens')})?"
      )
