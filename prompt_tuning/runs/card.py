"""What a run says of itself, and its prompts of where they come from."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from flax import traverse_util

from prompt_tuning.data.features import FeatureLengths
from prompt_tuning.methods import description
from prompt_tuning.prompts.artifact import PromptCard
from prompt_tuning.prompts.module import PromptAttention
from prompt_tuning.runs.arguments import TrainArguments
from prompt_tuning.runs.network import Network
from prompt_tuning.train.export import PromptExporter
from prompt_tuning.train.run_identity import RunIdentity


def identity(
  a: TrainArguments,
  network: Network,
  lengths: FeatureLengths,
  data: Mapping[str, Any],
) -> RunIdentity:
  """Returns what a run must share with the one that it goes on from.

  Args:
    a: The run's arguments.
    network: What is trained.
    lengths: Tokens of inputs and targets.
    data: What its examples are.
  """
  described: dict[str, Any] = {
    "inputs": a.inputs.name,
    # One by one, so that what differs is named.
    **traverse_util.flatten_dict({"data": data}, sep="/"),
    "feature_lengths": dataclasses.asdict(lengths),
    "batch_size": a.batch_size,
  }
  prompt = a.prompt
  if prompt is not None:
    described["prompt"] = {
      "length": prompt.length,
      "num_prompts": prompt.num_prompts,
      "layout": prompt.layout_text,
      "attention": PromptAttention(prompt.attention).value,
      "initializer": prompt.initializer_name,
    }
  if a.method is not None:
    described["method"] = description.describe(a.method)
  return RunIdentity(
    backbone=network.identity,
    trainable=list(a.trainable),
    seed=a.seed,
    config={**json.loads(json.dumps(described)), **(a.settings or {})},
  )


def exporter(a: TrainArguments, network: Network) -> PromptExporter | None:
  """Returns what writes a run's prompts, with their card.

  Returns:
    None of a run without a prompt.
  """
  prompt = a.prompt
  if prompt is None:
    return None
  card = PromptCard(
    length=prompt.length,
    width=network.model.config.embed_dim,
    num_prompts=prompt.num_prompts,
    backbone=network.fingerprint,
    step=0,
    initialiser=prompt.initializer_name,
    task=a.inputs.name,
    layout=prompt.layout_text,
    attention=PromptAttention(prompt.attention).value,
    backbone_dtype=network.dtype,
    base_model=a.backbone.checkpoint or "",
    recipe=a.recipe,
    licence=a.licence,
  )
  return PromptExporter(
    a.model_dir,
    card,
    metric=None if a.selection is None else a.selection.metric,
  )
