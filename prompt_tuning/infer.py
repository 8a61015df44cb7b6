"""`python -m prompt_tuning.infer`: predicts for texts."""

from absl import flags

from prompt_tuning import config
from prompt_tuning.runs import distributed
from prompt_tuning.runs import main as main_lib


def main(argv: list[str]) -> None:
  """Predicts as the flags say, or says what it would do."""
  del argv
  from prompt_tuning.runs import compilation_cache, infer

  main_lib.parse(infer.infer)
  if flags.FLAGS.dry_run:
    main_lib.dry_run(infer.infer)
  else:
    compilation_cache.keep()
    config.call(infer.infer)


if __name__ == "__main__":
  main_lib.define_flags()
  distributed.define_flags()
  main_lib.start(distributed.member_of_job(main))
