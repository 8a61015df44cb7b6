"""One training run, whatever is trained.

Pre-training, LM adaptation, model tuning and prompt tuning are this function
with other inputs, other trainable patterns and another optimizer.
"""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from prompt_tuning.backbone import Backbone
from prompt_tuning.data.inputs import Inputs
from prompt_tuning.model.method import Method
from prompt_tuning.prompts.spec import PromptSpec
from prompt_tuning.runs.arguments import Evaluation, TrainArguments
from prompt_tuning.runs.hardware import ALL_DEVICES, Hardware
from prompt_tuning.runs.placement import make_mesh
from prompt_tuning.runs.prepare import check, prepare
from prompt_tuning.train import loop
from prompt_tuning.train import plan as plan_lib
from prompt_tuning.train.optimizers import Optimizer
from prompt_tuning.train.run import FitResult
from prompt_tuning.train.selection import Selection
from prompt_tuning.train.step import LossNormalization

__all__ = [
  "ALL_DEVICES",
  "Evaluation",
  "Hardware",
  "check",
  "train",
  "with_defaults",
]


def train(
  *,
  model_dir: str,
  backbone: Backbone,
  inputs: Inputs,
  feature_lengths: Mapping[str, int],
  batch_size: int,
  trainable: Sequence[str],
  optimizer: Optimizer,
  plan: plan_lib.Plan,
  prompt: PromptSpec | None = None,
  method: Method | None = None,
  from_scratch: bool = False,
  evaluations: Sequence[Evaluation] = (),
  final_evaluations: Sequence[Evaluation] = (),
  selection: Selection | None = None,
  z_loss: float = 1e-4,
  loss_normalization: LossNormalization = LossNormalization.SUM,
  num_microbatches: int = 1,
  packed_length: int | None = None,
  steps_per_dispatch: int = 1,
  prefetch_batches: int = 2,
  keep_checkpoints: int = 1,
  seed: int = 0,
  hardware: Hardware = ALL_DEVICES,
  settings: Mapping[str, str] | None = None,
  config_text: str | None = None,
  recipe: str = "",
  licence: str = "",
) -> FitResult:
  """Trains, or goes on where MODEL_DIR left off.

  What a run starts from, in this order:
    1. its own latest checkpoint in `model_dir`, if there is one;
    2. the backbone's checkpoint, and the initialisers of prompt and method;
    3. random weights, only if `from_scratch` says so.
  A weight that is missing from a checkpoint is an error in every case.

  Args:
    model_dir: Where the run writes; README.md lists what.
    backbone: The T5 that is tuned.
    inputs: What is trained on.
    feature_lengths: TASK_FEATURE_LENGTHS, tokens of inputs and targets.
    batch_size: B, examples of a step.
    trainable: Patterns of the paths that are trained, such as `prompt/.*`.
    optimizer: Updates what is trained.
    plan: How long, and what when.
    prompt: The soft prompt; None for none.
    method: What is trained inside of the layers (`prompt_tuning.methods`); None
      for nothing.
    from_scratch: Whether the backbone starts from random weights.
    evaluations: What is measured at every evaluation.
    final_evaluations: What is measured once, when the run has ended by itself,
      of the step that was selected, such as a test split.
    selection: Which evaluation is the best, and when to stop early.
    z_loss: Coefficient of the z-loss.
    loss_normalization: What the summed loss is divided by.
    num_microbatches: Parts in which a batch is run.
    packed_length: PACKED_LENGTH, tokens of rows that hold several examples;
      None for one example a row. A step has the same examples either way.
    steps_per_dispatch: STEPS_PER_DISPATCH, see `train.loop.fit`.
    prefetch_batches: PREFETCH_BATCHES, how many batches a thread keeps ready;
      0 for none. It changes no batch.
    keep_checkpoints: Latest checkpoints to keep; the best is kept besides.
    seed: Of initialisation, data order and dropout.
    hardware: How it lies on the devices.
    settings: What else tells this run from another, by name.
    config_text: A recipe that repeats the run, for `model_dir`.
    recipe: What the run was called with, for the card of its prompt.
    licence: What its prompt may be used for, for the card too.

  Raises:
    ValueError: If anything does not fit; nothing is written then.
  """
  arguments = TrainArguments(**locals())
  mesh = make_mesh([arguments])
  prepared = prepare(arguments, mesh=mesh, compile_step=True)
  assert prepared.steps is not None  # It was to be compiled.
  try:
    return loop.fit(
      prepared.run,
      prepared.frozen,
      train_step=prepared.steps,
      steps_per_dispatch=steps_per_dispatch,
    )
  finally:
    prepared.close()


def with_defaults(given: Mapping[str, Any]) -> TrainArguments:
  """Returns the arguments of `train` with its defaults."""
  bound = inspect.signature(train).bind(**given)
  bound.apply_defaults()
  return TrainArguments(**bound.arguments)
