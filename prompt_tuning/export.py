"""`python -m prompt_tuning.export`: writes a backbone in another format."""

from absl import flags

from prompt_tuning import config
from prompt_tuning.runs import main as main_lib


def main(argv: list[str]) -> None:
  """Writes as the flags say, or says how."""
  del argv
  from prompt_tuning.runs import export

  main_lib.parse(export.export)
  if flags.FLAGS.dry_run:
    print(config.resolved_text(export.export))
  else:
    config.call(export.export)


if __name__ == "__main__":
  main_lib.define_flags()
  main_lib.start(main)
