"""How many parameters each method trains, by size: counted from shapes.

python -m benchmarks.parameters

No weights are made: a recipe is read, and its network evaluated by shapes.
"""

import argparse
from collections.abc import Sequence

from benchmarks import summary
from prompt_tuning import config, paths
from prompt_tuning.runs import train
from prompt_tuning.runs.abstract import AbstractRun
from prompt_tuning.train import partition

METHODS = (
  "prompt",
  "layer_prompts_replace",
  "layer_prompts_add",
  "soft_words",
  "prefix_tuning",
  "warp",
  "adapters",
  "lora",
  "ia3",
  "norm_scales",
  "model_tuning",
)
"""Recipes of gin/methods, in front of them the soft prompt of 100 tokens."""
SIZES = ("small", "base", "large", "xl", "xxl")

_RUN = {
  "INITIAL_CHECKPOINT_PATH": "unread",
  # WARP has a row of the output for each token of a label.
  "VOCABULARY_PATH": str(paths.embedded_dir() / "sentencepiece.model"),
  "MODEL_DIR": "unwritten",
  "MIXTURE_OR_TASK_NAME": "unread",
  "TASK_FEATURE_LENGTHS": {"inputs": 128, "targets": 8},
  "TRAIN_STEPS": 1,
  "CLASS_LABELS": ("good", "bad"),
}
_OF_METHOD = {"soft_words": {"PROMPT_TEXT": "which one is it ?"}}


def count(method: str, files: Sequence[str], **settings) -> tuple[int, int]:
  """Returns how many parameters a method trains, and how many there are.

  Args:
    method: One of `METHODS`.
    files: Recipes of a model and its size.
    **settings: Macros that are to be other than in the recipes.
  """
  recipes = [*files, "runs/prompt_tune.gin"]
  if method != "prompt":
    recipes.append(f"methods/{method}.gin")
  given = {**_RUN, **_OF_METHOD.get(method, {}), **settings}
  config.parse(
    recipes,
    [f"{name}={value!r}" for name, value in given.items()],
    entry=train.train,
  )
  run = AbstractRun(train.with_defaults(config.arguments(train.train)))
  trained = partition.count(run.state.trainable)
  return trained, trained + partition.count(run.frozen)


def table(methods: Sequence[str], sizes: Sequence[str]) -> str:
  """Returns a Markdown table, a row a method."""
  counts = {
    (method, size): count(method, ["models/t5_1_1.gin", f"sizes/{size}.gin"])
    for method in methods
    for size in sizes
  }

  def cell(method: str, size: str) -> str:
    trained, total = counts[method, size]
    return f"{trained:,} ({100 * trained / total:.4g} %)"

  columns = {
    size: lambda method, size=size: cell(method, size) for size in sizes
  }
  return summary.table(list(methods), columns)


def main(arguments: Sequence[str] | None = None) -> None:
  """Counts and prints."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--size", action="append", choices=SIZES)
  options = parser.parse_args(arguments)
  print(table(METHODS, options.size or SIZES))


if __name__ == "__main__":
  main()
