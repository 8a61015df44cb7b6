"""The steps of a run as programs to compile: functions and shapes with places.

They are the run's own train step, rank classification and decoder, laid out by
the run's own mesh and axis rules. Nothing is read or computed.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding

from prompt_tuning.evaluate.predictors import Generation, RankClassification
from prompt_tuning.evaluate.rank_classification import (
  RankClassifier,
  Verbalizers,
)
from prompt_tuning.evaluate.tasks import TaskEvaluation
from prompt_tuning.model.sharding import feature_spec
from prompt_tuning.model.t5 import T5
from prompt_tuning.runs.abstract import (
  AbstractRun,
  abstract_key,
  abstract_keys,
  num_bytes,
)
from prompt_tuning.runs.arguments import TrainArguments
from prompt_tuning.train import mesh as mesh_lib

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


class Run(AbstractRun):
  """A training run whose steps can be compiled for a mesh."""

  def __init__(self, arguments: TrainArguments):
    """Computes shapes.

    Args:
      arguments: The run's; its evaluations say how answers are found.

    Raises:
      ValueError: As the run itself would, of what shows without weights and
        data.
    """
    super().__init__(arguments)
    self._predictors = [
      each.predictor
      for each in arguments.evaluations
      if isinstance(each, TaskEvaluation)
    ]

  def weight_bytes(self, mesh: Mesh) -> int:
    """Returns the bytes of parameters on each chip, prompt included."""
    params = self.network.params
    return num_bytes(params, self.shardings(params, mesh))

  def train(self, mesh: Mesh) -> Program:
    """Returns the training step as `train.loop.fit` runs it."""
    shardings = self.state_shardings(mesh)
    return Program(
      name="train",
      function=self.train_step(mesh),
      arguments=(
        _place(self.state, shardings),
        _place(self.frozen, self.shardings(self.frozen, mesh)),
        self._placed_batch(mesh),
        _place(abstract_key(), mesh_lib.replicated(mesh)),
      ),
      out_shardings=(shardings, mesh_lib.replicated(mesh)),
      donated=True,
    )

  def score(self, mesh: Mesh) -> Program:
    """Returns rank classification: the recipe's, or of two short answers."""
    predictor = self._first(RankClassification)
    model = self.model(mesh)
    if predictor is None:
      classifier = RankClassifier(model, _TWO_ANSWERS)
      return self._answering(
        "score",
        lambda params, batch, rngs: classifier.predict(params, batch),
        mesh,
      )
    return self._answering("score", self._build(predictor, model), mesh)

  def decode(self, mesh: Mesh) -> Program:
    """Returns the recipe's decoder, or the greedy one."""
    predictor = self._first(Generation) or Generation()
    answer = self._build(predictor, self.model(mesh))
    return self._answering("decode", answer, mesh)

  def _answering(self, name: str, answer: Any, mesh: Mesh) -> Program:
    params = self.network.params
    return Program(
      name=name,
      function=answer,
      arguments=(
        _place(params, self.shardings(params, mesh)),
        self._placed_batch(mesh),
        _place(
          abstract_keys(self.batch_size),
          NamedSharding(mesh, feature_spec("keys", 1)),
        ),
      ),
    )

  def _first(self, kind: type) -> Any:
    return next((p for p in self._predictors if isinstance(p, kind)), None)

  def _build(self, predictor: Any, model: T5) -> Any:
    return predictor.build(
      model, vocabulary=self.backbone.vocabulary, lengths=self.lengths
    )

  def _placed_batch(self, mesh: Mesh) -> Any:
    return _place(self.batch, self.batch_shardings(mesh))


def _place(tree: Any, shardings: Any) -> Any:
  return jax.tree.map(
    lambda leaf, sharding: jax.ShapeDtypeStruct(
      leaf.shape, leaf.dtype, sharding=sharding
    ),
    tree,
    shardings,
  )
