"""Evaluation of tasks while a run trains, and after it."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import jax
import numpy as np
from absl import logging

from prompt_tuning import paths
from prompt_tuning.data import providers
from prompt_tuning.data.batches import EvaluationBatch, check_shapes
from prompt_tuning.data.evaluation import Evaluator
from prompt_tuning.data.features import FeatureBuilder, FeatureLengths
from prompt_tuning.data.views import View
from prompt_tuning.data.vocabularies import Vocabulary
from prompt_tuning.evaluate import over_devices, report
from prompt_tuning.evaluate.predictors import Predictor
from prompt_tuning.model.t5 import T5
from prompt_tuning.prompts.layout import Layout
from prompt_tuning.types import Params

FOLDER = "inference_eval"
SCORE = "mean/score"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskEvaluation:
  """Answers a split and lets the task's own metrics judge.

  Attributes:
    task: MIXTURE_OR_TASK_NAME; of a mixture every task is evaluated.
    predictor: How answers are found.
    batch_size: B.
    length_buckets: How many encoder lengths batches have: a function is
      compiled for each. See `data.batches.evaluation_batches`.
    module: MIXTURE_OR_TASK_MODULE, imported first.
    split: Such as "validation".
    num_examples: Only so many of the first examples of each task.
    view: What is seen of each task's split, such as `few_shot.FewShot`; None
      for all.
    use_cached: USE_CACHED_TASKS: read what seqio cached.
    cache_dirs: SEQIO_CACHE_DIRS: where to look for that.
    seed: For predictors that draw; what they draw for an example depends on it
      and on the example's number in its task.
    folder: Where in the run's folder predictions and metrics are written.
    labels: The verbalizers: a target that is none of them is an error, and how
      often each is predicted is logged. None for free text.
  """

  task: str
  predictor: Predictor
  batch_size: int
  length_buckets: int = 1
  module: str | None = None
  split: str = "validation"
  num_examples: int | None = None
  view: View | None = None
  use_cached: bool = False
  cache_dirs: Sequence[str] = ()
  seed: int = 42
  folder: str = FOLDER
  labels: Sequence[str] | None = None

  def __post_init__(self):
    check_shapes(batch_size=self.batch_size, length_buckets=self.length_buckets)
    if self.num_examples is not None and self.num_examples < 1:
      raise ValueError(
        f"TaskEvaluation.num_examples must be at least 1, got "
        f"{self.num_examples}; None evaluates all."
      )

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
    self._find(vocabulary).check_evaluation(self.split)
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
    SuperGLUE's score is. Predictions and metrics are written to `folder` in
    the output folder.
    """
    predict = self.predictor.build(
      model, vocabulary=vocabulary, lengths=lengths
    )
    evaluator = self.evaluator(
      model,
      vocabulary=vocabulary,
      lengths=lengths,
      layout=layout,
      output_dir=output_dir,
      num_prompts=model.num_prompts,
    )

    def measure(params: Params, step: int) -> Mapping[str, float]:
      verdicts = Verdicts(vocabulary, self.labels)

      def answer(batches):
        return verdicts.watch(
          over_devices.answers(predict, params, batches, seed=self.seed)
        )

      results = evaluator.evaluate(predict=answer, step=step)
      verdicts.log()
      return summarize({task: r.metrics for task, r in results.items()})

    return measure

  def evaluator(
    self,
    model: T5,
    *,
    vocabulary: Vocabulary,
    lengths: FeatureLengths,
    layout: Layout,
    output_dir: str | None,
    num_prompts: int,
  ) -> Evaluator:
    """Reads the examples; returns what measures answers to them.

    Args:
      model: What answers.
      vocabulary: The model's.
      lengths: Tokens of inputs and targets.
      layout: Where slots stand.
      output_dir: Where `folder` is written; None for nowhere.
      num_prompts: Of how many prompts an example names one.
    """
    return self._find(vocabulary).evaluator(
      builder=FeatureBuilder(
        lengths,
        vocab_size=model.config.vocab_size,
        layout=layout,
        num_prompts=num_prompts,
      ),
      batch_size=self.batch_size,
      length_buckets=self.length_buckets,
      split=self.split,
      output_dir=None
      if output_dir is None or jax.process_index() != 0
      else str(paths.as_path(output_dir) / self.folder),
      num_examples=self.num_examples,
      view=self.view,
    )

  def _find(self, vocabulary: Vocabulary) -> providers.Provider:
    return providers.find_for(
      vocabulary,
      self.task,
      module=self.module,
      use_cached=self.use_cached,
      cache_dirs=self.cache_dirs,
    )


class Verdicts:
  """Targets and predictions of a classification, to see a collapse."""

  def __init__(self, vocabulary: Vocabulary, labels: Sequence[str] | None):
    self._vocabulary = vocabulary
    self._labels = labels
    self._targets: list[str] = []
    self._predictions: list[str] = []

  def watch(
    self, answered: Iterable[tuple[EvaluationBatch, np.ndarray]]
  ) -> Iterator[tuple[EvaluationBatch, np.ndarray]]:
    """Passes the answers of a task on, and notes them by example."""
    labels = self._labels
    if labels is None:
      yield from answered
      return
    verdicts: dict[int, tuple[str, str]] = {}
    for batch, tokens in answered:
      yield batch, tokens
      targets = batch.features["decoder_target_tokens"]
      pairs = zip(targets.tolist(), tokens.tolist(), strict=True)
      for number, (target, answer) in batch.by_example(pairs):
        prediction = self._vocabulary.decode(answer)
        verdicts[number] = self._label(target, labels), prediction
    for _, (target, prediction) in sorted(verdicts.items()):
      self._targets.append(target)
      self._predictions.append(prediction)

  def _label(self, target: list[int], labels: Sequence[str]) -> str:
    text = self._vocabulary.decode(target)
    if text not in labels:
      raise ValueError(
        f"A target is {text!r}, which is not among the class labels "
        f"{list(labels)}; CLASS_LABELS and the task do not belong together."
      )
    return text

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
