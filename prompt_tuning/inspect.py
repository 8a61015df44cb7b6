"""`python -m prompt_tuning.inspect PATH...`: what a file or a folder is."""

import sys

from absl import app

from prompt_tuning.runs import main as main_lib


def main(argv: list[str]) -> None:
  """Prints what each path is; the exit status is 1 if one cannot be told."""
  from prompt_tuning.runs import inspection

  if len(argv) < 2:
    raise app.UsageError("name a file or a folder")
  status = 0
  for path in argv[1:]:
    try:
      told = inspection.describe(path)
    except (ValueError, OSError, ImportError) as error:
      told, status = f"error: {error}", 1
    print(f"{path}\n{told}\n")
  sys.exit(status)


if __name__ == "__main__":
  main_lib.start(main)
