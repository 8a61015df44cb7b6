"""google's prompt tuning on T5X: its own train step, on a model of its recipe.

It runs in an environment of its own, for its package is called as this one:
`benchmarks.remote` starts the interpreter that T5X_PYTHON names. It takes the
recipe's settings; what a machine without an accelerator is better served by, a
look-up of embeddings instead of a product with one-hot rows and a batch in
parts, is a choice.
"""

import functools
import importlib.metadata
import itertools
import pathlib
import time
from typing import Any

import gin
import jax
import numpy as np
from jax import numpy as jnp
from t5x import train_state as train_state_lib
from t5x import trainer

import prompt_tuning  # google's.
from benchmarks import jobs
from benchmarks.jobs import PAD_ID, Batch, Job
from benchmarks.systems import Facts, System

_RECIPE = "prompt_tuning/configs/models/t5_1_1_prompt.gin"
_RATE = 0.3


def recipe(job: Job) -> System:
  """Returns the step with one-hot products in front of the table."""
  return _T5X(job, one_hot=True)


def gather(job: Job) -> System:
  """Returns the step with rows looked up in the table."""
  return _T5X(job, one_hot=False)


class _T5X:
  """Calls the trainer's step on batch after batch."""

  def __init__(self, job: Job, *, one_hot: bool):
    model = _model(job, one_hot=one_hot)
    self._batches = [_features(batch) for batch in jobs.make_batches(job)]
    self._next = itertools.cycle(self._batches)
    shapes = {name: x.shape for name, x in self._batches[0].items()}
    variables = jax.jit(lambda key: model.get_initial_variables(key, shapes))(
      jax.random.key(job.seed)
    )
    self._state = train_state_lib.FlaxOptimTrainState.create(
      model.optimizer_def, variables
    )
    parts = job.num_microbatches if job.num_microbatches > 1 else None
    self._step = jax.jit(
      functools.partial(
        trainer.train_with_lr, model=model, num_microbatches=parts
      ),
      donate_argnums=0,
    )
    self._compiled: dict[tuple[int, ...], Any] = {}
    self._seconds = 0.0

  def start(self) -> None:
    """Compiles and takes a step of every shape."""
    for batch in self._batches:
      shape = batch["encoder_input_tokens"].shape
      if shape in self._compiled:
        continue
      begin = time.perf_counter()
      lowered = self._step.lower(self._state, batch, **self._others())
      self._compiled[shape] = lowered.compile()
      self._seconds += time.perf_counter() - begin
      self._read(self._take(batch))

  def run(self, num_steps: int) -> None:
    """Takes steps; the loss of one is read while the next one runs."""
    pending = None
    for _ in range(num_steps):
      outcome = self._take(next(self._next))
      if pending is not None:
        self._read(pending)
      pending = outcome
    self._read(pending)

  def facts(self) -> Facts:
    """Returns versions, and what compiling took."""
    names = ("jax", "flax", "seqio")
    return {
      **{name: importlib.metadata.version(name) for name in names},
      "compile_seconds": self._seconds,
    }

  def _others(self) -> dict[str, Any]:
    return {
      "learning_rate": jnp.float32(_RATE),
      "dropout_rng": jax.random.key(0),
    }

  def _take(self, batch: dict[str, np.ndarray]) -> Any:
    step = self._compiled[batch["encoder_input_tokens"].shape]
    self._state, metrics = step(self._state, batch, **self._others())
    return metrics["loss"].compute()

  def _read(self, loss: Any) -> None:
    if not np.isfinite(loss):
      raise FloatingPointError(f"t5x: a step's loss is {loss}.")


def _model(job: Job, *, one_hot: bool) -> Any:
  root = pathlib.Path(prompt_tuning.__path__[0]).parent
  gin.add_config_file_search_path(str(root))
  macros = {
    name.upper(): value
    for name, value in job.sizes.items()
    if name != "vocab_size"
  } | {
    "NUM_EMBEDDINGS": job.sizes["vocab_size"],
    "PROMPT_LENGTH": job.prompt_length,
    "DROPOUT_RATE": job.dropout_rate,
    "ACTIVATION_DTYPE": repr(job.dtype),
    "embedding.Embed.one_hot": one_hot,
  }
  gin.parse_config_files_and_bindings(
    [_RECIPE], [f"{name} = {value}" for name, value in macros.items()]
  )
  return gin.query_parameter("%MODEL").scoped_configurable_fn()


def _features(batch: Batch) -> dict[str, np.ndarray]:
  targets = batch.targets.astype(np.int32)
  return {
    "encoder_input_tokens": batch.inputs,
    "decoder_input_tokens": np.pad(targets[:, :-1], ((0, 0), (1, 0))),
    "decoder_target_tokens": targets,
    "decoder_loss_weights": (targets != PAD_ID).astype(np.float32),
  }
