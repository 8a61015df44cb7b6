"""`python -m prompt_tuning.cache_task`: writes a seqio Task for the cache."""

from prompt_tuning.runs import main as main_lib


def main(argv: list[str]) -> None:
  """Writes as the flags say, or says what would be written."""
  del argv
  from prompt_tuning.data import seqio_cache

  result = main_lib.call(seqio_cache.cache_task)
  if result is not None:
    print(result)


if __name__ == "__main__":
  main_lib.define_flags()
  main_lib.start(main)
