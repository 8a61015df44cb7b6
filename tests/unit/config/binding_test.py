"""What was configured stays as it was, whatever is configured next."""

import pytest

from prompt_tuning import config
from prompt_tuning.runs import train

RECIPES = ("models/embedded.gin", "runs/prompt_tune.gin", "decoding/rank.gin")
SETTINGS = ("MODEL_DIR='unused'", "TRAIN_STEPS=1")


def _initializer(task, *settings, recipe):
  config.parse(
    [*RECIPES, f"prompts/{recipe}.gin", f"tasks/small_world_{task}.gin"],
    [*SETTINGS, *settings],
    entry=train.train,
  )
  return config.arguments(train.train)["prompt"].initializer


def test_functions_keep_the_arguments_of_their_own_configuration():
  first = _initializer("topic", "uniform.high=7.0", recipe="uniform")
  second = _initializer("topic", "uniform.high=9.0", recipe="uniform")
  third = _initializer("topic", recipe="uniform")
  assert first.keywords == {"high": 7.0}
  assert second.keywords == {"high": 9.0}
  # What has no settings takes none of what is configured now.
  _initializer("topic", "uniform.low=9.0", recipe="uniform")
  assert third() is not None


def test_macros_are_those_of_their_own_configuration():
  first = _initializer("sentiment", recipe="class_labels")
  second = _initializer("paraphrase", recipe="class_labels")
  assert first.keywords["labels"] != second.keywords["labels"]


def test_functions_in_containers_are_bound_too(recipes, program):
  del recipes
  bound = config.binding.bind({"a": [program.uniform, 1], "b": (2, "c")})
  assert bound == {"a": [program.uniform, 1], "b": (2, "c")}


@pytest.mark.parametrize("value", [1, "a", None, [1, 2], {"a": 1}, print])
def test_what_gin_does_not_configure_is_left_alone(value):
  assert config.binding.bind(value) == value
