"""`python -m prompt_tuning.neighbors`: what a prompt's soft tokens are near to.

python -m prompt_tuning.neighbors --gin_file=models/embedded.gin \
  --gin_file=runs/neighbors.gin --gin.CLASS_LABELS="('positive', 'negative')" \
  --gin.PROMPT_FILE="'runs/sentiment/prompts/best.npy'"
"""

from prompt_tuning.runs import main as main_lib


def main(argv: list[str]) -> None:
  """Prints what the flags ask for."""
  del argv
  from prompt_tuning.runs import neighbors

  result = main_lib.call(neighbors.neighbors)
  if result is not None:
    print(result)


if __name__ == "__main__":
  main_lib.define_flags()
  main_lib.start(main)
