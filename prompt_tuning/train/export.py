"""Writes the prompt as a plain array beside every checkpoint."""

import dataclasses
from collections.abc import Callable, Mapping

import jax

from prompt_tuning import paths
from prompt_tuning.prompts.artifact import PromptCard, save_prompt
from prompt_tuning.types import Params

FOLDER = "prompts"

Export = Callable[..., None]
"""`(trainable, *, step, metrics, is_best)`, called at every save."""


class PromptExporter:
  """Writes `prompts/prompt_<step>.npy`, and the best again as `best.npy`."""

  def __init__(
    self,
    model_dir: paths.PathLike,
    card: PromptCard,
    *,
    metric: str | None = None,
  ):
    """Prepares to export.

    Args:
      model_dir: The folder `prompts` is made in it.
      card: What is the same at every step.
      metric: Name of the metric to write on the card, if it was evaluated.
    """
    self._dir = paths.as_path(model_dir) / FOLDER
    self._card = card
    self._metric = metric

  def __call__(
    self,
    trainable: Params,
    *,
    step: int,
    metrics: Mapping[str, float],
    is_best: bool,
  ) -> None:
    """Writes the prompt and its card; nothing if the prompt is not trained.

    Args:
      trainable: What is trained; of it, `prompt/embedding` [P, D] or
        [N, P, D] is written.
      step: Steps that the prompt has seen.
      metrics: Metrics evaluated at this step, if any were.
      is_best: Whether it is the best so far.

    Raises:
      OSError: If the folder cannot be written.
    """
    if jax.process_index() != 0 or "prompt" not in trainable:
      return
    array = jax.device_get(trainable["prompt"]["embedding"])
    card = dataclasses.replace(self._card, step=step)
    if self._metric is not None and self._metric in metrics:
      card = dataclasses.replace(
        card,
        metric_name=self._metric,
        metric_value=float(metrics[self._metric]),
      )
    paths.make_writable_dir(self._dir)
    # The best one last: whatever a crash leaves of it, the other is whole.
    names = [f"prompt_{step}"] + (["best"] if is_best else [])
    for name in names:
      save_prompt(self._dir / f"{name}.npy", array, card)
