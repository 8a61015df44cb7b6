"""`python -m prompt_tuning.cache_task`: writes a seqio Task for the cache."""

from absl import flags

from prompt_tuning import config
from prompt_tuning.runs import main as main_lib


def main(argv: list[str]) -> None:
  """Writes as the flags say, or says what would be written."""
  del argv
  from prompt_tuning.data import seqio_cache

  main_lib.parse(seqio_cache.cache_task)
  if flags.FLAGS.dry_run:
    print(config.resolved_text(seqio_cache.cache_task))
  else:
    print(config.call(seqio_cache.cache_task))


if __name__ == "__main__":
  main_lib.define_flags()
  main_lib.start(main)
