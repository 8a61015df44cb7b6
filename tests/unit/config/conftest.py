"""Lends the tests of configuration a program and recipes for it."""

import importlib.util
import pathlib
import sys

import pytest

_PROGRAM = pathlib.Path(__file__).with_name("sample_program.py")

BASE = """
from __gin__ import dynamic_registration
import sample_program

MODEL_DIR = %gin.REQUIRED
TRAIN_STEPS = %gin.REQUIRED
WIDTH = 8
INIT = @sample_program.uniform()

sample_program.train:
  model_dir = %MODEL_DIR
  steps = %TRAIN_STEPS
  network = @sample_program.Network()
  init = %INIT
sample_program.Network.width = %WIDTH
"""

FROM_FILE = """
from __gin__ import dynamic_registration
import sample_program as program

PROMPT_FILE = %gin.REQUIRED
INIT = @program.from_file()
program.from_file.path = %PROMPT_FILE
"""


@pytest.fixture(scope="session")
def program():
  # gin knows a function for the life of the process, so it is loaded once.
  spec = importlib.util.spec_from_file_location("sample_program", _PROGRAM)
  assert spec is not None
  assert spec.loader is not None
  module = importlib.util.module_from_spec(spec)
  sys.modules["sample_program"] = module
  spec.loader.exec_module(module)
  return module


@pytest.fixture
def recipes(tmp_path, program):
  """A folder of recipes, in which the test may write more."""
  folder = tmp_path / "recipes"
  folder.mkdir()
  (folder / "base.gin").write_text(BASE)
  (folder / "from_file.gin").write_text(FROM_FILE)
  return folder
