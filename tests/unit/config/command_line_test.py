import pytest
from absl import flags

from prompt_tuning import config


@pytest.mark.parametrize(
  ("argv", "expected"),
  [
    (["p", "--gin.A=1"], ["p", "--gin_bindings=A=1"]),
    (["p", "-gin.A=1"], ["p", "--gin_bindings=A=1"]),
    (["p", "--gin.a.b=x=y"], ["p", "--gin_bindings=a.b=x=y"]),
    (["p", "--gin_file=a.gin"], ["p", "--gin_file=a.gin"]),
    (["p", "--", "--gin.A=1"], ["p", "--", "--gin.A=1"]),
  ],
)
def test_rewrite_gin_args(argv, expected):
  assert config.rewrite_gin_args(argv) == expected


def test_a_value_after_a_space_is_refused():
  with pytest.raises(config.ConfigError, match=r"write --gin\.A=VALUE"):
    config.rewrite_gin_args(["p", "--gin.A", "1"])


def test_flags(monkeypatch):
  values = flags.FlagValues()
  config.define_flags(values)
  monkeypatch.setattr(flags, "FLAGS", values)
  rest = config.parse_flags(
    [
      "program",
      "--gin_file=a.gin",
      "--gin.MODEL_DIR='/runs/a'",
      "--gin_file=b.gin",
      "--gin.TRAIN_STEPS=3",
      "--gin_search_paths=x,y",
      "rest",
    ]
  )
  assert rest == ["program", "rest"]
  assert values.gin_file == ["a.gin", "b.gin"]
  assert values.gin_bindings == ["MODEL_DIR='/runs/a'", "TRAIN_STEPS=3"]
  assert values.gin_search_paths == ["x", "y"]
