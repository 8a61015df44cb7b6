import jax
import pytest
from jax import numpy as jnp

from prompt_tuning import config
from prompt_tuning.prompts.module import Prompt

GIVEN = ("MODEL_DIR='/runs/a'", "TRAIN_STEPS=3")


@pytest.fixture
def parse(recipes, program):
  """Parses recipes of the test's folder for the sample program."""

  def parse(*gin_files, flags=GIVEN):
    config.parse(gin_files, flags, [recipes], entry=program.train)

  return parse


def run(program):
  return config.call(program.train)


def test_settings_reach_the_entry_point(parse, program):
  parse("base.gin")
  result = run(program)
  assert result.model_dir == "/runs/a"
  assert result.steps == 3
  assert result.network == program.Network(width=8)
  assert result.init == "uniform 0.5"


def test_later_files_win_and_flags_win_over_files(parse, recipes, program):
  (recipes / "wide.gin").write_text("WIDTH = 16\n")
  parse("base.gin", "wide.gin")
  assert run(program).network.width == 16
  parse("base.gin", "wide.gin", flags=(*GIVEN, "WIDTH=32"))
  assert run(program).network.width == 32


def test_parse_forgets_what_was_parsed_before(parse, program):
  parse("base.gin", flags=(*GIVEN, "train.cached=True"))
  parse("base.gin")
  assert run(program).extra["cached"] is False


def test_arguments_of_the_caller_win(parse, program):
  parse("base.gin")
  assert config.call(program.train, steps=7).steps == 7


def test_include_reads_the_file_where_it_stands(parse, recipes, program):
  (recipes / "sizes").mkdir()
  (recipes / "sizes/wide.gin").write_text("WIDTH = 16\n")
  (recipes / "run.gin").write_text(
    'include "base.gin"\ninclude "sizes/wide.gin"\nTRAIN_STEPS = 9\n'
  )
  parse("run.gin", flags=("MODEL_DIR='/runs/a'",))
  assert run(program).network.width == 16
  assert run(program).steps == 9


def test_recipes_of_the_project_are_found(program):
  with pytest.raises(config.ConfigError, match=r"Did you mean .*sizes/tiny"):
    config.parse(["sizes/tinny.gin"], entry=program.train)


def test_recipe_may_import_under_another_name(parse, program):
  parse("base.gin", "from_file.gin", flags=(*GIVEN, "PROMPT_FILE='p.npy'"))
  assert run(program).init == "file p.npy"


def test_scoped_settings(parse, recipes, program):
  (recipes / "scoped.gin").write_text(
    "from __gin__ import dynamic_registration\n"
    "import sample_program\n"
    "sample_program.train.init = @mine/sample_program.uniform()\n"
    "mine/sample_program.uniform.scale = 0.25\n"
  )
  parse("base.gin", "scoped.gin", flags=GIVEN)
  assert run(program).init == "uniform 0.25"
  parse("base.gin", "scoped.gin", flags=(*GIVEN, "mine/uniform.scale=0.125"))
  assert run(program).init == "uniform 0.125"


@pytest.mark.parametrize(
  "name",
  ["train.steps", "sample_program.train.steps"],
)
def test_flags_name_parameters_by_the_end_of_their_name(parse, program, name):
  parse("base.gin", flags=("MODEL_DIR='a'", f"{name}=5"))
  assert run(program).steps == 5


def test_flag_reaches_a_function_that_no_recipe_names(parse, program):
  parse(
    "base.gin",
    flags=(
      *GIVEN,
      "train.rate=@sample_program.schedule",
      "schedule.rate=0.5",
    ),
  )
  assert run(program).rate(4) == 2.0


def test_flag_reaches_the_library_by_full_name(parse, program):
  name = "prompt_tuning.train.optimizers.constant"
  parse(
    "base.gin",
    flags=(*GIVEN, f"INIT=@{name}()", f"{name}.learning_rate=0.25"),
  )
  assert run(program).init(100) == 0.25


def test_entry_needs_no_recipe(program):
  config.parse([], ["export.model_dir='a'"], entry=program.export)
  assert config.call(program.export) == "a"


def test_call_lists_every_missing_argument(program):
  config.parse([], [], entry=program.train)
  with pytest.raises(
    config.ConfigError, match=r"model_dir, steps, network.*\n.*--gin\.sample"
  ):
    config.call(program.train, init=None)


def test_errors_of_the_program_stay_as_they_are(program):
  config.parse([], [], entry=program.fail)
  with pytest.raises(ValueError, match=r"^the reason$"):
    config.call(program.fail)


def test_flax_modules_can_be_configured(parse, program):
  parse(
    "base.gin",
    flags=(
      *GIVEN,
      "INIT=@prompt_tuning.prompts.module.Prompt()",
      "Prompt.length=2",
      "Prompt.features=3",
      "Prompt.initializer=@prompt_tuning.train.optimizers.constant()",
      "constant.learning_rate=0.1",
    ),
  )
  prompt = run(program).init
  assert type(prompt) is Prompt
  assert (prompt.length, prompt.features) == (2, 3)
  assert "Prompt.parent" not in config.resolved_text(program.train)


def test_flax_modules_can_be_handed_over(parse, program):
  parse(
    "base.gin",
    flags=(
      *GIVEN,
      "INIT=@prompt_tuning.prompts.module.Prompt",
      "Prompt.length=2",
    ),
  )
  factory = run(program).init
  prompt = factory(features=3, initializer=jax.nn.initializers.ones)
  rows = prompt.init_with_output(jax.random.key(0), jnp.arange(2))[0]
  assert rows.shape == (2, 3)
