"""The comparisons of docs/performance.md, settings and all.

Each is what `benchmarks.compare` would measure with as many flags.
"""

import dataclasses
import pathlib
from typing import Any

from benchmarks import jobs, sizes
from benchmarks.comparison import Comparison, Startup
from benchmarks.goals import Goal, Quantity
from benchmarks.jobs import Job
from benchmarks.measure import Plan

SST2_LENGTHS = pathlib.Path(__file__).with_name("sst2_lengths.txt")
"""Token counts of SST-2's 67,349 training texts in T5's vocabulary, as
`benchmarks.token_counts` prints them: 14.8 on average, 83 at most."""


def _small(kind: str, **settings: Any) -> Job:
  """Returns a job of T5 1.1 small, random, float32: batches of 32."""
  shape = sizes.read("small", vocab_size=32128)
  return Job(kind=kind, sizes=shape, **settings)


def _sst2(**settings: Any) -> Job:
  """Returns a step of SST-2: a label is one piece and an end of sequence."""
  return _small(
    "train_step",
    lengths=jobs.read_lengths(SST2_LENGTHS),
    inputs_length=512,
    targets_length=2,
    **settings,
  )


# Rows of 248 hold two examples behind 100 soft tokens each; of 200 random
# batches 99 in 100 then need 16 or 17 rows. A prefix is in no row.
_PACKED = "ours:packed_length=248"
_PACKED_PREFIX = "ours_prefix:packed_length=128"
# In parts, what a part computes is found in the caches that it was left in.
_PACKED_IN_PARTS = f"{_PACKED}:num_microbatches=4"
_DYNAMIC_IN_PARTS = "ours:length_multiple=8:num_microbatches=4"
# To the longest input of a batch, as a collator of transformers pads.
_PEFT_DYNAMIC = "peft:length_multiple=1"
# Padded to 512, a whole batch would hold several GiB of attention weights.
_IN_PARTS = "ours:num_microbatches=8"

TRAIN_STEP = Comparison(
  name="train_step",
  about="A train step at equal shapes: inputs of 128 tokens, targets of 8.",
  job=_small("train_step"),
  systems=("ours", _IN_PARTS, "peft"),
  baseline="peft",
  plan=Plan(rounds=5, steps=1),
  minutes=6,
  goals=(
    Goal(
      about="train step, equal shapes",
      of="ours",
      to="peft",
      quantity=Quantity.SPEED,
      reach=1.9,
    ),
    Goal(
      about="memory of that step",
      of="ours",
      to="peft",
      quantity=Quantity.PEAK_MEMORY,
      reach=0.25,
    ),
    Goal(
      about="memory of that step, in eight parts",
      of=_IN_PARTS,
      to="peft",
      quantity=Quantity.PEAK_MEMORY,
      reach=0.25,
    ),
    Goal(
      about="FLOPs that the step needs",
      of="ours",
      quantity=Quantity.MATRIX_RATE,
      reach=80,
    ),
  ),
)

SST2 = Comparison(
  name="sst2",
  about="A train step on texts as long as SST-2's, nothing cut.",
  job=_sst2(),
  systems=(
    _PACKED,
    _PACKED_IN_PARTS,
    _DYNAMIC_IN_PARTS,
    _PACKED_PREFIX,
    _PEFT_DYNAMIC,
  ),
  baseline=_PEFT_DYNAMIC,
  plan=Plan(rounds=5, steps=1),
  minutes=5,
  goals=(
    Goal(
      about="SST-2, packed",
      of=_PACKED,
      to=_PEFT_DYNAMIC,
      quantity=Quantity.SPEED,
      reach=2.2,
    ),
    Goal(
      about="SST-2, packed, in four parts",
      of=_PACKED_IN_PARTS,
      to=_PEFT_DYNAMIC,
      quantity=Quantity.SPEED,
      reach=2.2,
    ),
    Goal(
      about="SST-2, padded to the longest of a batch, in four parts",
      of=_DYNAMIC_IN_PARTS,
      to=_PEFT_DYNAMIC,
      quantity=Quantity.SPEED,
      reach=2.2,
    ),
    Goal(
      about="SST-2, packed, prefix mode",
      of=_PACKED_PREFIX,
      to=_PEFT_DYNAMIC,
      quantity=Quantity.SPEED,
      reach=7,
    ),
  ),
)

SST2_PADDED = Comparison(
  name="sst2_padded",
  about="The same, against rows padded to 512 tokens as the reference's are.",
  job=_sst2(),
  systems=(_PACKED_PREFIX, _IN_PARTS),
  baseline=_IN_PARTS,
  plan=Plan(rounds=3, steps=1, waking_steps=0),
  minutes=3,
)

# A look-up, and parts that are found in the caches: its best on two cores.
_T5X_BEST = "t5x_gather:num_microbatches=4"

T5X_TRAIN_STEP = dataclasses.replace(
  TRAIN_STEP,
  name="t5x_train_step",
  about="The same beside google's prompt tuning on T5X, by its recipe and with "
  "the settings that suit it best here.",
  systems=("ours", _IN_PARTS, "t5x", _T5X_BEST),
  baseline="t5x",
  plan=Plan(rounds=5, steps=1),
  minutes=6,
  goals=(
    Goal(
      about="train step, equal shapes, T5X by its recipe",
      of=_IN_PARTS,
      to="t5x",
      quantity=Quantity.SPEED,
      reach=2.2,
    ),
    Goal(
      about="train step, equal shapes, T5X at its best",
      of=_IN_PARTS,
      to=_T5X_BEST,
      quantity=Quantity.SPEED,
      reach=1.1,
    ),
  ),
  matrix=("matrix_xla",),
)

T5X_SST2 = dataclasses.replace(
  SST2_PADDED,
  name="t5x_sst2",
  about="SST-2 packed in prefix mode, beside T5X on rows padded to 512.",
  systems=(_PACKED_PREFIX, "t5x", _T5X_BEST),
  baseline="t5x",
  plan=Plan(rounds=3, steps=1, waking_steps=0),
  minutes=6,
  goals=(
    Goal(
      about="SST-2, packed, prefix mode, T5X by its recipe",
      of=_PACKED_PREFIX,
      to="t5x",
      quantity=Quantity.SPEED,
      reach=40,
    ),
  ),
  matrix=("matrix_xla",),
)

MANY_PROMPTS = Comparison(
  name="many_prompts",
  about="A step of each of 16 prompts, few-shot: 16 inputs of 32 tokens each.",
  job=_small(
    "many_prompts",
    num_prompts=16,
    batch_size=16,
    inputs_length=32,
    targets_length=2,
    num_batches=2,
  ),
  systems=("ours_joint", "ours_in_turn"),
  baseline="ours_in_turn",
  plan=Plan(rounds=2, steps=1, waking_steps=0),
  minutes=4,
  matrix=("matrix_xla",),
)


def _inference(kind: str, about: str, **settings: Any) -> Comparison:
  return Comparison(
    name=kind,
    about=about,
    job=_small(kind, **settings),
    systems=("ours_prefix", "ours_model_tuning"),
    baseline="ours_model_tuning",
    plan=Plan(rounds=9, steps=1),
    minutes=2,
    goals=(
      Goal(
        about=f"{kind}, prefix mode, against the bare backbone",
        of="ours_prefix",
        to="ours_model_tuning",
        quantity=Quantity.TIME,
        reach=1.05,
      ),
    ),
  )


EVAL = _inference("eval", "Rank classification of 32 inputs, two verbalizers.")
DECODE = _inference("decode", "Eight tokens written greedily for 32 inputs.")

STARTUP = Startup(
  name="startup",
  about="From README's training command to its first finished step.",
  rounds=3,
  minutes=3,
  reach=12,
)

COMPARISONS = (
  TRAIN_STEP,
  SST2,
  SST2_PADDED,
  T5X_TRAIN_STEP,
  T5X_SST2,
  MANY_PROMPTS,
  EVAL,
  DECODE,
  STARTUP,
)
"""On a CPU, in the order in which they are measured."""

# A GPU is filled by larger products, and by more of them: its steps are short.
_GPU_TYPES = {
  "dtype": "bfloat16",
  "weights_dtype": "bfloat16",
  "matrix_width": 8192,
}
_GPU_PLAN = Plan(rounds=5, steps=20, waking_steps=3)

GPU_COMPARISONS = (
  Comparison(
    name="train_step",
    about="A train step of T5 1.1 base at equal shapes: 128 inputs of 128 "
    "tokens, targets of 8, everything in bfloat16.",
    job=Job(
      kind="train_step",
      sizes=sizes.read("base", vocab_size=32128),
      batch_size=128,
      **_GPU_TYPES,
    ),
    systems=("ours", "ours_prefix", "peft"),
    baseline="peft",
    plan=_GPU_PLAN,
    minutes=2,
    matrix=("matrix_xla",),
  ),
  Comparison(
    name="train_step_xl",
    about="A train step of T5 1.1 XL: 32 inputs of 128 tokens, targets of 8, "
    "everything in bfloat16. Its weights are 5.3 GiB.",
    job=Job(
      kind="train_step",
      sizes=sizes.read("xl", vocab_size=32128),
      batch_size=32,
      **_GPU_TYPES,
    ),
    systems=("ours",),
    baseline="floor_full",
    plan=_GPU_PLAN,
    minutes=4,
    goals=(
      Goal(
        about="FLOPs that the step of XL needs",
        of="ours",
        quantity=Quantity.MATRIX_RATE,
        reach=50,
      ),
    ),
    matrix=("matrix_xla",),
  ),
  dataclasses.replace(
    MANY_PROMPTS,
    job=dataclasses.replace(MANY_PROMPTS.job, **_GPU_TYPES),
    plan=_GPU_PLAN,
    minutes=1.5,
    # In turn, small steps leave a GPU idle; two cores are always busy.
    goals=(
      Goal(
        about="16 prompts in one job",
        of="ours_joint",
        to="ours_in_turn",
        quantity=Quantity.SPEED,
        reach=6,
      ),
    ),
  ),
)
"""On a GPU, likewise."""


def on(platform: str) -> tuple[Comparison | Startup, ...]:
  """Returns the comparisons that are made for a platform."""
  return COMPARISONS if platform == "cpu" else GPU_COMPARISONS
