"""The network that a run has tuned, put together again from its MODEL_DIR.

A checkpoint holds what was trained; `run.json` beside it says inside of what:
the method, the soft prompt's shape, and the backbone, which is given anew.
"""

import dataclasses
import os
import pathlib
from collections.abc import Sequence
from typing import Any

from prompt_tuning import paths
from prompt_tuning.checkpoints import orbax_tree, tree
from prompt_tuning.checkpoints.load import checkpoint_step, find_checkpoint
from prompt_tuning.methods import description
from prompt_tuning.model.method import Method
from prompt_tuning.model.stack import stack_layers, unstack_leaves
from prompt_tuning.prompts.spec import PromptSpec
from prompt_tuning.runs import model_dir
from prompt_tuning.runs.network import Network, merged
from prompt_tuning.train import partition


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tuned:
  """What was tuned, before its weights are read.

  Attributes:
    checkpoint: The best of the run, or the one that was named.
    step: Its step.
    backbone: Identity of what it was tuned on.
    method: What was trained inside of the layers, if anything.
    prompt: The soft prompt, if there was one; it starts at zero.
  """

  checkpoint: pathlib.Path
  step: int
  backbone: str
  method: Method | None
  prompt: PromptSpec | None


def read_tuned(
  tuned_dir: paths.PathLike | None,
  *,
  prompt_file: str | Sequence[str] | None = None,
) -> Tuned | None:
  """Returns what a run says of itself.

  Args:
    tuned_dir: Its MODEL_DIR, or one of the checkpoints in it; None for none.
    prompt_file: The prompt that is to stand in front, if there is one.

  Raises:
    ValueError: If there is no checkpoint, it does not say of which run it is,
      its method is unknown, or there is a prompt besides.
  """
  if tuned_dir is None:
    return None
  if prompt_file is not None:
    raise ValueError(
      f"Both TUNED_DIR ({tuned_dir}) and PROMPT_FILE ({prompt_file}) are set, "
      "but the prompt of a run is read from its checkpoint; drop one of them."
    )
  checkpoint = find_checkpoint(tuned_dir)
  identity = model_dir.read_identity(checkpoint.parent)
  method = identity.config.get("method")
  prompt: Any = identity.config.get("prompt")
  return Tuned(
    checkpoint=checkpoint,
    step=checkpoint_step(checkpoint) or 0,
    backbone=identity.backbone,
    method=None if method is None else description.described(method),
    prompt=None
    if prompt is None
    else PromptSpec.described(
      length=prompt["length"],
      num_prompts=prompt["num_prompts"],
      layout_text=prompt["layout"],
      attention=prompt["attention"],
    ),
  )


def with_tuned(network: Network, tuned: Tuned) -> Network:
  """Returns the network with the tuned weights in place.

  Args:
    network: The backbone with the method and the prompt that `tuned` names.
    tuned: Whose weights are read.

  Raises:
    ValueError: If they were tuned on another backbone, or do not fit.
  """
  source = os.fspath(tuned.checkpoint)
  if tuned.backbone != network.identity:
    raise ValueError(
      f"{source} was tuned on the backbone {tuned.backbone}, and this is "
      f"{network.identity}. Give the INITIAL_CHECKPOINT_PATH and the "
      "BACKBONE_DTYPE of that run."
    )
  stored = orbax_tree.leaves(tuned.checkpoint / "state", subtree="trainable")
  weights = tree.unflatten(dict(unstack_leaves(stored)))
  if network.model.config.scan_layers:
    weights = stack_layers(weights)
  known = partition.flatten(network.params)
  for path, weight in partition.flatten(weights).items():
    shape = known[path].shape if path in known else None
    if shape != weight.shape:
      raise ValueError(
        f"{source}: {path} {list(weight.shape)} was tuned, and the model has "
        f"{'no such parameter' if shape is None else list(shape)}. Choose the "
        "model and size of that run."
      )
  return dataclasses.replace(network, params=merged(network.params, weights))
