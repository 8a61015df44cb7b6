"""What --member and --vary make of one command line."""

import pytest

from prompt_tuning.config import ConfigError
from prompt_tuning.config.members import members


def test_every_combination_of_values_is_a_member():
  made = members([], ["SEED=[0, 1]", "RATE=[0.1, 0.3]"])
  assert [member.name for member in made] == [
    "SEED=0,RATE=0.1",
    "SEED=0,RATE=0.3",
    "SEED=1,RATE=0.1",
    "SEED=1,RATE=0.3",
  ]
  assert made[1].bindings == ("SEED=0", "RATE=0.3")


def test_a_member_has_recipes_and_settings_and_is_varied_too():
  made = members(
    [
      "sst2 --gin_file=tasks/sst2.gin --gin.LABELS=\"('a', 'b')\"",
      "rte --gin_file=tasks/rte.gin",
    ],
    ["SEED=[0, 1]"],
  )
  assert [member.name for member in made] == [
    "sst2,SEED=0",
    "sst2,SEED=1",
    "rte,SEED=0",
    "rte,SEED=1",
  ]
  assert made[0].gin_files == ("tasks/sst2.gin",)
  assert made[0].bindings == ("LABELS=('a', 'b')", "SEED=0")


def test_values_may_hold_commas_and_name_what_recipes_name():
  made = members([], ["PROMPT_INITIALIZER=[@a.uniform, @b.text]"])
  assert made[0].bindings == ("PROMPT_INITIALIZER=@a.uniform",)
  assert made[1].name == "PROMPT_INITIALIZER=-b.text"
  made = members([], ["LENGTHS=[{'inputs': 4, 'targets': 2}, ('a,b', 3)]"])
  assert made[0].bindings == ("LENGTHS={'inputs': 4, 'targets': 2}",)
  assert made[1].bindings == ("LENGTHS=('a,b', 3)",)
  made = members([], [r"NAME=['it\'s, this', 'b']"])
  assert made[0].bindings == (r"NAME='it\'s, this'",)
  assert not {"/", " ", "'"} & set(made[1].name)


@pytest.mark.parametrize(
  ("named", "varied", "message"),
  [
    ([], [], "Nothing says which runs"),
    ([], ["SEED=0"], r"expected NAME=\[VALUE, ...\]"),
    ([], ["SEED=[0, ]"], "a value is empty"),
    ([], ["SEED=[0, 0]"], "Several runs would be called 'SEED=0'"),
    (["a", "a"], [], "Several runs would be called 'a'"),
    (["a b"], [], "got 'b'"),
    (["--gin.A=1"], [], "a name has letters"),
    (["a/b"], [], "a name has letters"),
    (["a --gin.A"], [], "the value is missing"),
    (["a 'b"], [], "No closing quotation"),
    ([".."], [], "a name has letters"),
    ([], ["SEED=[0]", "SEED=[1]"], "SEED is set several times"),
    (["a --gin.SEED=1"], ["SEED=[0]"], "SEED is set several times"),
    ([], ["NAME=['a/b', 'a-b']"], "would be called"),
  ],
)
def test_what_makes_no_sense_is_refused(named, varied, message):
  with pytest.raises(ConfigError, match=message):
    members(named, varied)
