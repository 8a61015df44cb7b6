"""What the mains make of a configuration."""

import shlex
import types

import pytest

from prompt_tuning import config
from prompt_tuning.config.members import Member
from prompt_tuning.runs import main as main_lib
from prompt_tuning.runs import train


@pytest.mark.parametrize(
  ("setting", "is_learned"),
  [
    ("USE_CACHED_TASKS=True", False),
    ("PROMPT_LENGTH=7", True),
    # A run may be resumed where folders have other names.
    ("SEQIO_CACHE_DIRS=('elsewhere',)", False),
    ("MODEL_PARTITIONS=2", False),
    ("REMAT='layer'", False),
    ("PROMPT_ATTENTION='prefix'", True),
  ],
)
def test_settings_that_tell_a_run_from_another(setting, is_learned):
  def settings(*changes):
    config.parse(
      ["models/byt5.gin", "sizes/byt5_small.gin", "runs/prompt_tune.gin"],
      [
        "INITIAL_CHECKPOINT_PATH='backbone'",
        "MODEL_DIR='model_dir'",
        "MIXTURE_OR_TASK_NAME='task'",
        "TASK_FEATURE_LENGTHS={'inputs': 16, 'targets': 6}",
        "TRAIN_STEPS=1",
        *changes,
      ],
      entry=train.train,
    )
    return main_lib.settings(train.train)

  assert (settings() != settings(setting)) == is_learned


def test_a_card_names_the_recipes_and_settings_as_given(monkeypatch):
  member = Member("a", gin_files=("b.gin",), bindings=("X='y z'",))
  given = types.SimpleNamespace(
    gin_file=["models/embedded.gin"], gin_bindings=["TRAIN_STEPS=3"]
  )
  monkeypatch.setattr(main_lib, "FLAGS", given)
  assert shlex.split(main_lib.recipe(member)) == [
    "--gin_file=models/embedded.gin",
    "--gin_file=b.gin",
    "--gin.TRAIN_STEPS=3",
    "--gin.X='y z'",
  ]
