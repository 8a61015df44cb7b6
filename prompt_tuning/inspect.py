"""`python -m prompt_tuning.inspect PATH...`: what a file or a folder is."""

from absl import app

from prompt_tuning.runs import main as main_lib


def main(argv: list[str]) -> None:
  """Prints what each path is."""
  from prompt_tuning.runs import inspection

  if len(argv) < 2:
    raise app.UsageError("name a file or a folder")
  for path in argv[1:]:
    print(f"{path}\n{inspection.describe(path)}\n")


if __name__ == "__main__":
  main_lib.start(main)
