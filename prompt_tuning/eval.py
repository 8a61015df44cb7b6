"""`python -m prompt_tuning.eval`: evaluates a backbone with a tuned prompt."""

from absl import flags

from prompt_tuning import config
from prompt_tuning.runs import distributed
from prompt_tuning.runs import main as main_lib


def main(argv: list[str]) -> None:
  """Evaluates as the flags say, or says what it would do."""
  del argv
  from prompt_tuning.runs import compilation_cache, evaluate

  main_lib.parse(evaluate.evaluate)
  if flags.FLAGS.dry_run:
    main_lib.dry_run(evaluate.evaluate)
  else:
    compilation_cache.keep()
    config.call(evaluate.evaluate)


if __name__ == "__main__":
  main_lib.define_flags()
  distributed.define_flags()
  main_lib.start(distributed.member_of_job(main))
