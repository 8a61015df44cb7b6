"""What is measured: a job, and the batches that every system gets of it."""

import dataclasses
import enum
import json
import pathlib
from collections.abc import Mapping

import numpy as np

# Those of `prompt_tuning.types`, which imports JAX: its memory would count as
# that of systems that do without.
PAD_ID = 0
EOS_ID = 1

_FIRST_WORD = 3  # After padding, end of sequence and unknown.
_CHOICES = {
  "dtype": ("float32", "bfloat16"),
  "weights_dtype": ("float32", "bfloat16"),
  "remat": ("none", "layer"),
}


class Kind(enum.Enum):
  """What a step does.

  TRAIN_STEP is a whole update of the weights. MANY_PROMPTS is one of each of
  several prompts, on a batch of its own. EVAL scores all verbalizers on every
  input of a batch. DECODE writes `targets_length` tokens greedily.
  """

  TRAIN_STEP = "train_step"
  MANY_PROMPTS = "many_prompts"
  EVAL = "eval"
  DECODE = "decode"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
  """A job, and how a system is to go about it.

  The examples are the same whatever `length_multiple`, `packed_length`,
  `num_microbatches`, `remat` and `num_threads` are.

  Attributes:
    kind: What a step does.
    sizes: Shape of a T5 1.1: the fields of `T5Config` without a default.
    prompt_length: P, in tokens.
    batch_size: B; with MANY_PROMPTS, of each prompt.
    inputs_length: Tokens of every input, or, with `lengths`, of the longest
      that is not cut.
    targets_length: Tokens of every target, verbalizer or answer.
    num_verbalizers: C, of EVAL.
    num_prompts: N, of MANY_PROMPTS.
    lengths: Pairs of a token count and how often it occurs, from which the
      length of each input is drawn; empty for `inputs_length` each.
    length_multiple: With `lengths`, a batch is padded to its longest input,
      rounded up to a multiple of this; 0 always pads to `inputs_length`.
    num_batches: Different batches, which are gone through again and again.
    dtype: Type of activations.
    weights_dtype: Type in which frozen weights are kept.
    dropout_rate: Dropped in training.
    packed_length: Encoder tokens of a row that holds several examples, slots
      included; 0 for one example a row.
    num_microbatches: Parts in which a step runs a batch.
    remat: What the backward pass computes anew, see `T5Config.remat`.
    num_threads: Of PyTorch; 0 for as many as this process may use cores.
    matrix_width: Of the square matrices by which the matrix rate is measured.
    seed: Of weights and batches.

  Raises:
    ValueError: If a number is out of range, a type unknown, or a setting of
      training made for another job.
  """

  kind: Kind | str
  sizes: Mapping[str, int]
  prompt_length: int = 100
  batch_size: int = 32
  inputs_length: int = 128
  targets_length: int = 8
  num_verbalizers: int = 2
  num_prompts: int = 16
  lengths: tuple[tuple[int, int], ...] = ()
  length_multiple: int = 0
  num_batches: int = 4
  dtype: str = "float32"
  weights_dtype: str = "float32"
  dropout_rate: float = 0.0
  packed_length: int = 0
  num_microbatches: int = 1
  remat: str = "none"
  num_threads: int = 0
  matrix_width: int = 3072
  seed: int = 0

  def __post_init__(self):
    object.__setattr__(self, "kind", Kind(self.kind))
    object.__setattr__(self, "lengths", tuple(map(tuple, self.lengths)))
    for name, least in _LEAST.items():
      if getattr(self, name) < least:
        raise ValueError(
          f"{name} must be at least {least}, got {getattr(self, name)}."
        )
    if self.kind is Kind.EVAL and self.targets_length < 2:
      raise ValueError(
        "targets_length must be at least 2 for the job eval: verbalizers of "
        "an end of sequence alone cannot be told apart."
      )
    for name, choices in _CHOICES.items():
      if getattr(self, name) not in choices:
        raise ValueError(
          f"{name} must be one of {', '.join(choices)}, got "
          f"{getattr(self, name)!r}."
        )
    for tokens, times in self.lengths:
      if tokens < 1 or times < 1:
        raise ValueError(
          "lengths must be positive token counts and how often each occurs, "
          f"got {tokens} and {times}."
        )
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      if (
        field.name in _OF_TRAINING
        and not self.trains
        and value != field.default
      ):
        raise ValueError(
          f"{field.name}={value} is a setting of training, and the job is "
          f"{Kind(self.kind).value}; leave it out."
        )

  @property
  def trains(self) -> bool:
    """Whether a step updates weights."""
    return self.kind in (Kind.TRAIN_STEP, Kind.MANY_PROMPTS)

  @property
  def examples_per_step(self) -> int:
    """Examples of a step, those of all prompts together."""
    several = self.kind is Kind.MANY_PROMPTS
    return self.batch_size * (self.num_prompts if several else 1)

  def to_json(self) -> str:
    """Returns one line of text that `from_json` reads."""
    return json.dumps(
      dataclasses.asdict(self) | {"kind": Kind(self.kind).value}
    )

  @classmethod
  def from_json(cls, text: str) -> "Job":
    """Returns the job that `to_json` has written."""
    return cls(**json.loads(text))


_LEAST = {
  "prompt_length": 1,
  "batch_size": 1,
  "inputs_length": 1,
  "targets_length": 1,
  "num_verbalizers": 2,
  "num_prompts": 2,
  "length_multiple": 0,
  "num_batches": 1,
  "packed_length": 0,
  "num_threads": 0,
  "num_microbatches": 1,
  "matrix_width": 1,
}
_OF_TRAINING = ("dropout_rate", "packed_length", "num_microbatches", "remat")


@dataclasses.dataclass(frozen=True)
class Batch:
  """Random words; soft tokens are each system's own affair.

  With MANY_PROMPTS the examples of the first prompt come first, and so on.

  Attributes:
    inputs: int32 [B, L], an end of sequence last, padded on the right with 0.
    targets: int32 [B, T], an end of sequence last.
    lengths: Tokens of each input, [B].
  """

  inputs: np.ndarray
  targets: np.ndarray
  lengths: np.ndarray

  @property
  def num_tokens(self) -> int:
    """Tokens of the examples, in and out: no padding and no soft tokens."""
    return int(self.lengths.sum()) + self.targets.size


def make_batches(job: Job) -> list[Batch]:
  """Returns the batches of a job, the same in every process."""
  rng = np.random.default_rng(job.seed)
  return [_make_batch(job, rng) for _ in range(job.num_batches)]


def make_verbalizers(job: Job) -> np.ndarray:
  """Returns C different targets, int32 [C, T], an end of sequence last."""
  rng = np.random.default_rng(job.seed + 1)
  words = _words(job, rng, (job.num_verbalizers, job.targets_length))
  # Told apart by their first word, where they have one.
  if job.targets_length > 1:
    words[:, 0] = _FIRST_WORD + np.arange(job.num_verbalizers)
  words[:, -1] = EOS_ID
  return words


def read_lengths(path: str | pathlib.Path) -> tuple[tuple[int, int], ...]:
  """Reads what `benchmarks.token_counts` prints.

  Raises:
    ValueError: If a line is no pair of numbers, or there is none.
  """
  lines = pathlib.Path(path).read_text().splitlines()
  pairs = []
  for line in lines:
    try:
      tokens, times = map(int, line.split())
    except ValueError as error:
      raise ValueError(
        f"{path} must hold lines of a token count and how often it occurs, as "
        f"benchmarks.token_counts prints them, got {line!r}."
      ) from error
    pairs.append((tokens, times))
  if not pairs:
    raise ValueError(f"{path} holds no token counts.")
  return tuple(pairs)


def _make_batch(job: Job, rng: np.random.Generator) -> Batch:
  # Examples are drawn before they are padded: they do not depend on how.
  size = job.examples_per_step
  words = _words(job, rng, (size, job.inputs_length))
  targets = _words(job, rng, (size, job.targets_length))
  targets[:, -1] = EOS_ID
  lengths = np.full(size, job.inputs_length)
  if job.lengths:
    tokens, times = np.asarray(job.lengths).T
    drawn = rng.choice(tokens, size=size, p=times / times.sum())
    lengths = np.minimum(drawn, job.inputs_length)
  inputs = np.full((size, _padded_length(job, lengths)), PAD_ID)
  for row, (example, length) in enumerate(zip(words, lengths, strict=True)):
    inputs[row, :length] = example[:length]
    inputs[row, length - 1] = EOS_ID
  return Batch(inputs=inputs.astype(np.int32), targets=targets, lengths=lengths)


def _padded_length(job: Job, lengths: np.ndarray) -> int:
  if not (job.lengths and job.length_multiple):
    return job.inputs_length
  return -(-int(lengths.max()) // job.length_multiple) * job.length_multiple


def _words(job: Job, rng: np.random.Generator, shape) -> np.ndarray:
  high = job.sizes["vocab_size"]
  return rng.integers(_FIRST_WORD, high, size=shape, dtype=np.int32)
