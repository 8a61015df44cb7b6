"""Ensembles of prompts: N answers to every input in one forward pass, a vote.

Lester et al. (2021, sec. 6): N prompts on one frozen model are N models at the
cost of one; an input is answered by all of them in a batch of N rows.
"""

import collections
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
from jax import numpy as jnp

from prompt_tuning.data.batches import EvaluationBatch
from prompt_tuning.data.evaluation import Answer
from prompt_tuning.data.features import FeatureLengths
from prompt_tuning.data.vocabularies import Vocabulary
from prompt_tuning.evaluate import over_devices
from prompt_tuning.evaluate.predictors import Predict
from prompt_tuning.evaluate.tasks import TaskEvaluation, Verdicts, summarize
from prompt_tuning.model.t5 import T5
from prompt_tuning.prompts.layout import Layout
from prompt_tuning.types import Array, Batch, Int, Params

ENSEMBLE = "ensemble"


@dataclasses.dataclass(frozen=True, kw_only=True)
class EnsembleEvaluation:
  """Measures the vote of all prompts of a bank, and each of them.

  Attributes:
    each: How one prompt is evaluated; its batch size is that of the inputs, the
      model gets N times as many rows.
  """

  each: TaskEvaluation

  @property
  def batch_size(self) -> int:
    """Inputs of a batch."""
    return self.each.batch_size

  def rows(self, num_prompts: int) -> int:
    """Returns the rows of a batch that a model with so many prompts gets."""
    return num_prompts * self.each.batch_size

  def check(
    self, model: T5, *, vocabulary: Vocabulary, lengths: FeatureLengths
  ) -> None:
    """See `TaskEvaluation.check`."""
    self.each.check(model, vocabulary=vocabulary, lengths=lengths)

  def prepare(
    self,
    model: T5,
    *,
    vocabulary: Vocabulary,
    lengths: FeatureLengths,
    layout: Layout,
    output_dir: str,
  ) -> Callable[[Params, int], Mapping[str, float]]:
    """Returns what measures a bank at a step.

    It maps all parameters and the step to `ensemble/<task>/<metric>` and, of
    prompt n, `prompt_<n>/<task>/<metric>`. Predictions and metrics of the
    ensemble are written to `inference_eval` in the output folder.

    Raises:
      ValueError: The model has a single prompt; or as `TaskEvaluation.prepare`.
    """
    check_num_prompts(model.num_prompts)
    settings = {
      "vocabulary": vocabulary,
      "lengths": lengths,
      "layout": layout,
      "num_prompts": 1,
    }
    judge = self.each.evaluator(model, output_dir=output_dir, **settings)
    # What is written is the vote's alone.
    judge_of_each = self.each.evaluator(model, output_dir=None, **settings)
    predict = of_all_prompts(
      self.each.predictor.build(model, vocabulary=vocabulary, lengths=lengths),
      model,
    )

    def measure(params: Params, step: int) -> Mapping[str, float]:
      verdicts = Verdicts(vocabulary, self.each.labels)
      kept = _Kept()

      def ask(batches):
        answers = over_devices.answers(
          predict, params, batches, seed=self.each.seed
        )
        for batch, found in kept.keep(answers):
          votes = [
            majority(r, decode=vocabulary.decode) for r in found.tolist()
          ]
          yield batch, np.asarray(votes)

      found = {
        ENSEMBLE: judge.evaluate(
          predict=lambda batches: verdicts.watch(ask(batches)), step=step
        )
      }
      verdicts.log()
      for number in range(model.num_prompts):
        found[f"prompt_{number}"] = judge_of_each.evaluate(
          predict=kept.of_prompt(number), step=step
        )
      return {
        f"{who}/{name}": value
        for who, tasks in found.items()
        for name, value in summarize(
          {task: result.metrics for task, result in tasks.items()}
        ).items()
      }

    return measure


def check_num_prompts(number: int) -> None:
  """Raises a ValueError unless so many prompts can vote."""
  if number < 2:
    raise ValueError(
      f"An ensemble needs at least two prompts, got {number}; name their files "
      "in PROMPT_FILES."
    )


def of_all_prompts(predict: Predict, model: T5) -> over_devices.Answer:
  """Returns what answers rows laid out for the first prompt, for all prompts.

  Args:
    predict: Answers a batch, `(parameters, batch, keys) -> [B, T]`.
    model: With a bank of N prompts.

  Returns:
    `(parameters, batch, keys [B]) -> [B, N, T]`, in one call of `predict` on
    N times B rows.
  """
  num_prompts = model.num_prompts

  def answer(params: Params, batch: Batch, keys: Array) -> Int[Array, "B N T"]:
    rows = for_each_prompt(batch, model)
    tokens = predict(params, rows, jnp.tile(keys, num_prompts))
    by_prompt = jnp.reshape(tokens, (num_prompts, -1, tokens.shape[-1]))
    return jnp.swapaxes(by_prompt, 0, 1)

  return answer


def for_each_prompt(batch: Batch, model: T5) -> Batch:
  """Returns a batch once for each prompt of a bank, one after the other.

  Args:
    batch: B rows with the slots of the first prompt, or with none.
    model: With a bank of N prompts.

  Returns:
    The features of N * B rows, `prompt_index` among them where no slot names
    the prompt.
  """
  num_prompts, size = model.num_prompts, batch["encoder_input_tokens"].shape[0]
  prompt = np.repeat(np.arange(num_prompts, dtype=np.int32), size)
  rows = {
    name: jnp.tile(value, (num_prompts, *[1] * (value.ndim - 1)))
    for name, value in batch.items()
  }
  tokens = rows["encoder_input_tokens"]
  first = model.config.vocab_size
  assert model.prompt is not None  # It has several.
  length = model.prompt.length
  shifted = tokens + jnp.asarray(prompt)[:, None] * length
  rows["encoder_input_tokens"] = jnp.where(tokens >= first, shifted, tokens)
  return rows | {"prompt_index": jnp.asarray(prompt)}


def majority(
  answers: Sequence[Sequence[int]], *, decode: Callable[[Sequence[int]], str]
) -> list[int]:
  """Returns the answer that most prompts gave.

  Of several that equally many gave, the one whose first prompt is first: the
  paper does not say.

  Args:
    answers: The tokens of each prompt's answer, [N][T].
    decode: Gives the text of an answer; texts are counted.
  """
  texts = [decode(answer) for answer in answers]
  counts = collections.Counter(texts)
  most = max(counts.values())
  return list(answers[[counts[text] for text in texts].index(most)])


class _Kept:
  """Answers of all prompts, task by task, found once and given out again."""

  def __init__(self):
    self._tasks: list[list[tuple[np.ndarray, np.ndarray]]] = []

  def keep(
    self, answers: Iterable[tuple[EvaluationBatch, np.ndarray]]
  ) -> Iterator[tuple[EvaluationBatch, np.ndarray]]:
    """Passes the answers for the next task on, and keeps them."""
    own: list[tuple[np.ndarray, np.ndarray]] = []
    self._tasks.append(own)
    for batch, found in answers:
      own.append((batch.indices, found))
      yield batch, found

  def of_prompt(self, number: int) -> Answer:
    """Returns what gives one prompt's answers, for one task after the other."""
    tasks = iter(self._tasks)

    def answer(batches):
      for batch, (indices, found) in zip(batches, next(tasks), strict=True):
        # The same tasks come in the same order, in the same batches.
        assert np.array_equal(batch.indices, indices), batch.indices
        yield batch, found[:, number]

    return answer
