"""This library: the code that its runs use, driven from plain arrays."""

import importlib.metadata
import itertools
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from benchmarks import jobs
from benchmarks.jobs import Job, Kind
from benchmarks.systems import Facts, System
from prompt_tuning.data.features import FeatureBuilder, FeatureLengths
from prompt_tuning.evaluate.generation import Generator
from prompt_tuning.evaluate.rank_classification import (
  RankClassifier,
  Verbalizers,
)
from prompt_tuning.model import t5
from prompt_tuning.model.config import T5Config
from prompt_tuning.prompts import initializers
from prompt_tuning.prompts import layout as layout_lib
from prompt_tuning.prompts.layout import Layout
from prompt_tuning.prompts.spec import PromptSpec
from prompt_tuning.train import mesh as mesh_lib
from prompt_tuning.train import optimizers, partition
from prompt_tuning.train.step import TrainState, init_state, make_train_step
from prompt_tuning.types import PAD_ID, Batch, Params

Features = dict[str, np.ndarray]


def prompt_tuning(job: Job, *, attention: str = "full") -> System:
  """Tunes or uses a soft prompt, by the recipe of the paper."""
  return _make(
    job,
    prompt=PromptSpec(
      length=job.prompt_length,
      initializer=initializers.uniform,
      attention=attention,
    ),
    trainable="prompt/.*",
    optimizer=optimizers.adafactor(
      learning_rate=optimizers.constant(learning_rate=0.3),
      multiply_by_parameter_scale=False,
      weight_decay_rate=1e-5,
    ),
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


def _make(
  job: Job,
  *,
  prompt: PromptSpec | None,
  trainable: str,
  optimizer: optimizers.Optimizer,
) -> System:
  model = make_model(job, prompt)
  parts = partition.split(random_params(model, job.seed), [trainable])
  frozen = jax.tree.map(
    lambda leaf: leaf.astype(jnp.dtype(job.weights_dtype)), parts.frozen
  )
  batches = make_features(job, prompt)
  if job.kind is Kind.TRAIN_STEP:
    return _Training(job, model, parts.trainable, frozen, batches, optimizer)
  params = partition.merge(parts.trainable, frozen)
  return _Predicting(_predictor(job, model), params, batches)


def make_model(job: Job, prompt: PromptSpec | None) -> t5.T5:
  """Returns the network, with a prompt if it is to have one."""
  dropout_rate = job.dropout_rate if job.kind is Kind.TRAIN_STEP else 0.0
  sizes: dict[str, Any] = dict(job.sizes)
  config = T5Config(**sizes, dtype=job.dtype, dropout_rate=dropout_rate)
  if prompt is None:
    return t5.T5(config)
  init = prompt.initializer()
  module = prompt.module_from(init, features=config.embed_dim)
  return t5.T5(config, prompt=module)


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


def make_features(job: Job, prompt: PromptSpec | None) -> list[Features]:
  """Returns the job's batches as the library's data side lays them out."""
  layout = layout_lib.prefix(0) if prompt is None else prompt.layout(_no_words)
  return [_features(job, batch, layout) for batch in jobs.make_batches(job)]


def _features(job: Job, batch: jobs.Batch, layout: Layout) -> Features:
  builder = FeatureBuilder(
    FeatureLengths(
      inputs=batch.inputs.shape[1], targets=batch.targets.shape[1]
    ),
    vocab_size=job.sizes["vocab_size"],
    layout=layout,
  )
  return builder.batch(
    [
      {"inputs": inputs[:length], "targets": targets}
      for inputs, targets, length in zip(
        batch.inputs, batch.targets, batch.lengths, strict=True
      )
    ]
  )


class _Training:
  """Steps as `train.loop` takes them."""

  def __init__(
    self,
    job: Job,
    model: t5.T5,
    trainable: Params,
    frozen: Params,
    batches: list[Features],
    optimizer: optimizers.Optimizer,
  ):
    """Lays the model out on all devices."""
    self._mesh = mesh_lib.make_mesh()
    self._rng = mesh_lib.replicate_key(jax.random.key(job.seed), self._mesh)
    self._frozen = self._place(frozen)
    self._state: TrainState = self._place(init_state(trainable, optimizer))
    self._batches = batches
    self._next = itertools.cycle(batches)
    step = make_train_step(
      model, optimizer, num_microbatches=job.num_microbatches
    )
    self._step = jax.jit(
      step,
      donate_argnums=0,
      out_shardings=(
        jax.tree.map(lambda leaf: leaf.sharding, self._state),
        mesh_lib.replicated(self._mesh),
      ),
    )
    self._num_loops = job.num_microbatches
    self._facts: Facts = {}

  def _place(self, tree: Any) -> Any:
    return jax.device_put(tree, mesh_lib.replicated(self._mesh))

  def start(self) -> None:
    """Compiles the step for every shape, with a step of each."""
    shapes = {_shape(batch): batch for batch in self._batches}
    self._compiled = {}
    begin = time.perf_counter()
    for shape, batch in shapes.items():
      on_device = mesh_lib.shard_batch(batch, self._mesh)
      self._compiled[shape] = self._step.lower(
        self._state, self._frozen, on_device, self._rng
      ).compile()
    self._facts["compile_seconds"] = time.perf_counter() - begin
    if self._num_loops == 1:  # XLA counts the body of a loop once.
      costs: Any = self._compiled[max(self._compiled)].cost_analysis()
      self._facts["compiled_flops"] = costs["flops"]
    for batch in shapes.values():
      self._read(self._take(batch))

  def run(self, num_steps: int) -> None:
    """Takes steps; the metrics of one are read while the next one runs."""
    pending = None
    for _ in range(num_steps):
      metrics = self._take(next(self._next))
      if pending is not None:
        self._read(pending)
      pending = metrics
    self._read(pending)
    jax.block_until_ready(self._state)

  def _take(self, batch: Features) -> Any:
    on_device = mesh_lib.shard_batch(batch, self._mesh)
    compiled = self._compiled[_shape(batch)]
    self._state, metrics = compiled(
      self._state, self._frozen, on_device, self._rng
    )
    return metrics

  def _read(self, metrics: Any) -> None:
    loss = float(jax.device_get(metrics)["loss"])
    if not np.isfinite(loss):
      raise FloatingPointError(f"ours: the loss is {loss}.")

  def facts(self) -> Facts:
    """Returns versions, and what XLA counts for the longest batch."""
    return self._facts | _versions()


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
    for batch in {_shape(batch): batch for batch in self._batches}.values():
      jax.block_until_ready(self._predict(self._params, batch))

  def run(self, num_steps: int) -> None:
    """Answers the next batches and takes the answers to the host."""
    for _ in range(num_steps):
      jax.device_get(self._predict(self._params, next(self._next)))

  def facts(self) -> Facts:
    """Returns versions."""
    return _versions()


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


def _no_words(text: str) -> list[int]:
  raise AssertionError(f"{text!r}: a prefix has no words to encode.")


def _shape(batch: Features) -> tuple[int, ...]:
  return batch["encoder_input_tokens"].shape


def _versions() -> Facts:
  device = jax.devices()[0]
  facts: Facts = {
    "jax": importlib.metadata.version("jax"),
    "device": device.device_kind,
    "num_devices": jax.device_count(),
  }
  # A CPU's is that of the process; an accelerator has its own.
  memory = device.memory_stats() or {}
  if "peak_bytes_in_use" in memory:
    facts["device_peak_memory"] = memory["peak_bytes_in_use"]
  return facts
