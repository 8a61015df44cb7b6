"""Measures systems at one job, in turns.

python -m benchmarks.compare --job=train_step --systems=ours,peft
"""

import json
import pathlib
from collections.abc import Sequence

from absl import app, flags

from benchmarks import jobs, sizes, systems, variants
from benchmarks.jobs import Job
from benchmarks.measure import Plan, measure
from benchmarks.report import FLOORS, Report

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


def compare(
  names: Sequence[str],
  job: Job,
  plan: Plan,
  *,
  matrix: Sequence[str],
  platform: str,
) -> Report:
  """Measures systems, and the matrix rate between them.

  Raises:
    ValueError: If a system is unknown, named twice or does no such job, or none
      measures the matrix rate.
  """
  everything = [*names, *matrix]
  for name in everything:
    variants.find(name).job(job)
  if len(set(everything)) != len(everything) or not names or not matrix:
    raise ValueError(
      "--systems and --matrix need at least one name each, and none twice; got "
      f"{', '.join(everything)}."
    )
  measured = measure(everything, job, plan, platform=platform)
  return Report(
    job=job,
    plan=plan,
    systems={name: measured[name] for name in names},
    matrix={name: measured[name] for name in matrix},
  )


def _check_baseline(name: str | None) -> None:
  """Refuses before anything is measured what nothing was compared with."""
  modes = {variants.find(system).mode for system in _SYSTEMS.value}
  floors = [floor for floor, mode in FLOORS.items() if mode in modes]
  known = [*_SYSTEMS.value, *floors]
  if name is not None and name not in known:
    raise app.UsageError(f"--baseline={name} is none of {', '.join(known)}.")


def main(arguments: list[str]) -> None:
  """Measures and prints."""
  if arguments[1:]:
    raise app.UsageError(f"unknown arguments {arguments[1:]}; flags have --.")
  _check_baseline(_BASELINE.value)
  report = compare(
    _SYSTEMS.value,
    job_from_flags(),
    Plan(
      rounds=_ROUNDS.value,
      steps=_STEPS.value,
      waking_steps=_WAKING_STEPS.value,
    ),
    matrix=_MATRIX.value,
    platform=_PLATFORM.value,
  )
  if _OUTPUT.value:
    text = json.dumps(report.as_json(), indent=2)
    pathlib.Path(_OUTPUT.value).write_text(text + "\n")
  print(report.markdown(baseline=_BASELINE.value or _SYSTEMS.value[-1]))


if __name__ == "__main__":
  app.run(main)
