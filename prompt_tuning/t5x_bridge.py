"""Prompt tuning inside T5X: `python -m t5x.train`, `t5x.eval`, `t5x.infer`.

T5X brings its trainer, partitioner, checkpoints and input pipeline; the
network, the layout of rows, the optimizer, the way answers are found and the
prompt's file are this project's own, the same objects as under its own engine.
The recipes in `gin/t5x/` put the two together; docs/t5x.md says how to install
T5X, which is on no package registry, and what was observed.

Differences from google's prompt-tuning on T5X: soft tokens are ids of the
inputs, so that T5X's masks, shapes and decoding need no case for them; frozen
weights are cut from the loss before it is differentiated; the optimizer has
state for what is trained alone, so that T5X's Orbax checkpoints resume; a
weight of the backbone that a checkpoint lacks is an error, where T5X would
start it at random.
"""

import dataclasses
import functools
import os
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import optax
from flax import core as flax_core
from flax.linen import partitioning as flax_partitioning
from jax import numpy as jnp

from prompt_tuning.backbone import Backbone
from prompt_tuning.checkpoints import tree
from prompt_tuning.checkpoints.locate import (
  Format,
  detect_format,
  find_checkpoint,
)
from prompt_tuning.data import (
  seqio_tasks,  # noqa: F401  Makes this project's tasks known to seqio.
)
from prompt_tuning.data.features import FeatureBuilder, FeatureLengths
from prompt_tuning.data.seqio_features import PromptFeatureConverter
from prompt_tuning.evaluate.predictors import Generation, Predictor
from prompt_tuning.model import t5
from prompt_tuning.prompts.artifact import PromptCard
from prompt_tuning.prompts.module import PromptAttention
from prompt_tuning.prompts.spec import PromptSpec
from prompt_tuning.runs.evaluate import PromptFile, load_network
from prompt_tuning.runs.network import Network, build_network, check_trained
from prompt_tuning.train import partition
from prompt_tuning.train.export import PromptExporter
from prompt_tuning.train.optimizers import Optimizer
from prompt_tuning.types import Params

try:
  # Not a requirement: T5X can only be had from its repository.
  from t5x import models, optimizers, state_utils  # pyright: ignore[reportMissingImports]
except ImportError as error:
  raise ImportError(
    "prompt_tuning.t5x_bridge runs inside T5X, which cannot be imported "
    f"({error}). Install it from its repository as docs/t5x.md says; this "
    "project's own programs (python -m prompt_tuning.train) need no T5X."
  ) from error

_PROMPT = "prompt"
_RESTORED = (Format.T5X, Format.T5X_ORBAX)
_DEFAULT_PREDICTOR = Generation()


class PromptedModel(models.EncoderDecoderModel):
  """A frozen T5 with a soft prompt, as T5X's trainer sees it.

  `EncoderDecoderModel` computes loss, metrics and scores out of this project's
  logits; answers are found by one of its predictors, as under its own engine.

  Attributes:
    network: What computes, without the backbone's weights: T5X restores these.
    builder: Lays rows out, slots included.
  """

  def __init__(
    self,
    network: Network,
    *,
    backbone: Backbone,
    lengths: FeatureLengths,
    predictor: Predictor,
    optimizer: Optimizer | None,
    trainable: Sequence[str],
    z_loss: float,
  ):
    """Puts the parts together; see `prompted_model`."""
    self.network = network
    self.builder = FeatureBuilder(
      lengths,
      vocab_size=backbone.config.vocab_size,
      layout=network.layout,
      num_prompts=network.model.num_prompts,
    )
    self._vocabulary = backbone.vocabulary
    self._predictor = predictor
    self._trainable = tuple(trainable)
    vocabulary = backbone.vocabulary.seqio()
    super().__init__(
      module=network.model,
      input_vocabulary=vocabulary,
      output_vocabulary=vocabulary,
      optimizer_def=None
      if optimizer is None
      else TrainableOptimizer(optimizer, self._trainable),
      feature_converter_cls=functools.partial(
        PromptFeatureConverter, self.builder
      ),
      z_loss=z_loss,
    )

  @property
  def trains_prompt_alone(self) -> bool:
    """Whether the prompt is all that a run changes, and so an artifact."""
    params = t5.abstract_params(self.network.model)
    return set(partition.split(params, self._trainable).trainable) == {_PROMPT}

  def get_initial_variables(
    self,
    rng: jax.Array,
    input_shapes: Mapping[str, Any],
    input_types: Mapping[str, Any] | None = None,
  ) -> Any:
    """Returns `params`, and their logical axes as `params_axes`.

    The backbone's are random, to be restored from a checkpoint; the prompt is
    what the initialiser gives under this project's own engine.
    """
    del input_shapes, input_types  # They leave no trace in the parameters.
    params = {**t5.init_params(self.network.model, rng)}
    params |= jax.tree.map(jnp.asarray, self.network.params)
    names = partition.flatten(t5.logical_axes(self.network.model))
    axes = {
      f"{path}_axes": flax_partitioning.AxisMetadata(names[path])
      for path in partition.flatten(params)
    }
    return flax_core.freeze(
      {"params": params, "params_axes": tree.unflatten(axes)}
    )

  def loss_fn(
    self, params: Any, batch: Mapping[str, Any], dropout_rng: Any
  ) -> Any:
    """Returns T5X's loss and metrics, with a gradient for what is trained.

    T5X differentiates with respect to all parameters. Of those that are frozen
    the gradient is zero here without being computed.
    """
    parts = partition.split(_unfrozen(params), self._trainable)
    frozen = jax.lax.stop_gradient(parts.frozen)
    merged = partition.merge(parts.trainable, frozen)
    return super().loss_fn(merged, batch, dropout_rng)

  def predict_batch_with_aux(
    self,
    params: Any,
    batch: Mapping[str, Any],
    rng: jax.Array | None = None,
    **decoding: Any,
  ) -> tuple[jax.Array, Mapping[str, jax.Array]]:
    """Returns the predictor's answers [B, T], and nothing beside them.

    Raises:
      ValueError: If something is meant for T5X's own decoders.
    """
    if decoding:
      raise ValueError(
        f"{', '.join(sorted(decoding))} would be ignored: answers are found by "
        "PREDICTOR. Give one of the recipes decoding/*.gin instead."
      )
    predict = self._predictor.build(
      self.network.model,
      vocabulary=self._vocabulary,
      lengths=self.builder.lengths,
    )
    rows = batch["encoder_input_tokens"].shape[0]
    keys = jax.random.split(_typed_key(rng), rows)
    return predict(_unfrozen(params), batch, keys), {}

  def _compute_logits(
    self,
    params: Any,
    batch: Mapping[str, Any],
    dropout_rng: jax.Array | None = None,
    mutable: Any = False,
    **unused: Any,
  ) -> Any:
    """Returns float32 logits [B, T, V]; where asked, with no variables."""
    del unused
    logits = self.network.model.apply(
      {"params": _unfrozen(params)},
      batch["encoder_input_tokens"],
      batch["decoder_input_tokens"],
      prompt_index=batch.get("prompt_index"),
      deterministic=dropout_rng is None,
      rngs=None if dropout_rng is None else {"dropout": dropout_rng},
    )
    return (logits, {}) if mutable else logits


def prompted_model(
  *,
  backbone: Backbone,
  feature_lengths: Mapping[str, int],
  prompt: PromptSpec | None = None,
  prompt_file: PromptFile = None,
  allow_missing_card: bool = False,
  predictor: Predictor = _DEFAULT_PREDICTOR,
  optimizer: Optimizer | None = None,
  trainable: Sequence[str] = ("prompt/.*",),
  z_loss: float = 1e-4,
  seed: int = 0,
) -> PromptedModel:
  """Returns the model of a run of T5X.

  The backbone's weights are read once here, for its fingerprint, for
  initialisers that want its embeddings, and to say what is wrong with them.
  T5X reads them again, each onto its device.

  Args:
    backbone: Names the T5; its checkpoint must be one that T5X restores.
    feature_lengths: TASK_FEATURE_LENGTHS, tokens of inputs and targets; slots
      come on top.
    prompt: The soft prompt to train.
    prompt_file: A tuned prompt, or several, which make a bank, to evaluate.
      With neither it is the bare model.
    allow_missing_card: Whether to take a prompt without a card for a prefix of
      this backbone.
    predictor: How answers are found.
    optimizer: Updates what is trained; None where nothing is.
    trainable: Patterns of the paths that are trained.
    z_loss: Coefficient of the z-loss.
    seed: Of the prompt's initialiser; the same seed starts the same prompt
      under this project's own engine.

  Raises:
    ValueError: If both a prompt to train and a tuned one are given, the
      backbone has a form that T5X does not restore, or anything does not fit.
  """
  if prompt is not None and prompt_file is not None:
    raise ValueError(
      f"Both PROMPT and PROMPT_FILE ({prompt_file!r}) are set. To train on "
      "from a saved prompt give t5x/prompts/from_file.gin; to evaluate one "
      "leave PROMPT at None."
    )
  _check_backbone(backbone, is_trained=optimizer is not None)
  if prompt_file is not None:
    network, _ = load_network(
      backbone, prompt_file, allow_missing_card=allow_missing_card
    )
  else:
    init_rng, _ = jax.random.split(jax.random.key(seed))
    network = build_network(backbone, prompt, rng=init_rng)
  if optimizer is not None:
    check_trained(network.model, trainable)
  # T5X has the backbone in its train state.
  own = {k: v for k, v in network.params.items() if k == _PROMPT}
  return PromptedModel(
    dataclasses.replace(network, params=own),
    backbone=backbone,
    lengths=FeatureLengths.from_mapping(feature_lengths),
    predictor=predictor,
    optimizer=optimizer,
    trainable=trainable,
    z_loss=z_loss,
  )


def _check_backbone(backbone: Backbone, *, is_trained: bool) -> None:
  """Checks what T5X asks of a backbone, before its weights are read.

  Raises:
    ValueError: It is kept in a type or a form that T5X does not restore.
  """
  allowed = ("float32",) if is_trained else ("float32", "bfloat16")
  if backbone.dtype not in allowed:
    raise ValueError(
      f"BACKBONE_DTYPE is {backbone.dtype!r}, and under T5X it must be one of "
      f"{', '.join(allowed)} here; in other types prompts are tuned by "
      "python -m prompt_tuning.train."
    )
  if backbone.config.scan_layers:
    raise ValueError(
      "SCAN_LAYERS is set, but T5X restores weights by their names, which "
      "stacked layers do not have; leave it at False."
    )
  checkpoint_path(backbone.checkpoint or "")


def checkpoint_path(path: str) -> str:
  """Returns the one checkpoint that T5X is to restore.

  Args:
    path: INITIAL_CHECKPOINT_PATH: a checkpoint, or a folder of several, of
      which the latest is taken.

  Raises:
    ValueError: If there is none, or T5X does not restore its form.
  """
  if not path:
    raise ValueError(
      "No backbone checkpoint is given: set INITIAL_CHECKPOINT_PATH."
    )
  checkpoint = find_checkpoint(path)
  kind = detect_format(checkpoint)
  if kind not in _RESTORED:
    raise ValueError(
      f"{os.fspath(checkpoint)} is {kind.value}, which T5X does not restore; "
      "write it in T5X's layout: python -m prompt_tuning.export "
      "--gin_file=runs/export.gin --gin.EXPORT_FORMAT=\"'t5x'\" ..."
    )
  return os.fspath(checkpoint)


class TrainableOptimizer(optimizers.OptaxWrapper):
  """An optimizer of this project in T5X's form.

  It has state for what is trained alone, on every device, and leaves the rest
  of the parameters as they are, bit for bit.
  """

  def __init__(self, optimizer: Optimizer, trainable: Sequence[str]):
    """Wraps what updates the paths that match one of some patterns."""
    super().__init__(optimizer)
    self._trainable = tuple(trainable)

  def init_state(self, params: Any) -> Any:
    """Returns the state before the first step."""
    trainable = self._split(params).trainable
    return optimizers.OptimizerState(
      step=jnp.zeros((), jnp.int32),
      param_states=self.optax_optimizer.init(trainable),
    )

  def apply_gradient(
    self, hyper_params: Any, params: Any, state: Any, grads: Any
  ) -> tuple[Any, Any]:
    """Returns parameters and state after a step."""
    del hyper_params  # T5X's learning rate, which is the schedule's own.
    parts = self._split(params)
    updates, param_states = self.optax_optimizer.update(
      self._split(grads).trainable, state.param_states, parts.trainable
    )
    trainable: Any = optax.apply_updates(parts.trainable, updates)
    return flax_core.freeze(partition.merge(trainable, parts.frozen)), (
      optimizers.OptimizerState(step=state.step + 1, param_states=param_states)
    )

  def derive_logical_axes(self, optimizer: Any, param_logical_axes: Any) -> Any:
    """Returns the axes of parameters and state; None is on every device."""
    nowhere = jax.tree.map(lambda leaf: None, optimizer.state.param_states)
    return optimizers.Optimizer(
      optimizer_def=optimizer.optimizer_def,
      state=optimizers.OptimizerState(step=None, param_states=nowhere),
      target=param_logical_axes,
    )

  def _split(self, params: Any) -> partition.Partition:
    return partition.split(_unfrozen(params), self._trainable)


def learning_rate(*, optimizer: Optimizer) -> optax.Schedule:
  """Returns the schedule of an optimizer, for T5X's log."""
  return optimizer.learning_rate


def from_backbone(
  checkpoint: Mapping[str, Any],
  state: Mapping[str, Any],
  *,
  is_resuming: bool = False,
) -> Mapping[str, Any]:
  """Takes the backbone of a checkpoint, and leaves the rest of it out.

  One of T5X's transformations at restoring. The prompt, the optimizer's state
  and the step begin anew, so that TRAIN_STEPS counts the steps of this run.

  Args:
    checkpoint: What the checkpoint holds, nested.
    state: What the run's state holds, nested.
    is_resuming: Whether the checkpoint is one of this run, taken whole.

  Raises:
    ValueError: If the checkpoint lacks a weight of the backbone.
  """
  if is_resuming:
    return checkpoint
  stored = state_utils.flatten_state_dict(checkpoint["target"])
  wanted = [
    path
    for path in state_utils.flatten_state_dict(state["target"])
    if not path.startswith(f"{_PROMPT}/")
  ]
  missing = [path for path in wanted if path not in stored]
  if missing:
    near = partition.nearest(missing[0], stored)
    raise ValueError(
      f"The checkpoint lacks {len(missing)} weights of the backbone, such as "
      f"{missing[0]}; the nearest that it has are {', '.join(near)}. None is "
      "made up in place of another: choose the model and size of the "
      "checkpoint. One with scanned layers is written without by python -m "
      "prompt_tuning.export."
    )
  return {"target": tree.unflatten({path: stored[path] for path in wanted})}


@dataclasses.dataclass(frozen=True)
class PromptWriter:
  """Writes the prompt's file and card beside every checkpoint of T5X.

  One of T5X's transformations at saving, which it applies whichever library
  writes its checkpoints. It changes nothing.

  Attributes:
    exporter: Writes `prompts/prompt_<step>.npy` and its card; None where more
      than a prompt is trained, which no such file could hold.
  """

  exporter: PromptExporter | None

  def __call__(
    self, state: Mapping[str, Any], infos: Any
  ) -> tuple[Mapping[str, Any], Any]:
    """Writes the prompt of a state; returns its arguments."""
    if self.exporter is not None:
      self.exporter(
        state["target"],
        step=int(jax.device_get(state["state"]["step"])),
        metrics={},
        is_best=False,
      )
    return state, infos


def prompt_writer(
  *,
  model: PromptedModel,
  prompt: PromptSpec | None,
  backbone: Backbone,
  model_dir: str,
  task: str = "",
  licence: str = "",
) -> PromptWriter:
  """Returns what writes the prompts of a run into MODEL_DIR/prompts.

  Args:
    model: What is trained.
    prompt: The soft prompt's description; None writes nothing.
    backbone: What it is tuned for.
    model_dir: MODEL_DIR.
    task: MIXTURE_OR_TASK_NAME.
    licence: LICENCE.
  """
  if prompt is None or not model.trains_prompt_alone:
    return PromptWriter(None)
  card = PromptCard(
    length=prompt.length,
    width=backbone.config.embed_dim,
    num_prompts=prompt.num_prompts,
    backbone=model.network.fingerprint,
    step=0,
    initialiser=prompt.initializer_name,
    task=task,
    layout=prompt.layout_text,
    attention=PromptAttention(prompt.attention).value,
    backbone_dtype=model.network.dtype,
    base_model=backbone.checkpoint or "",
    licence=licence,
  )
  return PromptWriter(PromptExporter(model_dir, card))


def _unfrozen(params: Any) -> Params:
  """Returns T5X's frozen dictionaries as plain ones."""
  return flax_core.unfreeze(params)


def _typed_key(rng: jax.Array | None) -> jax.Array:
  """Returns T5X's key in the form that JAX has today."""
  if rng is None:
    return jax.random.key(0)
  if jnp.issubdtype(rng.dtype, jax.dtypes.prng_key):
    return rng
  return jax.random.wrap_key_data(rng)
