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
  """Which gradients a training step takes.

  The value is the number of products that one product of an activation with a
  weight costs, the forward pass included: a frozen weight saves one. A product
  of two activations, as attention has, always costs three.
  """

  ACTIVATIONS = 2
  ACTIVATIONS_AND_WEIGHTS = 3


@dataclasses.dataclass(frozen=True)
class Products:
  """Multiply-adds of the matrix products of a forward pass.

  Attributes:
    weights: Of activations with weights.
    activations: Of activations with each other.
  """

  weights: int
  activations: int

  def __add__(self, other: "Products") -> "Products":
    """Returns the products of both."""
    return Products(
      self.weights + other.weights, self.activations + other.activations
    )

  def __mul__(self, times: int) -> "Products":
    """Returns the products of something that is done several times."""
    return Products(self.weights * times, self.activations * times)

  @property
  def forward_flops(self) -> int:
    """FLOPs of the forward pass."""
    return 2 * (self.weights + self.activations)

  def step_flops(self, gradients: Gradients) -> int:
    """FLOPs of the forward and the backward pass.

    The lowest layers are counted like the others, though what lies below the
    soft prompt needs no gradient.
    """
    return 2 * (gradients.value * self.weights + 3 * self.activations)


def batch_products(
  config: T5Config,
  *,
  batch_size: int,
  inputs_length: int,
  targets_length: int,
  num_compiled: int = 0,
  compiled_length: int = 0,
) -> Products:
  """Returns the products of a teacher-forced batch.

  Args:
    config: The model's shape.
    batch_size: B.
    inputs_length: L, slots and padding included.
    targets_length: T, padding included.
    num_compiled: N, prompts that are computed apart (`PromptAttention.PREFIX`).
    compiled_length: P of these, in tokens.
  """
  seen = inputs_length + compiled_length
  example = (
    _encoder(config, inputs_length, seen=seen)
    + _cross_keys_values(config, inputs_length)
    + _decoder(config, targets_length, seen=seen)
  )
  prompt = _encoder(
    config, compiled_length, seen=compiled_length
  ) + _cross_keys_values(config, compiled_length)
  return example * batch_size + prompt * num_compiled


def _encoder(config: T5Config, length: int, *, seen: int) -> Products:
  projection, mlp, width = _widths(config)
  layer = Products(length * (4 * projection + mlp), 2 * length * seen * width)
  return layer * config.num_encoder_layers


def _cross_keys_values(config: T5Config, length: int) -> Products:
  projection, _, _ = _widths(config)
  return Products(2 * length * projection, 0) * config.num_decoder_layers


def _decoder(config: T5Config, length: int, *, seen: int) -> Products:
  projection, mlp, width = _widths(config)
  layer = Products(
    length * (6 * projection + mlp), 2 * length * (length + seen) * width
  )
  logits = Products(length * config.embed_dim * config.vocab_size, 0)
  return layer * config.num_decoder_layers + logits


def _widths(config: T5Config) -> tuple[int, int, int]:
  """Returns multiply-adds of a projection and an MLP a token, and H * K."""
  width = config.num_heads * config.head_dim
  # Ways in, one an activation, and the way back.
  mlp = (len(config.mlp_activations) + 1) * config.embed_dim * config.mlp_dim
  return config.embed_dim * width, mlp, width


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


def count_examples(batch: Mapping[str, np.ndarray]) -> int:
  """Returns the examples of a batch; of an unpacked one, its rows."""
  if "decoder_segment_ids" not in batch:
    return len(batch["encoder_input_tokens"])
  return int(np.max(batch["decoder_segment_ids"], axis=1).sum())


def count_tokens(batch: Mapping[str, np.ndarray]) -> int:
  """Returns the tokens of a batch that are not padding, in and out."""
  inputs = np.count_nonzero(batch["encoder_input_tokens"])
  return int(inputs + np.count_nonzero(batch["decoder_loss_weights"]))
