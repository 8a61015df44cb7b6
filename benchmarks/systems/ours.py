"""This library: the code that its runs use, driven from plain arrays."""

import itertools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from benchmarks import jobs
from benchmarks.jobs import Job, Kind
from benchmarks.systems import Facts, System
from benchmarks.systems.ours_batches import Features, make_features, shape_of
from benchmarks.systems.ours_training import Training, versions
from prompt_tuning.evaluate.generation import Generator
from prompt_tuning.evaluate.rank_classification import (
  RankClassifier,
  Verbalizers,
)
from prompt_tuning.model import t5
from prompt_tuning.model.config import T5Config
from prompt_tuning.prompts import initializers
from prompt_tuning.prompts.spec import PromptSpec
from prompt_tuning.train import optimizers, partition
from prompt_tuning.train.step import init_state, make_train_step
from prompt_tuning.types import PAD_ID, Batch, Params

PROMPT = "prompt/.*"
"""What prompt tuning trains."""


def prompt_tuning(job: Job, *, attention: str = "full") -> System:
  """Tunes or uses a soft prompt, by the recipe of the paper."""
  return _make(
    job,
    prompt=prompt_spec(job, attention=attention),
    trainable=PROMPT,
    optimizer=prompt_optimizer(),
  )


def prefix(job: Job) -> System:
  """Tunes or uses a soft prompt that attends to itself alone."""
  return prompt_tuning(job, attention="prefix")


def model_tuning(job: Job) -> System:
  """Tunes all weights by T5's recipe; predicts with the bare model."""
  return _make(
    job,
    prompt=None,
    trainable=".*",
    optimizer=optimizers.adafactor(
      learning_rate=optimizers.constant(learning_rate=0.001)
    ),
  )


def prompt_spec(job: Job, *, attention: str = "full") -> PromptSpec:
  """Returns the description of a job's soft prompt."""
  return PromptSpec(
    length=job.prompt_length,
    initializer=initializers.uniform,
    attention=attention,
  )


def prompt_optimizer() -> optimizers.Optimizer:
  """Returns the paper's Adafactor."""
  return optimizers.adafactor(
    learning_rate=optimizers.constant(learning_rate=0.3),
    multiply_by_parameter_scale=False,
    weight_decay_rate=1e-5,
  )


def _make(
  job: Job,
  *,
  prompt: PromptSpec | None,
  trainable: str,
  optimizer: optimizers.Optimizer,
) -> System:
  model = make_model(job, prompt)
  tuned, frozen = split_params(job, model, trainable)
  batches = make_features(
    job, prompt, rows_multiple=jax.device_count() * job.num_microbatches
  )
  if job.kind is Kind.TRAIN_STEP:
    step = make_train_step(
      model, optimizer, num_microbatches=job.num_microbatches
    )
    return Training(
      job,
      step,
      state=init_state(tuned, optimizer),
      frozen=frozen,
      rngs=jax.random.key(job.seed),
      batches=batches,
    )
  params = partition.merge(tuned, frozen)
  return _Predicting(_predictor(job, model), params, batches)


def make_model(job: Job, prompt: PromptSpec | None) -> t5.T5:
  """Returns the network, with a prompt if it is to have one."""
  sizes: dict[str, Any] = dict(job.sizes)
  config = T5Config(
    **sizes, dtype=job.dtype, dropout_rate=job.dropout_rate, remat=job.remat
  )
  if prompt is None:
    return t5.T5(config)
  init = prompt.initializer()
  module = prompt.module_from(init, features=config.embed_dim)
  return t5.T5(config, prompt=module)


def split_params(
  job: Job, model: t5.T5, trainable: str
) -> tuple[Params, Params]:
  """Returns random weights: what is trained, and what is frozen."""
  parts = partition.split(random_params(model, job.seed), [trainable])
  dtype = jnp.dtype(job.weights_dtype)
  frozen = jax.tree.map(lambda leaf: leaf.astype(dtype), parts.frozen)
  return parts.trainable, frozen


def random_params(model: t5.T5, seed: int) -> Params:
  """Returns random weights, drawn one by one on the host.

  Compiling and running the model's own initialisation leaves several times the
  weights' memory behind, which a run that reads a checkpoint does not.
  """
  rng = np.random.default_rng(seed)

  def draw(leaf):
    if len(leaf.shape) == 1:
      return jnp.ones(leaf.shape, leaf.dtype)
    values = rng.standard_normal(leaf.shape, np.float32)
    return jnp.asarray(values * leaf.shape[0] ** -0.5, leaf.dtype)

  return jax.tree.map(draw, t5.abstract_params(model))


class _Predicting:
  """Answers batches."""

  def __init__(
    self,
    predict: Callable[[Params, Batch], Any],
    params: Params,
    batches: list[Features],
  ):
    """Takes a function that is compiled at its first call of each shape."""
    self._predict = predict
    self._params = jax.device_put(params)
    self._batches = batches
    self._next = itertools.cycle(batches)

  def start(self) -> None:
    """Answers a batch of each shape."""
    for batch in {shape_of(batch): batch for batch in self._batches}.values():
      jax.block_until_ready(self._predict(self._params, batch))

  def run(self, num_steps: int) -> None:
    """Answers the next batches and takes the answers to the host."""
    for _ in range(num_steps):
      jax.device_get(self._predict(self._params, next(self._next)))

  def facts(self) -> Facts:
    """Returns versions."""
    return versions()


def _predictor(job: Job, model: t5.T5) -> Callable[[Params, Batch], Any]:
  if job.kind is Kind.EVAL:
    rows = jobs.make_verbalizers(job)
    verbalizers = Verbalizers(
      texts=tuple(f"label {label}" for label in range(len(rows))),
      tokens=tuple(tuple(row[:-1].tolist()) for row in rows),
    )
    return RankClassifier(model, verbalizers).rank
  generator = Generator(model, max_decode_length=job.targets_length)

  def generate(params, batch):
    tokens = np.asarray(generator.predict(params, batch))
    if np.all(tokens[:, -1] == PAD_ID):
      raise ValueError(
        "ours: every answer ended early, so less work was done than the job "
        "says; measure with another seed."
      )
    return tokens

  return generate
