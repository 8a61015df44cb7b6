"""A backbone with a soft prompt in place."""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from flax import traverse_util
from jax import numpy as jnp
from jax.sharding import Mesh

from prompt_tuning.backbone import Backbone
from prompt_tuning.checkpoints.load import Loaded
from prompt_tuning.model import quantization, t5
from prompt_tuning.model.initialization import Initialization
from prompt_tuning.model.method import Method
from prompt_tuning.model.sharding import (
  SEQUENCE,
  ActivationSharding,
  AxisRules,
)
from prompt_tuning.model.t5 import T5
from prompt_tuning.prompts import layout as layout_lib
from prompt_tuning.prompts.layout import Layout
from prompt_tuning.prompts.module import Prompt, PromptBank
from prompt_tuning.prompts.spec import PromptSpec
from prompt_tuning.train import partition
from prompt_tuning.types import Params


@dataclasses.dataclass(frozen=True, kw_only=True)
class Network:
  """All that computes.

  Attributes:
    model: The network, prompt included.
    params: All parameters; `prompt/embedding` where there is a prompt, and
      those of a method where the model has one.
    layout: Where slots stand.
    fingerprint: Names the backbone, on a prompt's card and in a checkpoint.
    dtype: The type that the backbone's weights are kept in.
  """

  model: T5
  params: Params
  layout: Layout
  fingerprint: str
  dtype: str

  @property
  def identity(self) -> str:
    """The backbone of a run: kept less exactly it is another run's."""
    return identity_of(self.fingerprint, self.dtype)

  def on(self, mesh: Mesh, rules: AxisRules) -> "Network":
    """Returns the network as it computes on a mesh, parameters untouched.

    Without a cut along the sequence the compiler needs no help.
    """
    if mesh.shape[SEQUENCE] == 1:
      return self
    sharding = ActivationSharding(mesh, rules)
    return dataclasses.replace(self, model=self.model.clone(sharding=sharding))


def build_network(
  backbone: Backbone,
  prompt: PromptSpec | None,
  *,
  rng: jax.Array,
  from_scratch: bool = False,
  loaded: Loaded | None = None,
  method: Method | None = None,
  in_parts: bool = False,
) -> Network:
  """Reads the backbone, or starts one, and puts a fresh prompt in front.

  Args:
    backbone: Names the T5.
    prompt: The soft prompt; None for the bare model.
    rng: Key of the initialisers of prompt and method, and of the weights from
      scratch.
    from_scratch: Whether the backbone starts from random weights.
    loaded: The backbone's weights, if they were read before.
    method: What is trained inside of the layers; None for nothing.
    in_parts: Whether weights are read only when they are placed.

  Raises:
    ValueError: If a checkpoint is named and not to be read, or the other way
      round; or the backbone or the prompt do not fit.
  """
  weights_rng, prompt_rng = jax.random.split(rng)
  check_start(backbone, from_scratch=from_scratch)
  # A prompt belongs to the weights, however they are kept and their layers run.
  if from_scratch:
    loaded = Loaded.of(
      backbone.from_scratch(weights_rng),
      scan_layers=backbone.config.scan_layers,
    )
  elif loaded is None:
    loaded = backbone.load(in_parts=in_parts)
  params, fingerprint = loaded.params, loaded.fingerprint
  dtype = _kept_in(backbone, from_scratch=from_scratch)
  if method is not None:
    method = method.resolved(backbone.vocabulary.encode)
  module = None
  if prompt is not None:
    module = prompt.module(
      embeddings=quantization.float_table(params["token_embedder"]),
      encode=backbone.vocabulary.encode,
      backbone_fingerprint=fingerprint,
    )
  if method is not None:
    method.check_prompt(module)
  model = T5(backbone.config, method=method)
  # A key of its own, so that a method leaves the prompt's draws as they are.
  params = merged(params, t5.method_params(model, jax.random.fold_in(rng, 0)))
  if prompt is None or module is None:
    return Network(
      model=model,
      params=params,
      layout=layout_lib.prefix(0),
      fingerprint=fingerprint,
      dtype=dtype,
    )
  return Network(
    model=model.clone(prompt=module),
    params={**params, "prompt": init_prompt(module, prompt_rng)},
    layout=prompt.layout(backbone.vocabulary.encode),
    fingerprint=fingerprint,
    dtype=dtype,
  )


def abstract_network(
  backbone: Backbone,
  prompt: PromptSpec | None,
  *,
  from_scratch: bool = False,
  method: Method | None = None,
) -> Network:
  """Returns the same network with shapes and types in the place of weights.

  No weights are read, so its fingerprint is empty. The prompt's initialiser is
  called, on a table of zeros that takes no memory, for what it would refuse.

  Args:
    backbone: Names the T5.
    prompt: The soft prompt; None for the bare model.
    from_scratch: Whether the backbone starts from random weights.
    method: What is trained inside of the layers; None for nothing.

  Raises:
    ValueError: As `build_network`, where it shows without weights.
  """
  check_start(backbone, from_scratch=from_scratch)
  config = backbone.config
  module = None
  layout = layout_lib.prefix(0)
  if prompt is not None:
    shape = (config.vocab_size, config.embed_dim)
    table: Any = np.broadcast_to(np.zeros((), np.float32), shape)
    module = prompt.module(
      embeddings=table,
      encode=backbone.vocabulary.encode,
    )
    layout = prompt.layout(backbone.vocabulary.encode)
  if method is not None:
    method = method.resolved(backbone.vocabulary.encode)
    method.check_prompt(module)
  model = T5(config, prompt=module, method=method)
  kept = _kept_in(backbone, from_scratch=from_scratch)
  bare = t5.abstract_params(T5(config))
  # Prompt and method are kept as they are trained, whatever the backbone is
  # stored in.
  params = merged(
    t5.abstract_params(model), quantization.abstract_params(bare, kept)
  )
  return Network(
    model=model,
    params=params,
    layout=layout,
    fingerprint="",
    dtype=kept,
  )


def check_trained(model: T5, trainable: Sequence[str]) -> None:
  """Checks that whatever is not of the backbone is trained.

  A checkpoint holds what is trained; the rest is found in the backbone's.

  Args:
    model: With its prompt and its method.
    trainable: Patterns of the paths that are trained.

  Raises:
    ValueError: A parameter of the prompt or of the method is left as it starts.
  """
  own = set(partition.flatten(t5.abstract_params(model)))
  own -= set(partition.flatten(t5.abstract_params(T5(model.config))))
  if model.method is not None and model.method.ignores_prompt:
    own = {path for path in own if not path.startswith("prompt/")}
  left = sorted(
    path
    for path in own
    if not any(re.fullmatch(pattern, path) for pattern in trainable)
  )
  if left:
    raise ValueError(
      f"TRAINABLE {tuple(trainable)} leaves {', '.join(left[:3])}"
      f"{', ...' if len(left) > 3 else ''} as they start, and no checkpoint "
      "would hold them; train them too, or leave out the prompt or the method "
      "that they are of."
    )


def check_start(backbone: Backbone, *, from_scratch: bool) -> None:
  """Checks that it is clear where the backbone's weights come from.

  Raises:
    ValueError: If both or neither of a checkpoint and random weights are asked
      for, another initialization and no random weights, or random weights in
      int8.
  """
  if from_scratch and backbone.checkpoint is not None:
    raise ValueError(
      "FROM_SCRATCH is set, but so is the backbone checkpoint "
      f"{backbone.checkpoint!r}; drop one of the two."
    )
  if not from_scratch and backbone.checkpoint is None:
    raise ValueError(
      "No backbone checkpoint is given: set INITIAL_CHECKPOINT_PATH, or say "
      "FROM_SCRATCH = True to pre-train."
    )
  if from_scratch and backbone.dtype == quantization.INT8:
    raise ValueError(
      "FROM_SCRATCH is set, but BACKBONE_DTYPE is 'int8', in which no weight "
      "can be trained; leave it at 'float32'."
    )
  kind = Initialization(backbone.initialization)
  if not from_scratch and kind is not Initialization.T5:
    raise ValueError(
      f"INITIALIZATION is {kind.value!r}, which random "
      "weights alone take; leave it at 't5' where a checkpoint is read."
    )


def _kept_in(backbone: Backbone, *, from_scratch: bool) -> str:
  return "float32" if from_scratch else backbone.dtype


def identity_of(fingerprint: str, dtype: str) -> str:
  """Returns what a run calls a backbone that is kept in a type."""
  return fingerprint if dtype == "float32" else f"{fingerprint} in {dtype}"


def merged(one: Params, other: Params) -> dict[str, Any]:
  """Returns one tree of two; a leaf of `other` stands before one of `one`."""
  flat = traverse_util.flatten_dict(one) | traverse_util.flatten_dict(other)
  return traverse_util.unflatten_dict(flat)


def init_prompt(module: Prompt | PromptBank, rng: jax.Array) -> Params:
  """Returns the initial parameters of a prompt alone."""
  slots = jnp.zeros((1,), jnp.int32)
  return nn.meta.unbox(module.init({"params": rng}, slots)["params"])
