"""The texts that stand for a configuration: golden files and config.gin."""

import dataclasses

import pytest

from prompt_tuning import config

GIVEN = ("MODEL_DIR='/runs/a'", "TRAIN_STEPS=3")


@pytest.fixture
def parse(recipes, program):
  def parse(*gin_files, flags=GIVEN):
    config.parse(gin_files, flags, [recipes], entry=program.train)

  return parse


def test_resolved_text(parse, program):
  parse("base.gin")
  assert config.resolved_text(program.train) == (
    """\
from __gin__ import dynamic_registration
import sample_program

sample_program.Network.activations = ('gelu',)
sample_program.Network.dropout_rate = 0.0
sample_program.Network.width = 8

sample_program.train.cached = False
sample_program.train.dry_run = False
sample_program.train.init = @sample_program.uniform()
sample_program.train.lengths = None
sample_program.train.mode = 'full'
sample_program.train.model_dir = '/runs/a'
sample_program.train.network = @sample_program.Network()
sample_program.train.other_place = None
sample_program.train.patterns = ()
# sample_program.train.place: 'prefix' by default
# sample_program.train.rate: sample_program.schedule by default
sample_program.train.steps = 3

sample_program.uniform.scale = 0.5
"""
  )


def test_config_text_keeps_the_macros_that_are_read(parse, program, recipes):
  parse("base.gin", "from_file.gin", flags=(*GIVEN, "PROMPT_FILE='p'"))
  text = config.config_text(program.train)
  assert "TRAIN_STEPS = 3\n" in text
  assert "sample_program.train.steps = %TRAIN_STEPS\n" in text
  assert "sample_program.uniform" not in text  # from_file replaces it.


COMBINATIONS = [
  ("base.gin", ()),
  ("base.gin", ("WIDTH=16", "train.lengths={'inputs': %WIDTH, 'targets': 8}")),
  ("base.gin", ("train.patterns=['a', 'b']", "train.place='suffix'")),
  ("base.gin", ("train.init=(%WIDTH,)", "train.rate=@sample_program.schedule")),
  ("base.gin", ("train.init=@mine/uniform()", "mine/uniform.scale=0.25")),
  # gin evaluates a macro in a scope of its own name.
  ("base.gin", ("INIT/uniform.scale=0.25", "uniform.scale=0.75")),
  (
    "base.gin",
    (
      "INIT=@prompt_tuning.train.optimizers.constant()",
      "optimizers.constant.learning_rate=0.3",
    ),
  ),
]


@pytest.mark.parametrize(("gin_file", "flags"), COMBINATIONS)
@pytest.mark.parametrize("writer", [config.resolved_text, config.config_text])
def test_texts_are_recipes_that_give_the_same_again(
  parse, program, recipes, gin_file, flags, writer
):
  parse(gin_file, flags=(*GIVEN, *flags))
  resolved = config.resolved_text(program.train)
  before = config.call(program.train)
  (recipes / "again.gin").write_text(writer(program.train))
  parse("again.gin", flags=())
  assert config.resolved_text(program.train) == resolved
  after = config.call(program.train)
  assert after.rate(2) == before.rate(2)
  # Functions that are made anew do not compare.
  assert str(after.init)[:9] == str(before.init)[:9]
  same = {"rate": None, "init": None}
  assert dataclasses.replace(after, **same) == dataclasses.replace(
    before, **same
  )


def test_config_text_can_be_run_again_with_other_macros(
  parse, program, recipes
):
  parse("base.gin")
  (recipes / "again.gin").write_text(config.config_text(program.train))
  parse("again.gin", flags=("TRAIN_STEPS=9",))
  assert config.call(program.train).steps == 9


def test_text_does_not_depend_on_the_order_of_settings(parse, program, recipes):
  parse("base.gin", flags=("MODEL_DIR='a'", "TRAIN_STEPS=3"))
  text = config.config_text(program.train)
  parse("base.gin", flags=("TRAIN_STEPS=3", "MODEL_DIR='a'"))
  assert config.config_text(program.train) == text


def test_names_of_a_library_are_its_public_ones(parse, program, recipes):
  (recipes / "own.gin").write_text(
    "from __gin__ import dynamic_registration\n"
    "import optax\n"
    "INIT = @optax.constant_schedule()\n"
    "optax.constant_schedule.value = 0.3\n"
  )
  parse("base.gin", "own.gin")
  assert "optax.constant_schedule.value = 0.3\n" in config.resolved_text()
