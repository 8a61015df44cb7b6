"""`python -m prompt_tuning.export`: writes a backbone in another format."""

from prompt_tuning.runs import main as main_lib


def main(argv: list[str]) -> None:
  """Writes as the flags say, or says how."""
  del argv
  from prompt_tuning.runs import export

  main_lib.call(export.export)


if __name__ == "__main__":
  main_lib.define_flags()
  main_lib.start(main)
