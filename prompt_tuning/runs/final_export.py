"""What a run has trained, written for others when it has ended."""

import dataclasses
import errno
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from absl import logging
from jax.experimental import multihost_utils

from prompt_tuning import paths
from prompt_tuning.checkpoints import t5x, tree
from prompt_tuning.checkpoints.stored import Stored
from prompt_tuning.data.features import FeatureLengths
from prompt_tuning.data.vocabularies import Vocabulary
from prompt_tuning.model.stack import unstack_layers
from prompt_tuning.model.t5 import T5
from prompt_tuning.prompts.layout import Layout
from prompt_tuning.types import Params


@dataclasses.dataclass(frozen=True, kw_only=True)
class FinalExport:
  """A final evaluation that measures nothing and writes the model.

  The step that was selected becomes `<folder>/checkpoint_<step>` of MODEL_DIR,
  in T5X's legacy layout, float32; an LM adaptation is thereby a model that T5X
  and any run here start from. What is there already stays if it is the same,
  and is an error if not: nothing is overwritten.

  Attributes:
    folder: Its folder, below MODEL_DIR.
  """

  folder: str = "t5x"

  def prepare(
    self,
    model: T5,
    *,
    vocabulary: Vocabulary,
    lengths: FeatureLengths,
    layout: Layout,
    output_dir: str,
  ) -> Callable[[Params, int], Mapping[str, float]]:
    """Returns what writes (all parameters, step), and measures nothing.

    Raises:
      ValueError: A prompt or a method is trained, which the layout has no place
        for.
    """
    del vocabulary, lengths, layout
    if model.prompt is not None or model.method is not None:
      raise ValueError(
        "FinalExport writes a T5 alone, and this run trains a prompt or a "
        "method; leave it out of final_evaluations."
      )
    folder = os.path.join(output_dir, self.folder)

    def write(params: Params, step: int) -> Mapping[str, float]:
      place = paths.as_path(folder) / f"checkpoint_{step}"
      whole = jax.tree.map(_whole, unstack_layers(params))
      if jax.process_index() == 0:
        if paths.exists(place):
          _check_same(place, whole)
        else:
          t5x.save(whole, folder, step=step)
      logging.info("In T5X's layout: %s", place)
      return {}

    return write


def _check_same(place: pathlib.Path, params: Params) -> None:
  """Raises a FileExistsError if a checkpoint has other weights."""
  there, here = dict(t5x.leaves(place)), tree.flatten(params)
  is_same = there.keys() == here.keys() and all(
    there[name].equals(Stored.of(np.asarray(here[name]))) for name in here
  )
  if not is_same:
    raise FileExistsError(
      errno.EEXIST,
      "holds other weights than this run has trained, and is not overwritten; "
      "remove it and give the command again, which trains no step twice",
      str(place),
    )


def _whole(weight: Any) -> Any:
  """Returns a weight of which this process may have a part."""
  if weight.is_fully_addressable:
    return weight
  return multihost_utils.process_allgather(weight, tiled=True)
