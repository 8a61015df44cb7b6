"""Measures systems at one job, in turns.

python -m benchmarks.compare --job=train_step --systems=ours,peft
"""

import json
import pathlib

from absl import app, flags

from benchmarks import jobs, sizes, systems
from benchmarks.comparison import Comparison
from benchmarks.jobs import Job
from benchmarks.measure import Plan
from benchmarks.report import FLOORS

_JOB = flags.DEFINE_enum(
  "job", "train_step", [kind.value for kind in jobs.Kind], "What a step does."
)
_SYSTEMS = flags.DEFINE_list(
  "systems",
  ["ours", "peft"],
  f"Of {', '.join(systems.SYSTEMS)}; with settings of its own as in "
  "ours:packed_length=248:num_microbatches=2.",
)
_BASELINE = flags.DEFINE_string(
  "baseline",
  None,
  f"One of --systems or of {', '.join(FLOORS)}; by default the last system.",
)
_ROUNDS = flags.DEFINE_integer("rounds", 7, "Turns of every system.")
_STEPS = flags.DEFINE_integer("steps", 3, "Timed steps of a turn.")
_WAKING_STEPS = flags.DEFINE_integer("waking_steps", 1, "Steps before them.")
_MATRIX = flags.DEFINE_list(
  "matrix", list(systems.MATRIX), "How the matrix rate is measured."
)
_MATRIX_WIDTH = flags.DEFINE_integer(
  "matrix_width", 3072, "Of those matrices; a fast device needs wider ones."
)
_PLATFORM = flags.DEFINE_string("platform", "cpu", "Where JAX computes.")
_OUTPUT = flags.DEFINE_string("output", None, "Where to write JSON, if at all.")

_SIZE = flags.DEFINE_string("size", "small", "A recipe of gin/sizes.")
_VOCAB_SIZE = flags.DEFINE_integer("vocab_size", 32128, "V.")
_PROMPT_LENGTH = flags.DEFINE_integer("prompt_length", 100, "P, in tokens.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 32, "B.")
_INPUTS_LENGTH = flags.DEFINE_integer(
  "inputs_length", 128, "Tokens of an input; the most, with --lengths_file."
)
_TARGETS_LENGTH = flags.DEFINE_integer(
  "targets_length", 8, "Tokens of a target, verbalizer or answer."
)
_VERBALIZERS = flags.DEFINE_integer("verbalizers", 2, "C, of the job eval.")
_PROMPTS = flags.DEFINE_integer("prompts", 16, "N, of the job many_prompts.")
_LENGTHS_FILE = flags.DEFINE_string(
  "lengths_file",
  None,
  "What lengths of inputs are drawn from; benchmarks.token_counts prints one.",
)
_LENGTH_MULTIPLE = flags.DEFINE_integer(
  "length_multiple",
  0,
  "With --lengths_file, pads a batch to its longest input, rounded up to a "
  "multiple of this; 0 pads to --inputs_length.",
)
_NUM_BATCHES = flags.DEFINE_integer("num_batches", 4, "Different batches.")
_DTYPE = flags.DEFINE_string("dtype", "float32", "Type of activations.")
_WEIGHTS_DTYPE = flags.DEFINE_string(
  "weights_dtype", "float32", "Type of frozen weights."
)
_DROPOUT_RATE = flags.DEFINE_float("dropout_rate", 0.0, "In training.")
_SEED = flags.DEFINE_integer("seed", 0, "Of weights and batches.")


def job_from_flags() -> Job:
  """Returns the job that the flags describe.

  Raises:
    ValueError: If they describe none.
  """
  path = _LENGTHS_FILE.value
  if _LENGTH_MULTIPLE.value and not path:
    raise ValueError("--length_multiple is read with --lengths_file alone.")
  return Job(
    kind=_JOB.value,
    sizes=sizes.read(_SIZE.value, vocab_size=_VOCAB_SIZE.value),
    prompt_length=_PROMPT_LENGTH.value,
    batch_size=_BATCH_SIZE.value,
    inputs_length=_INPUTS_LENGTH.value,
    targets_length=_TARGETS_LENGTH.value,
    num_verbalizers=_VERBALIZERS.value,
    num_prompts=_PROMPTS.value,
    lengths=jobs.read_lengths(path) if path else (),
    length_multiple=_LENGTH_MULTIPLE.value,
    num_batches=_NUM_BATCHES.value,
    dtype=_DTYPE.value,
    weights_dtype=_WEIGHTS_DTYPE.value,
    dropout_rate=_DROPOUT_RATE.value,
    matrix_width=_MATRIX_WIDTH.value,
    seed=_SEED.value,
  )


def main(arguments: list[str]) -> None:
  """Measures and prints."""
  if arguments[1:]:
    raise app.UsageError(f"unknown arguments {arguments[1:]}; flags have --.")
  comparison = Comparison(
    name=_JOB.value,
    job=job_from_flags(),
    systems=tuple(_SYSTEMS.value),
    baseline=_BASELINE.value or _SYSTEMS.value[-1],
    plan=Plan(
      rounds=_ROUNDS.value,
      steps=_STEPS.value,
      waking_steps=_WAKING_STEPS.value,
    ),
    matrix=tuple(_MATRIX.value),
  )
  measured = comparison.measure(_PLATFORM.value)
  if _OUTPUT.value:
    text = json.dumps(measured, indent=2)
    pathlib.Path(_OUTPUT.value).write_text(text + "\n")
  print(comparison.markdown(measured))


if __name__ == "__main__":
  app.run(main)
