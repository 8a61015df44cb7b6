"""Members of enums by the values that a recipe gives."""

import enum
import re

import pytest

from prompt_tuning.types import enum_member


class Colour(enum.Enum):
  RED = "red"
  BLUE = "blue"


@pytest.mark.parametrize("value", ["blue", Colour.BLUE])
def test_a_value_or_a_member(value):
  assert enum_member(Colour, value, name="colour") is Colour.BLUE


@pytest.mark.parametrize("value", ["Blue", "BLUE", "", None, ["blue"]])
def test_anything_else_lists_what_there_is(value):
  message = f"Wall.colour must be one of 'red', 'blue', got {value!r}."
  with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
    enum_member(Colour, value, name="Wall.colour")
