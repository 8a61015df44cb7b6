"""The steps of a run as programs to compile: functions and shapes with places.

They are the run's own train step, rank classification and decoder, laid out by
the run's own mesh and axis rules. Nothing is read or computed.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from prompt_tuning.backbone import Backbone
from prompt_tuning.data.batches import padding_batch
from prompt_tuning.data.features import FeatureBuilder, FeatureLengths
from prompt_tuning.evaluate.predictors import Generation, RankClassification
from prompt_tuning.evaluate.rank_classification import (
  RankClassifier,
  Verbalizers,
)
from prompt_tuning.evaluate.tasks import TaskEvaluation
from prompt_tuning.model import t5
from prompt_tuning.prompts.spec import PromptSpec
from prompt_tuning.runs.network import Network, abstract_network
from prompt_tuning.runs.train import Evaluation, Hardware
from prompt_tuning.train import mesh as mesh_lib
from prompt_tuning.train import partition
from prompt_tuning.train.optimizers import Optimizer
from prompt_tuning.train.step import (
  LossNormalization,
  init_state,
  make_train_step,
)
from prompt_tuning.types import Params

_HARDWARE = Hardware()
# Two answers of one token each and an end, where a recipe names none.
_TWO_ANSWERS = Verbalizers(texts=("one", "other"), tokens=((3,), (4,)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Program:
  """Something to compile.

  Attributes:
    name: `train`, `score` or `decode`.
    function: What is computed.
    arguments: Shapes, types and places of its arguments.
    out_shardings: Places of its results; None leaves them to the compiler.
    donated: Whether its first argument may be overwritten.
  """

  name: str
  function: Callable[..., Any]
  arguments: tuple[Any, ...]
  out_shardings: Any = None
  donated: bool = False

  def lower(self) -> Any:
    """Returns the program as JAX hands it to a compiler."""
    options: dict[str, Any] = {}
    if self.out_shardings is not None:
      options["out_shardings"] = self.out_shardings
    if self.donated:
      options["donate_argnums"] = 0
    return jax.jit(self.function, **options).lower(*self.arguments)


class Run:
  """A training run, described by shapes; see `runs.train.train`."""

  def __init__(
    self,
    *,
    backbone: Backbone,
    feature_lengths: Mapping[str, int],
    batch_size: int,
    trainable: Sequence[str],
    optimizer: Optimizer,
    prompt: PromptSpec | None = None,
    from_scratch: bool = False,
    evaluations: Sequence[Evaluation] = (),
    z_loss: float = 1e-4,
    loss_normalization: LossNormalization = LossNormalization.SUM,
    num_microbatches: int = 1,
    hardware: Hardware = _HARDWARE,
    **unused: Any,
  ):
    """Takes the arguments of `runs.train.train`.

    Args:
      backbone: The T5 that is tuned.
      feature_lengths: TASK_FEATURE_LENGTHS.
      batch_size: B.
      trainable: Patterns of the paths that are trained.
      optimizer: Updates what is trained.
      prompt: The soft prompt.
      from_scratch: Whether the backbone starts from random weights.
      evaluations: They say how answers are found.
      z_loss: Coefficient of the z-loss.
      loss_normalization: What the summed loss is divided by.
      num_microbatches: Parts in which a batch is run.
      hardware: Its axis rules hold; its mesh is one of those tried.
      **unused: What else a run is configured with, which decides no shape.

    Raises:
      ValueError: As the run itself would, of what shows without weights and
        data.
    """
    del unused
    self.lengths = FeatureLengths.from_mapping(feature_lengths)
    self.network: Network = abstract_network(
      backbone, prompt, from_scratch=from_scratch
    )
    self.batch_size = batch_size
    self._backbone = backbone
    self._optimizer = optimizer
    self._rules = hardware.axis_rules
    self._axes = t5.logical_axes(self.network.model)
    self._parts = partition.split(self.network.params, trainable)
    self._predictors = [
      each.predictor for each in evaluations if isinstance(each, TaskEvaluation)
    ]
    self._train_step = make_train_step(
      self.network.model,
      optimizer,
      z_loss=z_loss,
      loss_normalization=loss_normalization,
      num_microbatches=num_microbatches,
    )

  @property
  def num_parameters(self) -> int:
    """Of the backbone and the prompt."""
    leaves = jax.tree.leaves(self.network.params)
    return sum(int(np.prod(leaf.shape)) for leaf in leaves)

  @property
  def encoder_length(self) -> int:
    """L, soft prompt included, in tokens."""
    return self._builder().encoder_length

  def check_mesh(self, mesh: Mesh) -> None:
    """Raises a ValueError if batch or parameters do not divide over it."""
    mesh_lib.check_batch_size(self.batch_size, mesh)
    self._placed(self.network.params, mesh)

  def weight_bytes(self, mesh: Mesh) -> int:
    """Returns the bytes of parameters on each chip, prompt included."""
    return sum(
      int(np.prod(leaf.sharding.shard_shape(leaf.shape))) * leaf.dtype.itemsize
      for leaf in jax.tree.leaves(self._placed(self.network.params, mesh))
    )

  def train(self, mesh: Mesh) -> Program:
    """Returns the training step as `train.loop.fit` runs it."""
    frozen = self._placed(self._parts.frozen, mesh)
    # What is trained is kept in float32, whatever the backbone is stored in.
    trainable = jax.tree.map(
      lambda leaf: jax.ShapeDtypeStruct(
        leaf.shape, np.float32, sharding=leaf.sharding
      ),
      self._placed(self._parts.trainable, mesh),
    )
    state = jax.eval_shape(lambda p: init_state(p, self._optimizer), trainable)
    shardings = mesh_lib.state_shardings(
      state, jax.tree.map(lambda leaf: leaf.sharding, trainable), mesh=mesh
    )
    return Program(
      name="train",
      function=self._train_step,
      arguments=(
        jax.tree.map(_place, state, shardings),
        frozen,
        self._batch(mesh),
        _key(mesh),
      ),
      out_shardings=(shardings, mesh_lib.replicated(mesh)),
      donated=True,
    )

  def score(self, mesh: Mesh) -> Program:
    """Returns rank classification: the recipe's, or of two short answers."""
    predictor = self._first(RankClassification)
    if predictor is None:
      classifier = RankClassifier(self.network.model, _TWO_ANSWERS)
      return self._answering(
        "score",
        lambda params, batch, rngs: classifier.predict(params, batch),
        mesh,
      )
    return self._answering("score", self._build(predictor), mesh)

  def decode(self, mesh: Mesh) -> Program:
    """Returns the recipe's decoder, or the greedy one."""
    predictor = self._first(Generation) or Generation()
    return self._answering("decode", self._build(predictor), mesh)

  def _answering(self, name: str, answer: Any, mesh: Mesh) -> Program:
    return Program(
      name=name,
      function=answer,
      arguments=(
        self._placed(self.network.params, mesh),
        self._batch(mesh),
        _keys(mesh, self.batch_size),
      ),
    )

  def _first(self, kind: type) -> Any:
    return next((p for p in self._predictors if isinstance(p, kind)), None)

  def _build(self, predictor: Any) -> Any:
    return predictor.build(
      self.network.model,
      vocabulary=self._backbone.vocabulary,
      lengths=self.lengths,
    )

  def _placed(self, params: Params, mesh: Mesh) -> Params:
    shardings = mesh_lib.param_shardings(
      params, self._axes, mesh=mesh, rules=self._rules
    )
    return jax.tree.map(_place, params, shardings)

  def _batch(self, mesh: Mesh) -> dict[str, jax.ShapeDtypeStruct]:
    batch = padding_batch(self._builder(), batch_size=self.batch_size)
    cut = NamedSharding(mesh, PartitionSpec(mesh_lib.DATA))
    return {name: _place(value, cut) for name, value in batch.items()}

  def _builder(self) -> FeatureBuilder:
    return FeatureBuilder(
      self.lengths,
      vocab_size=self.network.model.config.vocab_size,
      layout=self.network.layout,
      num_prompts=self.network.model.num_prompts,
    )


def _place(leaf: Any, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _key(mesh: Mesh) -> jax.ShapeDtypeStruct:
  key = jax.eval_shape(lambda: jax.random.key(0))
  return _place(key, mesh_lib.replicated(mesh))


def _keys(mesh: Mesh, rows: int) -> jax.ShapeDtypeStruct:
  keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), rows))
  return _place(keys, NamedSharding(mesh, PartitionSpec(mesh_lib.DATA)))
