"""What a training run is told."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from prompt_tuning.backbone import Backbone
from prompt_tuning.data.features import FeatureLengths
from prompt_tuning.data.inputs import Inputs
from prompt_tuning.data.vocabularies import Vocabulary
from prompt_tuning.model.method import Method
from prompt_tuning.model.t5 import T5
from prompt_tuning.prompts.layout import Layout
from prompt_tuning.prompts.spec import PromptSpec
from prompt_tuning.runs.hardware import Hardware
from prompt_tuning.train import plan as plan_lib
from prompt_tuning.train.optimizers import Optimizer
from prompt_tuning.train.selection import Selection
from prompt_tuning.train.step import LossNormalization
from prompt_tuning.types import Params


class Evaluation(Protocol):
  """Something to measure while training."""

  def prepare(
    self,
    model: T5,
    *,
    vocabulary: Vocabulary,
    lengths: FeatureLengths,
    layout: Layout,
    output_dir: str,
  ) -> Callable[[Params, int], Mapping[str, float]]:
    """Returns `(all parameters, step) -> {"<task>/<metric>": value}`."""
    ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainArguments:
  """The arguments of `runs.train.train`, which documents them."""

  model_dir: str
  backbone: Backbone
  inputs: Inputs
  feature_lengths: Mapping[str, int]
  batch_size: int
  trainable: Sequence[str]
  optimizer: Optimizer
  plan: plan_lib.Plan
  prompt: PromptSpec | None
  method: Method | None
  from_scratch: bool
  evaluations: Sequence[Evaluation]
  final_evaluations: Sequence[Evaluation]
  selection: Selection | None
  z_loss: float
  loss_normalization: LossNormalization | str
  num_microbatches: int
  packed_length: int | None
  steps_per_dispatch: int
  prefetch_batches: int
  keep_checkpoints: int
  seed: int
  hardware: Hardware
  settings: Mapping[str, str] | None
  config_text: str | None
  recipe: str
  licence: str

  @property
  def step_options(self) -> dict[str, Any]:
    """What `make_train_step` takes by name."""
    return {
      "z_loss": self.z_loss,
      "loss_normalization": self.loss_normalization,
      "num_microbatches": self.num_microbatches,
    }
