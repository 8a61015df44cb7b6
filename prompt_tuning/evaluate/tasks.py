"""Evaluation of seqio Tasks while a run trains, and after it."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import jax
import numpy as np
from absl import logging

from prompt_tuning import paths
from prompt_tuning.data.features import FeatureBuilder, FeatureLengths
from prompt_tuning.data.vocabularies import Vocabulary
from prompt_tuning.evaluate import over_devices, report
from prompt_tuning.evaluate.predictors import Predictor
from prompt_tuning.model.t5 import T5
from prompt_tuning.prompts.layout import Layout
from prompt_tuning.types import Batch, Params

FOLDER = "inference_eval"
SCORE = "mean/score"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskEvaluation:
  """Answers a split and lets the task's own metrics judge.

  Attributes:
    task: MIXTURE_OR_TASK_NAME; of a mixture every task is evaluated.
    predictor: How answers are found.
    batch_size: B.
    module: MIXTURE_OR_TASK_MODULE, imported first.
    split: Such as "validation".
    num_examples: Only so many of the first examples of each task.
    use_cached: USE_CACHED_TASKS: read what seqio cached.
    cache_dirs: SEQIO_CACHE_DIRS: where to look for that.
    seed: For predictors that draw.
    labels: The verbalizers: a target that is none of them is an error, and how
      often each is predicted is logged. None for free text.
  """

  task: str
  predictor: Predictor
  batch_size: int
  module: str | None = None
  split: str = "validation"
  num_examples: int | None = None
  use_cached: bool = False
  cache_dirs: Sequence[str] = ()
  seed: int = 42
  labels: Sequence[str] | None = None

  def check(
    self, model: T5, *, vocabulary: Vocabulary, lengths: FeatureLengths
  ) -> None:
    """Checks what shows before the examples are read.

    Args:
      model: The network, with or without its prompt.
      vocabulary: The model's.
      lengths: Tokens of inputs and targets.

    Raises:
      ValueError: There is no such task, it has no metrics, split, cache or
        file, or its vocabulary or the predictor does not fit the model.
    """
    from prompt_tuning.data import seqio_evaluation

    seqio_evaluation.check_tasks(
      self._find(vocabulary), self.split, use_cached=self.use_cached
    )
    self.predictor.build(model, vocabulary=vocabulary, lengths=lengths)

  def prepare(
    self,
    model: T5,
    *,
    vocabulary: Vocabulary,
    lengths: FeatureLengths,
    layout: Layout,
    output_dir: str,
  ) -> Callable[[Params, int], Mapping[str, float]]:
    """Returns what measures parameters at a step.

    It maps all parameters and the step to `<task>/<metric>`, and to
    `mean/score`: the mean over tasks of the mean of a task's metrics, as
    SuperGLUE's score is. Predictions and metrics are written to
    `inference_eval` in the output folder.
    """
    from prompt_tuning.data import seqio_evaluation

    self._find(vocabulary)
    predict = self.predictor.build(
      model, vocabulary=vocabulary, lengths=lengths
    )
    evaluator = seqio_evaluation.TaskEvaluator(
      self.task,
      builder=FeatureBuilder(
        lengths,
        vocab_size=model.config.vocab_size,
        layout=layout,
        num_prompts=model.num_prompts,
      ),
      batch_size=self.batch_size,
      split=self.split,
      output_dir=str(paths.as_path(output_dir) / FOLDER)
      if jax.process_index() == 0
      else None,
      num_examples=self.num_examples,
      use_cached=self.use_cached,
    )

    def measure(params: Params, step: int) -> Mapping[str, float]:
      keys = _keys(self.seed)
      answers = _Answers(vocabulary, self.labels)

      def predict_batch(batch):
        tokens = over_devices.answer(predict, params, batch, next(keys))
        answers.add(batch, tokens)
        return tokens

      results = evaluator.evaluate(predict=predict_batch, step=step)
      answers.log()
      return summarize({task: r.metrics for task, r in results.items()})

    return measure

  def _find(self, vocabulary: Vocabulary):
    """Returns the task, once it is known to have the model's vocabulary."""
    from prompt_tuning.data import seqio_input

    provider = seqio_input.find(
      self.task, module=self.module, cache_dirs=self.cache_dirs
    )
    seqio_input.check_vocabulary(provider, vocabulary)
    return provider


class _Answers:
  """Targets and predictions of a classification, to see a collapse."""

  def __init__(self, vocabulary: Vocabulary, labels: Sequence[str] | None):
    self._vocabulary = vocabulary
    self._labels = labels
    self._targets: list[str] = []
    self._predictions: list[str] = []

  def add(self, batch: Batch, tokens: np.ndarray) -> None:
    """Adds the real rows of a batch."""
    if self._labels is None:
      return
    targets = np.asarray(batch["decoder_target_tokens"])
    for target, answer in zip(targets, tokens, strict=True):
      if not target.any():
        continue  # A row that only fills the batch.
      text = self._vocabulary.decode(target.tolist())
      if text not in self._labels:
        raise ValueError(
          f"A target is {text!r}, which is not among the class labels "
          f"{list(self._labels)}; CLASS_LABELS and the task do not belong "
          "together."
        )
      self._targets.append(text)
      self._predictions.append(self._vocabulary.decode(answer.tolist()))

  def log(self) -> None:
    """Logs how often each answer was given."""
    if self._targets:
      text = report.prediction_histogram(self._targets, self._predictions)
      logging.info("Predictions:\n%s", text)


def summarize(
  metrics: Mapping[str, Mapping[str, float]],
) -> dict[str, float]:
  """Returns metrics by `<task>/<metric>`, and their mean as `mean/score`."""
  flat = {
    f"{task}/{name}": float(value)
    for task, values in metrics.items()
    for name, value in values.items()
  }
  scores = [np.mean(list(values.values())) for values in metrics.values()]
  return flat | {SCORE: float(np.mean(scores))}


def _keys(seed: int):
  key = jax.random.key(seed)
  while True:
    key, drawn = jax.random.split(key)
    yield drawn
