"""`python -m prompt_tuning.train`: trains, or resumes, one run."""

from absl import flags

from prompt_tuning import config
from prompt_tuning.runs import distributed
from prompt_tuning.runs import main as main_lib


def main(argv: list[str]) -> None:
  """Trains as the flags say, or says what it would do."""
  del argv
  from prompt_tuning.runs import compilation_cache, train

  main_lib.parse(train.train)
  if flags.FLAGS.dry_run:
    main_lib.dry_run(train.train)
  else:
    compilation_cache.keep()
    config.call(
      train.train,
      settings=main_lib.settings(train.train),
      config_text=config.config_text(train.train),
      recipe=main_lib.recipe(),
    )


if __name__ == "__main__":
  main_lib.define_flags()
  distributed.define_flags()
  main_lib.start(distributed.member_of_job(main, saves_on_sigterm=True))
