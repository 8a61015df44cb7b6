"""A backbone with a soft prompt in place."""

import dataclasses

import jax
from flax import linen as nn
from jax import numpy as jnp

from prompt_tuning.backbone import Backbone
from prompt_tuning.model.t5 import T5
from prompt_tuning.prompts import artifact
from prompt_tuning.prompts import layout as layout_lib
from prompt_tuning.prompts.layout import Layout
from prompt_tuning.prompts.module import Prompt, PromptBank
from prompt_tuning.prompts.spec import PromptSpec
from prompt_tuning.types import Params


@dataclasses.dataclass(frozen=True, kw_only=True)
class Network:
  """All that computes.

  Attributes:
    model: The network, prompt included.
    params: All parameters; `prompt/embedding` where there is a prompt.
    layout: Where slots stand.
    fingerprint: Names the backbone, on a prompt's card and in a checkpoint.
  """

  model: T5
  params: Params
  layout: Layout
  fingerprint: str


def build_network(
  backbone: Backbone,
  prompt: PromptSpec | None,
  *,
  rng: jax.Array,
  from_scratch: bool = False,
) -> Network:
  """Reads the backbone, or starts one, and puts a fresh prompt in front.

  Args:
    backbone: Names the T5.
    prompt: The soft prompt; None for the bare model.
    rng: Key of the prompt's initialiser, and of the weights from scratch.
    from_scratch: Whether the backbone starts from random weights.

  Raises:
    ValueError: If a checkpoint is named and not to be read, or the other way
      round; or the backbone or the prompt do not fit.
  """
  weights_rng, prompt_rng = jax.random.split(rng)
  if from_scratch:
    if backbone.checkpoint is not None:
      raise ValueError(
        "FROM_SCRATCH is set, but so is the backbone checkpoint "
        f"{backbone.checkpoint!r}; drop one of the two."
      )
    params = backbone.from_scratch(weights_rng)
  else:
    params = backbone.load()
  fingerprint = artifact.fingerprint(params)
  if prompt is None:
    return Network(
      model=T5(backbone.config),
      params=params,
      layout=layout_lib.prefix(0),
      fingerprint=fingerprint,
    )
  module = prompt.module(
    embeddings=params["token_embedder"]["embedding"],
    encode=backbone.vocabulary.encode,
    backbone_fingerprint=fingerprint,
  )
  return Network(
    model=T5(backbone.config, prompt=module),
    params={**params, "prompt": init_prompt(module, prompt_rng)},
    layout=prompt.layout(backbone.vocabulary.encode),
    fingerprint=fingerprint,
  )


def init_prompt(module: Prompt | PromptBank, rng: jax.Array) -> Params:
  """Returns the initial parameters of a prompt alone."""
  slots = jnp.zeros((1,), jnp.int32)
  return nn.meta.unbox(module.init({"params": rng}, slots)["params"])
