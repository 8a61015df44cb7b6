"""`python -m prompt_tuning.plan`: what a run would cost on a TPU slice.

Compiles the steps of a run with the TPU compiler, without a TPU.
"""

from absl import flags

from prompt_tuning import config
from prompt_tuning.runs import main as main_lib
from prompt_tuning.scale import slices


def define_flags() -> None:
  """Defines the flags of a training run that a plan has, and its own."""
  config.define_flags()
  flags.DEFINE_list(
    "topology",
    None,
    "The slice, such as v5e:4x4 or v5p:2x2x1; several with commas between.",
  )
  flags.DEFINE_multi_integer(
    "model_partitions",
    None,
    "A size of the model axis to try, and no other. May be repeated; every "
    "divisor by default.",
    lower_bound=1,
  )


def main(argv: list[str]) -> None:
  """Prints a plan for every slice, and a table of all."""
  del argv
  slices.prepare_environment()
  from prompt_tuning.runs import train
  from prompt_tuning.scale import programs, report, search

  if not flags.FLAGS.topology:
    raise ValueError("--topology is missing: name a slice, such as v5e:4x4.")
  where = [slices.Slice.parse(text) for text in flags.FLAGS.topology]
  config.parse(
    flags.FLAGS.gin_file,
    flags.FLAGS.gin_bindings,
    flags.FLAGS.gin_search_paths,
    entry=train.train,
  )
  run = programs.Run(train.with_defaults(config.arguments(train.train)))
  rows = []
  for slice_ in where:
    plan = search.make_plan(
      run, slice_, model_ways=flags.FLAGS.model_partitions
    )
    print(report.describe(run, plan))
    rows.append((run, plan))
  print(report.table(rows))


if __name__ == "__main__":
  define_flags()
  main_lib.start(main)
