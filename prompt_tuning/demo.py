"""`python -m prompt_tuning.demo`: tunes a soft prompt in a few minutes.

Runs what a user would run, on the small T5 that travels with the project: the
frozen model alone, then prompt tuning, then the tuned prompt from its file.
"""

import json
import tempfile
from collections.abc import Sequence
from typing import Any

from absl import flags, logging

from prompt_tuning import config, paths
from prompt_tuning.evaluate import report
from prompt_tuning.runs import main as main_lib

_TASK = "small_world_sentiment"
_MODEL = "models/embedded.gin"
_CHANGES = ("tasks/small_world_sentiment.gin", "decoding/rank.gin")
_SHOWN_PREDICTIONS = 4


def main(argv: list[str]) -> None:
  """Tunes, evaluates and prints what came out."""
  from prompt_tuning.runs import compilation_cache

  del argv
  compilation_cache.keep()
  folder = flags.FLAGS.model_dir or tempfile.mkdtemp(prefix="prompt_tuning_")
  print(f"Everything is written to {folder}\n")
  print("1. The frozen model alone")
  frozen = _evaluate(f"{folder}/frozen")
  print("2. Tuning a soft prompt; the model stays as it is")
  bindings = [f"MODEL_DIR={folder + '/tuning'!r}"]
  if flags.FLAGS.steps is not None:
    bindings.append(f"TRAIN_STEPS={flags.FLAGS.steps}")
  _tune(bindings)
  print("3. The tuned prompt, read from its file")
  prompt = f"{folder}/tuning/prompts/best.npy"
  tuned = _evaluate(f"{folder}/tuned", f"PROMPT_FILE={prompt!r}")
  _report(folder, prompt, frozen, tuned)


def _tune(bindings: Sequence[str]) -> None:
  from prompt_tuning.runs import train

  recipes = ["runs/prompt_tune.gin", "prompts/class_labels.gin", *_CHANGES]
  config.parse([_MODEL, *recipes, "runs/demo.gin"], bindings, entry=train.train)
  config.call(train.train)


def _evaluate(output: str, *bindings: str) -> dict[str, float]:
  from prompt_tuning.runs import evaluate

  config.parse(
    [_MODEL, "runs/eval.gin", *_CHANGES],
    [f"EVAL_OUTPUT_DIR={output!r}", *bindings],
    entry=evaluate.evaluate,
  )
  return config.call(evaluate.evaluate)


def _report(
  folder: str,
  prompt: str,
  frozen: dict[str, float],
  tuned: dict[str, float],
) -> None:
  predictions = _predictions(f"{folder}/tuned")
  targets = [shown.target for shown in predictions]
  card = json.loads(paths.read_text(prompt.replace(".npy", ".json")))
  trained = card["num_prompts"] * card["length"] * card["width"]
  results = [
    report.majority_result(targets, targets, metric_fn=_accuracy),
    _result("frozen", frozen),
    _result("prompt-tuned", tuned, trained),
  ]
  print(f"\n{_TASK}, {len(targets)} examples that were not trained on\n")
  print(report.result_table(results))
  print()
  print(report.prediction_samples(predictions, limit=_SHOWN_PREDICTIONS))
  print(_NEXT.format(folder=folder, prompt=prompt))


def _result(
  name: str, metrics: dict[str, float], trained: int = 0
) -> report.Result:
  shown = {"accuracy": metrics[f"{_TASK}/accuracy"]}
  return report.Result(name=name, metrics=shown, parameters_trained=trained)


def _accuracy(targets: Sequence[Any], predictions: Sequence[Any]):
  from prompt_tuning.metrics import classification

  return classification.accuracy(targets, predictions)


def _predictions(output: str) -> list[report.Prediction]:
  from prompt_tuning.evaluate import tasks

  folder = paths.as_path(output) / tasks.FOLDER
  name = next(
    name
    for name in paths.list_dir(folder)
    if name.startswith(_TASK) and "metrics" not in name
  )
  lines = paths.read_text(folder / name).splitlines()
  return [_prediction(json.loads(line)) for line in lines]


def _prediction(line: dict[str, Any]) -> report.Prediction:
  return report.Prediction(
    inputs=line["input"]["inputs_pretokenized"],
    target=line["target"],
    prediction=line["prediction"],
  )


_NEXT = """
What next:
  the prompt        {prompt} (and its card beside it)
  curves            tensorboard --logdir {folder}
  another task      python -m prompt_tuning.train \\
                      --gin_file=models/embedded.gin \\
                      --gin_file=runs/prompt_tune.gin \\
                      --gin_file=prompts/class_labels.gin \\
                      --gin_file=tasks/small_world_entailment.gin \\
                      --gin_file=decoding/rank.gin --gin.TRAIN_STEPS=600 \\
                      --gin.PROMPT_LENGTH=20 --gin.MODEL_DIR="'runs/entailment'"
  your own data     README.md, "Your own task"
"""


if __name__ == "__main__":
  flags.DEFINE_integer("steps", None, "Steps to train; else the recipe's.")
  flags.DEFINE_string("model_dir", None, "Where to write; else temporary.")
  # The progress display says enough.
  main_lib.start(main, verbosity=logging.WARNING)
