"""How fast a run goes, and how much of the hardware it uses.

FLOPs are counted by formula for matrix products, two per multiplication and
addition, at the padded lengths that the hardware computes on.
"""

import contextlib
import dataclasses
import enum
import time
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from prompt_tuning.model.config import T5Config


class Gradients(enum.Enum):
  """Which gradients a training step takes; the value is its cost.

  The unit is the forward pass. A frozen matrix needs no gradient of its own,
  which saves one of the two products of its backward pass.
  """

  ACTIVATIONS = 2
  ACTIVATIONS_AND_WEIGHTS = 3


def forward_flops(
  config: T5Config, *, batch_size: int, inputs_length: int, targets_length: int
) -> int:
  """Returns the FLOPs of one teacher-forced forward pass.

  Args:
    config: The model's shape.
    batch_size: B.
    inputs_length: L, soft prompt and padding included.
    targets_length: T, padding included.
  """
  # Named as in the project's letters; all counts are multiply-adds.
  d, hk = config.embed_dim, config.num_heads * config.head_dim
  f = config.mlp_dim * (len(config.mlp_activations) + 1)  # and the way back
  enc, dec = inputs_length, targets_length
  projection = d * hk
  encoder_layer = enc * (4 * projection + d * f) + 2 * enc * enc * hk
  decoder_layer = (
    dec * (4 * projection + d * f)  # self-attention and feed-forward
    + 2 * dec * dec * hk
    + 2 * (dec + enc) * projection  # attention to the encoder
    + 2 * dec * enc * hk
  )
  multiply_adds = (
    config.num_encoder_layers * encoder_layer
    + config.num_decoder_layers * decoder_layer
    + dec * d * config.vocab_size
  )
  return 2 * batch_size * multiply_adds


def train_step_flops(
  config: T5Config,
  *,
  gradients: Gradients,
  batch_size: int,
  inputs_length: int,
  targets_length: int,
) -> int:
  """Returns the FLOPs of one training step; see `forward_flops`."""
  return gradients.value * forward_flops(
    config,
    batch_size=batch_size,
    inputs_length=inputs_length,
    targets_length=targets_length,
  )


@dataclasses.dataclass(frozen=True)
class Peak:
  """What the hardware could do, as its maker states it.

  Attributes:
    flops_per_second: FLOP/s of one device, in the type computed in.
    num_devices: Devices that the run uses.
  """

  flops_per_second: float
  num_devices: int

  def __post_init__(self):
    if not self.flops_per_second > 0 or self.num_devices < 1:
      raise ValueError(
        "Peak needs a positive number of FLOP/s and of devices, got "
        f"flops_per_second={self.flops_per_second!r}, "
        f"num_devices={self.num_devices!r}."
      )

  def utilization(self, flops_per_second: float) -> float:
    """Returns model FLOPs utilisation, a fraction of the peak."""
    return flops_per_second / (self.flops_per_second * self.num_devices)


@dataclasses.dataclass
class Meter:
  """Measures rates between two readings.

  Attributes:
    step_flops: FLOPs of one step, over all devices; None if not known.
    peak: What the hardware could do; without it, no utilisation is stated.
    clock: Returns seconds.
  """

  step_flops: float | None = None
  peak: Peak | None = None
  clock: Callable[[], float] = time.monotonic

  def __post_init__(self):
    self.restart()

  def restart(self) -> None:
    """Starts a new window."""
    self._start = self.clock()
    self._steps = self._examples = self._tokens = 0

  @contextlib.contextmanager
  def paused(self) -> Iterator[None]:
    """Leaves the time of a block out, such as an evaluation."""
    begin = self.clock()
    try:
      yield
    finally:
      self._start += self.clock() - begin

  def count(self, *, examples: int, tokens: int) -> None:
    """Adds one finished step."""
    self._steps += 1
    self._examples += examples
    self._tokens += tokens

  def read(self) -> dict[str, float]:
    """Returns the rates since the last reading and starts a new window.

    Returns:
      steps, examples and tokens per second (tokens without padding, encoder
      and targets, soft tokens included), and `model_flops_utilization`, a
      fraction, where the peak is known. Empty if no step was counted.
    """
    seconds = max(self.clock() - self._start, 1e-9)
    rates: dict[str, float] = {}
    if self._steps:
      rates = {
        "steps_per_second": self._steps / seconds,
        "examples_per_second": self._examples / seconds,
        "tokens_per_second": self._tokens / seconds,
      }
      if self.step_flops is not None and self.peak is not None:
        rates["model_flops_utilization"] = self.peak.utilization(
          self.step_flops * rates["steps_per_second"]
        )
    self.restart()
    return rates


def count_tokens(batch: Mapping[str, np.ndarray]) -> int:
  """Returns the tokens of a batch that are not padding, in and out."""
  inputs = np.count_nonzero(batch["encoder_input_tokens"])
  return int(inputs + np.count_nonzero(batch["decoder_loss_weights"]))
