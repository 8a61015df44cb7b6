"""What a run has tuned inside of a network, or PEFT, put in place again.

A checkpoint holds what was trained; `run.json` beside it says inside of what:
the method, the soft prompt's shape, and the backbone, which is given anew.
"""

import dataclasses
import functools
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from absl import logging

from prompt_tuning import hub, paths
from prompt_tuning.checkpoints import orbax_tree, tree
from prompt_tuning.checkpoints.locate import checkpoint_step, find_checkpoint
from prompt_tuning.checkpoints.peft import files, methods
from prompt_tuning.methods import description
from prompt_tuning.model.config import T5Config
from prompt_tuning.model.method import Method
from prompt_tuning.model.stack import stack_layers, unstack_leaves
from prompt_tuning.prompts.spec import PromptSpec
from prompt_tuning.runs import model_dir
from prompt_tuning.runs.network import Network, merged
from prompt_tuning.train import partition
from prompt_tuning.types import Params


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tuned:
  """What was tuned, before its weights are read.

  Attributes:
    source: Where it is: the best checkpoint of a run, the one that was named,
      or a folder of PEFT.
    step: Steps that it has seen, as far as that is known.
    backbone: Identity of what it was tuned on; None if nothing says it.
    method: What was trained inside of the layers, if anything.
    prompt: The soft prompt, if there was one; it starts at zero.
    read: Returns the weights, an entry a layer.
  """

  source: str
  step: int
  backbone: str | None
  method: Method | None
  prompt: PromptSpec | None
  read: Callable[[], Params]

  def check_backbone(self, identity: str) -> None:
    """Checks that it was tuned on this backbone, as far as it says so.

    Args:
      identity: Of the backbone, as `Network.identity`.

    Raises:
      ValueError: If it was tuned on another.
    """
    if self.backbone is None:
      logging.warning(
        "Nothing says which backbone %s was tuned on; make sure that it is "
        "this one.",
        self.source,
      )
    elif self.backbone != identity:
      raise ValueError(
        f"{self.source} was tuned on the backbone {self.backbone}, and this is "
        f"{identity}. Give the INITIAL_CHECKPOINT_PATH and the BACKBONE_DTYPE "
        "of that run."
      )


def read_tuned(
  tuned_dir: paths.PathLike | None,
  *,
  config: T5Config,
  prompt_file: str | Sequence[str] | None = None,
) -> Tuned | None:
  """Returns what a run, or an adapter of PEFT, says of itself.

  Args:
    tuned_dir: The MODEL_DIR of a run, one of the checkpoints in it, or a folder
      of PEFT with LoRA, IA3 or prefix tuning, `hf://org/name` of the hub among
      them; None for none.
    config: The backbone's shape.
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
  tuned_dir = hub.adapter_folder(os.fspath(tuned_dir))
  if files.is_adapter(tuned_dir):
    return _of_peft(tuned_dir, config)
  return _of_run(tuned_dir)


def _of_run(tuned_dir: paths.PathLike) -> Tuned:
  checkpoint = find_checkpoint(tuned_dir)
  identity = model_dir.read_identity(checkpoint.parent)
  method = identity.config.get("method")
  prompt: Any = identity.config.get("prompt")
  return Tuned(
    source=os.fspath(checkpoint),
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
    read=functools.partial(_read_checkpoint, checkpoint),
  )


def _read_checkpoint(checkpoint: paths.PathLike) -> Params:
  stored = orbax_tree.leaves(
    paths.as_path(checkpoint) / "state", subtree="trainable"
  )
  return tree.unflatten(
    {path: np.asarray(array) for path, array in unstack_leaves(stored)}
  )


def _of_peft(folder: paths.PathLike, config: T5Config) -> Tuned:
  adapter = methods.read(folder, config)
  return Tuned(
    source=os.fspath(folder),
    step=int(adapter.card.get("step", 0)),
    backbone=adapter.card.get("backbone"),
    method=adapter.method,
    prompt=None,
    read=lambda: adapter.params,
  )


def with_tuned(network: Network, tuned: Tuned) -> Network:
  """Returns the network with the tuned weights in place.

  Args:
    network: The backbone with the method and the prompt that `tuned` names.
    tuned: Whose weights are read.

  Raises:
    ValueError: If they were tuned on another backbone, or do not fit.
  """
  tuned.check_backbone(network.identity)
  weights = tuned.read()
  if network.model.config.scan_layers:
    weights = stack_layers(weights)
  known = partition.flatten(network.params)
  for path, weight in partition.flatten(weights).items():
    shape = known[path].shape if path in known else None
    if shape != weight.shape:
      raise ValueError(
        f"{tuned.source}: {path} {list(weight.shape)} was tuned, and the model "
        f"has {'no such parameter' if shape is None else list(shape)}. Choose "
        "the model and size of that run."
      )
  return dataclasses.replace(network, params=merged(network.params, weights))
