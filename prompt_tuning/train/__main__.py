"""`python -m prompt_tuning.train`: trains, or resumes, one run."""

from prompt_tuning.runs import main as main_lib


def main(argv: list[str]) -> None:
  """Trains as the flags say."""
  del argv
  from absl import flags

  from prompt_tuning.runs import train

  if flags.FLAGS.dry_run:
    raise NotImplementedError
  main_lib.run(train.train)


if __name__ == "__main__":
  main_lib.define_flags()
  main_lib.start(main)
