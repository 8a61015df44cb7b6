"""A whole training run of the toy task, small enough to kill and resume.

The wiring is that of a real run; data are plain arrays. As a program,

  python -m prompt_tuning.testing.toy_run --model_dir=... --signal_at=7 ...

it can send itself a signal, which tests use to end it at a chosen moment.
"""

import argparse
import dataclasses
import os
import pathlib
import signal
import threading
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import optax
from jax import numpy as jnp
from jax.sharding import Mesh

from prompt_tuning.model import t5
from prompt_tuning.prompts import artifact
from prompt_tuning.testing import fakes
from prompt_tuning.train import loop, optimizers, partition, writers
from prompt_tuning.train import mesh as mesh_lib
from prompt_tuning.train.checkpoint import Checkpoints
from prompt_tuning.train.export import PromptExporter
from prompt_tuning.train.plan import Plan
from prompt_tuning.train.run import Run
from prompt_tuning.train.run_identity import RunIdentity
from prompt_tuning.train.selection import Selection
from prompt_tuning.train.start import (
  Start,
  check_same_everywhere,
  resume,
)
from prompt_tuning.train.step import TrainState, init_state, make_train_step

METRIC = "toy/accuracy"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ToyRun:
  """Settings of a run.

  Attributes:
    model_dir: Where the run is kept.
    steps: Steps in all.
    learning_rate: Of AdamW.
    dropout_rate: Above 0, so that random numbers matter.
    trainable: What is tuned.
    seed: Of prompt, dropout and data.
    log_every: Steps between lines of metrics.
    eval_every: Steps between evaluations.
    save_every: Steps between checkpoints.
    keep: Latest checkpoints to keep.
    patience: Evaluations before stopping early; None never does.
    num_layers: Of encoder and decoder.
  """

  model_dir: str | os.PathLike[str]
  steps: int = 12
  learning_rate: float = 0.1
  dropout_rate: float = 0.1
  trainable: Sequence[str] = ("prompt/.*",)
  seed: int = 0
  log_every: int = 3
  eval_every: int = 5
  save_every: int = 4
  keep: int = 2
  patience: int | None = None
  num_layers: int = 1

  @property
  def model(self) -> t5.T5:
    """The model that is trained."""
    return fakes.tiny_model(
      fakes.tiny_prompt(),
      dropout_rate=self.dropout_rate,
      num_encoder_layers=self.num_layers,
      num_decoder_layers=self.num_layers,
    )

  @property
  def optimizer(self) -> optimizers.Optimizer:
    """The optimizer."""
    return optimizers.adamw(
      learning_rate=optax.constant_schedule(self.learning_rate)
    )

  def run(self, *, batches: Any = None, mesh: Mesh | None = None, **changes):
    """Trains, or resumes.

    Args:
      batches: Instead of `fakes.ToyBatches`.
      mesh: Instead of a mesh of one device.
      **changes: Attributes of the `Run` to replace, or `train_step`.

    Returns:
      What `fit` returns.
    """
    mesh = mesh or mesh_lib.make_mesh(devices=jax.devices()[:1])
    batches = fakes.ToyBatches(seed=self.seed) if batches is None else batches
    params = fakes.toy_params(self.model, seed=self.seed)
    identity = self._identity(params)
    placed = mesh_lib.param_shardings(
      params, t5.logical_axes(self.model), mesh=mesh
    )
    parts = partition.split(jax.device_put(params, placed), self.trainable)
    checkpoints = Checkpoints(self.model_dir, run=identity, keep=self.keep)
    check_same_everywhere(identity, checkpoints.latest_step())
    state = self._fresh(parts.trainable, mesh)
    if checkpoints.latest_step() is None:
      start = Start(state=state)
    else:
      start = resume(checkpoints, state, batches)
    train_step = changes.pop(
      "train_step", make_train_step(self.model, self.optimizer)
    )
    arguments = {
      "start": start,
      "batches": batches,
      "rng": jax.random.key(self.seed),
      "mesh": mesh,
      "plan": self._plan(),
      "model_dir": self.model_dir,
      "checkpoints": checkpoints,
      "writer": self._writer(),
      "evaluate": self._evaluator(parts.frozen),
      "selection": Selection(METRIC, patience=self.patience),
      "export": self._exporter(identity),
    }
    run = Run(**(arguments | changes))
    result = loop.fit(run, parts.frozen, train_step=train_step)
    checkpoints.close()
    return result

  def _writer(self) -> writers.Writer:
    # TensorBoard would double the time that a process takes to start.
    if jax.process_index() != 0:
      return writers.CompositeWriter([])
    folder = pathlib.Path(self.model_dir)
    return writers.JsonlWriter(folder / writers.METRICS_FILE)

  def _plan(self) -> Plan:
    return Plan(
      total_steps=self.steps,
      log_every=self.log_every,
      eval_every=self.eval_every,
      save_every=self.save_every,
    )

  def _identity(self, params) -> RunIdentity:
    return RunIdentity(
      backbone=artifact.fingerprint(params),
      trainable=tuple(self.trainable),
      seed=self.seed,
      config={"learning_rate": self.learning_rate, "task": "toy"},
    )

  def _fresh(self, trainable, mesh: Mesh) -> TrainState:
    make = lambda params: init_state(params, self.optimizer)  # noqa: E731
    where = jax.tree.map(lambda x: x.sharding, trainable)
    shardings = mesh_lib.state_shardings(
      jax.eval_shape(make, trainable), where, mesh=mesh
    )
    return jax.jit(make, out_shardings=shardings)(trainable)

  def _exporter(self, identity: RunIdentity) -> PromptExporter | None:
    if "prompt/.*" not in self.trainable:
      return None
    card = artifact.PromptCard(
      length=4, width=fakes.EMBED_DIM, backbone=identity.backbone, step=0
    )
    return PromptExporter(self.model_dir, card, metric=METRIC)

  def _evaluator(self, frozen):
    model = dataclasses.replace(
      self.model,
      config=dataclasses.replace(self.model.config, dropout_rate=0.0),
    )
    batch = fakes.toy_batch(10**6, batch_size=32, seed=self.seed)

    @jax.jit
    def accuracy(trainable, frozen):
      logits: Any = model.apply(
        {"params": partition.merge(trainable, frozen)},
        batch["encoder_input_tokens"],
        batch["decoder_input_tokens"],
      )
      labels = batch["decoder_target_tokens"][:, 0]
      return jnp.mean(jnp.argmax(jnp.asarray(logits)[:, 0], -1) == labels)

    return lambda trainable, step: {METRIC: accuracy(trainable, frozen)}


@dataclasses.dataclass
class SignallingBatches(fakes.ToyBatches):
  """Toy batches that send this process a signal.

  Attributes:
    number: Which signal.
    at: Sent when the batch of this number is read.
    at_save: Sent in the middle of the save of this step.
    delay: Seconds from the beginning of that save.
    pause: Seconds that reading a batch takes.
  """

  number: int = signal.SIGKILL
  at: int | None = None
  at_save: int | None = None
  delay: float = 0.02
  pause: float = 0.0

  def __next__(self) -> dict[str, np.ndarray]:
    time.sleep(self.pause)
    if self.position == self.at:
      os.kill(os.getpid(), self.number)
    return super().__next__()

  def state(self) -> dict[str, Any]:
    """Returns where the next batch stands."""
    if self.position == self.at_save:
      # The thread that saves goes on meanwhile, into the writing of files.
      threading.Timer(self.delay, os.kill, (os.getpid(), self.number)).start()
    return super().state()


def main() -> None:
  """Runs from the command line."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--model_dir", type=pathlib.Path, required=True)
  parser.add_argument("--steps", type=int, default=ToyRun.steps)
  parser.add_argument(
    "--learning_rate", type=float, default=ToyRun.learning_rate
  )
  parser.add_argument("--signal", default="SIGKILL")
  parser.add_argument("--signal_at", type=int)
  parser.add_argument("--signal_at_save", type=int)
  parser.add_argument("--signal_delay_ms", type=float, default=20)
  parser.add_argument("--seconds_per_batch", type=float, default=0)
  flags = parser.parse_args()
  job = ToyRun(
    model_dir=flags.model_dir,
    steps=flags.steps,
    learning_rate=flags.learning_rate,
  )
  batches = SignallingBatches(
    seed=job.seed,
    number=signal.Signals[flags.signal],
    at=flags.signal_at,
    at_save=flags.signal_at_save,
    delay=flags.signal_delay_ms / 1000,
    pause=flags.seconds_per_batch,
  )
  result = job.run(batches=batches)
  print(f"{result.reason.value} at step {result.step}")


if __name__ == "__main__":
  main()
