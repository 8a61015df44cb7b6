"""`python -m prompt_tuning.convert`: brings a soft prompt into another form.

python -m prompt_tuning.convert --gin_file=models/embedded.gin \
  --gin_file=runs/convert.gin --gin.PROMPT_FORMAT="'peft'" \
  --gin.PROMPT_SOURCE="'runs/sentiment/prompts/best.npy'" \
  --gin.PROMPT_OUTPUT="'runs/sentiment_peft'"
"""

from prompt_tuning.runs import main as main_lib


def main(argv: list[str]) -> None:
  """Writes what the flags ask for."""
  del argv
  from prompt_tuning.runs import convert

  main_lib.call(convert.convert)


if __name__ == "__main__":
  main_lib.define_flags()
  main_lib.start(main)
