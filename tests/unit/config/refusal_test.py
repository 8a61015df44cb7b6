"""Every guard: what is refused, and that the message names the remedy."""

import re

import pytest

from prompt_tuning import config

GIVEN = ("MODEL_DIR='/runs/a'", "TRAIN_STEPS=3")


@pytest.fixture
def refusal(recipes, program):
  """Returns the message with which settings are refused."""

  def refusal(*gin_files, flags=()):
    with pytest.raises(config.ConfigError) as caught:
      config.parse(gin_files, [*GIVEN, *flags], [recipes], entry=program.train)
    return str(caught.value)

  return refusal


def test_macro_that_nobody_reads_on_the_command_line(refusal):
  message = refusal("base.gin", flags=["WIDHT=16"])
  assert "--gin.WIDHT=16: no recipe reads a macro WIDHT" in message
  assert "Did you mean WIDTH?" in message


def test_macro_that_nobody_reads_in_a_recipe(refusal, recipes):
  (recipes / "own.gin").write_text("# Mine.\nWIDHT = 16\n")
  message = refusal("base.gin", "own.gin")
  assert "own.gin:2: no recipe reads a macro WIDHT" in message


def test_macro_whose_reader_is_overridden_may_stay_in_a_recipe(
  recipes, program
):
  (recipes / "own.gin").write_text("UNUSED = 1\nWIDTH = %UNUSED\nWIDTH = 4\n")
  config.parse(["base.gin", "own.gin"], GIVEN, [recipes], entry=program.train)
  assert config.call(program.train).network.width == 4


def test_flag_that_changes_nothing(refusal):
  flags = ["PROMPT_FILE='p.npy'", "uniform.scale=0.1"]
  message = refusal("base.gin", "from_file.gin", flags=flags)
  assert "--gin.uniform.scale=0.1: has no effect" in message
  assert "nothing in this run uses sample_program.uniform" in message


def test_macro_flag_that_an_override_makes_idle(refusal):
  message = refusal("base.gin", flags=["WIDTH=4", "Network.width=5"])
  assert "--gin.WIDTH=4: has no effect" in message


def test_flags_that_change_nothing_are_told_apart(recipes, program):
  files = ["base.gin", "from_file.gin"]
  flags = ["PROMPT_FILE='p.npy'", "uniform.scale=0.1", "lora.rank=4", *GIVEN]
  idle = config.without_effect(files, flags, [recipes], entry=program.train)
  assert set(idle) == {"uniform.scale=0.1", "lora.rank=4"}
  assert "nothing called 'lora' can be configured" in idle["lora.rank=4"]
  assert "has no effect" in idle["uniform.scale=0.1"]
  with pytest.raises(config.ConfigError, match="PROMPT_FILE is required"):
    config.without_effect(
      files, ["uniform.scale=0.1", *GIVEN], [recipes], entry=program.train
    )


def test_all_missing_settings_are_listed_with_an_example(recipes, program):
  with pytest.raises(config.ConfigError) as caught:
    config.parse(
      ["base.gin", "from_file.gin"], [], [recipes], entry=program.train
    )
  message = str(caught.value)
  assert "--gin.MODEL_DIR=\"'TEXT'\"" in message
  assert "--gin.TRAIN_STEPS=1" in message
  assert "PROMPT_FILE is required (by sample_program.from_file.path)" in message


def test_required_macro_of_an_unused_part_is_not_missed(recipes, program):
  back = recipes / "back.gin"
  back.write_text(
    "from __gin__ import dynamic_registration\n"
    "import sample_program\n"
    "INIT = @sample_program.uniform()\n"
  )
  files = ["base.gin", "from_file.gin", "back.gin"]
  config.parse(files, GIVEN, [recipes], entry=program.train)
  assert config.call(program.train).init == "uniform 0.5"


def test_macro_that_is_read_but_never_set(refusal, recipes):
  (recipes / "own.gin").write_text("WIDTH = %LAYER_WIDTH\n")
  message = refusal("base.gin", "own.gin")
  assert "LAYER_WIDTH is required (by WIDTH)" in message


def test_parameter_without_a_value(refusal, recipes):
  flags = ["INIT=@sample_program.from_file()"]
  message = refusal("base.gin", flags=flags)
  assert "sample_program.from_file.path is required" in message
  assert "--gin.sample_program.from_file.path=\"'TEXT'\"" in message


@pytest.mark.parametrize(
  ("written", "fixed"),
  [
    ("MODEL_DIR=/tmp/x", "MODEL_DIR=\"'/tmp/x'\""),
    ("MODEL_DIR=foo", "MODEL_DIR=\"'foo'\""),
    ("MODEL_DIR=two words", "MODEL_DIR=\"'two words'\""),
    ("MODEL_DIR=gs://bucket/run", "MODEL_DIR=\"'gs://bucket/run'\""),
    ("MODEL_DIR='half", "MODEL_DIR=\"'half'\""),
    ("MODEL_DIR=", "MODEL_DIR=\"''\""),
    ("train.cached=true", "train.cached=True"),
    ("train.cached=NONE", "train.cached=None"),
  ],
)
def test_unquoted_text_on_the_command_line(refusal, written, fixed):
  message = refusal("base.gin", flags=[written])
  assert f"is not a value; write --gin.{fixed}" in message


def test_unquoted_text_in_a_recipe(refusal, recipes):
  (recipes / "own.gin").write_text("WIDTH = 3\nMODEL_DIR = /tmp/x\n")
  message = refusal("base.gin", "own.gin")
  assert "own.gin:2: cannot read" in message
  assert "Text needs quotes: MODEL_DIR = '/tmp/x'" in message


@pytest.mark.parametrize(
  ("flag", "expected"),
  [
    ("TRAIN_STEPS='3'", "train.steps must be int, got '3'"),
    ("TRAIN_STEPS=3.0", "train.steps must be int, got 3.0"),
    ("TRAIN_STEPS=True", "train.steps must be int, got True"),
    ("TRAIN_STEPS=None", "train.steps must be int, got None"),
    ("TRAIN_STEPS=@uniform", "train.steps must be int, got @"),
    ("MODEL_DIR=3", "train.model_dir must be str, got 3"),
    ("train.cached=1", "train.cached must be bool, got 1"),
    ("train.network='small'", "train.network must be Network"),
    ("train.rate=0.3", r"train.rate must be Callable"),
    ("train.lengths=[1]", "train.lengths must be Mapping"),
    ("train.lengths={'inputs': '9'}", "train.lengths must be Mapping"),
    ("train.patterns='prompt/.*'", "train.patterns must be Sequence"),
    ("train.place='middle'", "must be one of 'prefix', 'suffix'"),
    (
      "train.other_place='middle'",
      "other_place must be one of 'prefix', 'suffix' or None, got 'middle'",
    ),
    ("train.mode='half'", "train.mode must be Literal"),
    ("Network.dropout_rate='0.1'", "dropout_rate must be float"),
    ("Network.activations=('gelu', 3)", "activations must be tuple"),
  ],
)
def test_value_of_the_wrong_type(refusal, flag, expected):
  message = refusal("base.gin", flags=[flag])
  assert expected in message
  # It says where the value was given, even if through a macro.
  assert f"--gin.{flag}" in message


@pytest.mark.parametrize(
  "flag",
  [
    "Network.dropout_rate=1",
    "train.lengths=None",
    "train.lengths={'inputs': 9}",
    "train.lengths={'inputs': %WIDTH}",
    "train.patterns=['prompt/.*']",
    "train.place='suffix'",
    "train.other_place='suffix'",
    "train.other_place=None",
    "train.mode='prefix'",
    "train.init=3",
  ],
)
def test_value_of_the_right_type(recipes, program, flag):
  config.parse(["base.gin"], [*GIVEN, flag], [recipes], entry=program.train)
  config.call(program.train)


def test_unknown_parameter(refusal):
  message = refusal("base.gin", flags=["train.step=3"])
  assert "sample_program.train has no parameter 'step'" in message
  assert "Did you mean steps?" in message


def test_unknown_configurable_on_the_command_line(refusal):
  message = refusal("base.gin", flags=["trian.steps=3"])
  assert "nothing called 'trian' can be configured" in message
  assert "Did you mean sample_program.train?" in message


def test_unknown_reference_on_the_command_line(refusal):
  message = refusal("base.gin", flags=["INIT=@unifrom()"])
  assert "--gin.INIT=@unifrom()" in message
  assert "Did you mean sample_program.uniform?" in message


@pytest.mark.parametrize(
  ("statement", "expected"),
  [
    ("sample_program.tran.steps = 3", "sample_program has no 'tran'"),
    ("sample_progam.train.steps = 3", "'sample_progam' is not imported"),
    ("sample_program.train.step = 3", "Did you mean steps?"),
    ("INIT = @sample_program.unifrm()", "Did you mean uniform?"),
    ("INIT = @sample_program.enum", "only functions and classes"),
    ("import no_such_module", "importing no_such_module failed"),
    ("sample_program.train:\n  3", "cannot read"),
    ("WIDTH = [1, 2", "cannot read"),
    ("WIDTH 3", "cannot read"),
  ],
)
def test_faulty_statement_is_blamed_on_its_line(
  refusal, recipes, statement, expected
):
  (recipes / "own.gin").write_text(
    "from __gin__ import dynamic_registration\n"
    "import sample_program\n"
    f"{statement}\n"
  )
  message = refusal("base.gin", "own.gin")
  assert re.match(r"own\.gin:[345]: ", message), message
  assert expected in message


def test_ambiguous_name(refusal, recipes):
  flags = ["INIT=@prompt_tuning.train.optimizers.constant()", "constant.x=1"]
  (recipes / "own.gin").write_text(
    "from __gin__ import dynamic_registration\n"
    "from jax.nn import initializers\n"
    "initializers.constant.value = 1\n"
  )
  message = refusal("base.gin", "own.gin", flags=flags)
  assert "'constant' is ambiguous" in message
  assert "prompt_tuning.train.optimizers.constant" in message


def test_missing_file_lists_places_and_near_names(refusal, recipes):
  message = refusal("bsae.gin")
  assert "'bsae.gin' does not exist. Did you mean base.gin" in message
  assert str(recipes / "bsae.gin") in message


def test_circles(refusal, recipes):
  (recipes / "a.gin").write_text('include "b.gin"\n')
  (recipes / "b.gin").write_text('include "a.gin"\n')
  assert "include each other in a circle" in refusal("a.gin")
  message = refusal("base.gin", flags=["WIDTH=[%INIT]", "INIT=%WIDTH"])
  assert "Macros read each other in a circle" in message


def test_all_faults_are_told_at_once(refusal):
  message = refusal(
    "base.gin", flags=["WIDHT=1", "MODEL_DIR=1", "train.cached=2"]
  )
  assert len(message.splitlines()) == 3


@pytest.mark.parametrize("flag", ["WIDTH", "=3", "two words=3", "a..b=3"])
def test_flag_that_is_no_setting(refusal, flag):
  assert "expected NAME=VALUE" in refusal("base.gin", flags=[flag])
