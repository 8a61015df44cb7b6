"""The floor: the FLOPs that a job needs, by formula.

Matrix products alone are counted, two FLOPs a multiply-add, at the lengths of
the examples themselves: what a system computes on padding is its own loss.

A product of an activation with a weight has one product in the backward pass
if the weight is frozen, else two. A product of two activations, as attention
has, always has two. So a prompt-tuning step costs a little more than twice its
forward pass: every product with a weight twice, every product of attention
three times.
"""

import dataclasses
import enum
from collections.abc import Iterable, Mapping

from benchmarks.jobs import Batch, Job, Kind


class Mode(enum.Enum):
  """What a system tunes, and what its soft tokens see.

  FULL and PREFIX train a soft prompt; in PREFIX its tokens see only each other,
  so that they are computed once for a whole batch, and once for all in
  prediction. MODEL trains all weights and has no prompt.
  """

  FULL = "full"
  PREFIX = "prefix"
  MODEL = "model"


@dataclasses.dataclass(frozen=True)
class Products:
  """Multiply-adds of a forward pass.

  Attributes:
    weights: Of products of an activation with a weight.
    attention: Of products of two activations.
  """

  weights: int = 0
  attention: int = 0

  def __add__(self, other: "Products") -> "Products":
    """Returns the products of both."""
    return Products(
      self.weights + other.weights, self.attention + other.attention
    )

  def __mul__(self, times: int) -> "Products":
    """Returns the products of something done several times."""
    return Products(self.weights * times, self.attention * times)

  @property
  def forward_flops(self) -> int:
    """FLOPs of the forward pass."""
    return 2 * (self.weights + self.attention)

  def train_flops(self, mode: Mode) -> int:
    """FLOPs of the forward and the backward pass."""
    per_weight = 3 if mode is Mode.MODEL else 2
    return 2 * (per_weight * self.weights + 3 * self.attention)


def encoder(
  sizes: Mapping[str, int], length: int, *, context: int = 0
) -> Products:
  """Products of the encoder on `length` tokens that also see `context` more."""
  projection, mlp, width = _widths(sizes)
  return Products(
    weights=length * (4 * projection + mlp),
    attention=2 * length * (length + context) * width,
  ) * int(sizes["num_encoder_layers"])


def cross_keys_values(sizes: Mapping[str, int], length: int) -> Products:
  """Products that take the encoder's output to the decoder's keys, values."""
  projection, _, _ = _widths(sizes)
  return Products(weights=2 * length * projection) * int(
    sizes["num_decoder_layers"]
  )


def decoder(
  sizes: Mapping[str, int], length: int, inputs_length: int
) -> Products:
  """Products of the decoder on one target of `length`, logits included.

  Its attention to itself is counted whole, though one half is masked.
  """
  projection, mlp, width = _widths(sizes)
  layers = Products(
    # Two attentions; the keys and values of the second are not the target's.
    weights=length * (6 * projection + mlp),
    attention=2 * length * (length + inputs_length) * width,
  ) * int(sizes["num_decoder_layers"])
  logits = length * sizes["embed_dim"] * sizes["vocab_size"]
  return layers + Products(weights=logits)


def example(job: Job, length: int, *, context: int = 0) -> Products:
  """Products of one example's forward pass.

  Args:
    job: What is done.
    length: Tokens of the input that are the example's own to compute.
    context: Tokens besides that it sees, which were computed elsewhere.
  """
  targets = decoder(job.sizes, job.targets_length, length + context)
  if job.kind is Kind.EVAL:
    targets = targets * job.num_verbalizers
  return (
    encoder(job.sizes, length, context=context)
    + cross_keys_values(job.sizes, length)
    + targets
  )


def forward(job: Job, lengths: Iterable[int], mode: Mode) -> Products:
  """Products of the forward pass of a batch.

  Args:
    job: What is done.
    lengths: Tokens of each input, without soft ones.
    mode: Which soft tokens there are, and whether they are shared.
  """
  soft = job.prompt_length
  total = Products()
  if mode is Mode.PREFIX and job.trains:
    prompts = job.num_prompts if job.kind is Kind.MANY_PROMPTS else 1
    total = encoder(job.sizes, soft) + cross_keys_values(job.sizes, soft)
    total *= prompts
  for length in map(int, lengths):
    match mode:
      case Mode.FULL:
        total += example(job, soft + length)
      case Mode.PREFIX:
        total += example(job, length, context=soft)
      case Mode.MODEL:
        total += example(job, length)
  return total


def step_flops(job: Job, batch: Batch, mode: Mode) -> int:
  """Returns the FLOPs that one step of a job needs."""
  products = forward(job, batch.lengths, mode)
  if job.trains:
    return products.train_flops(mode)
  return products.forward_flops


def _widths(sizes: Mapping[str, int]) -> tuple[int, int, int]:
  """Returns D * H * K, the feed-forward layer's products, and H * K."""
  width = sizes["num_heads"] * sizes["head_dim"]
  projection = sizes["embed_dim"] * width
  # Two ways in, since T5 1.1 is gated, and one back.
  mlp = 3 * sizes["embed_dim"] * sizes["mlp_dim"]
  return projection, mlp, width
