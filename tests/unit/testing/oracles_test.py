import json

import pytest

from prompt_tuning.testing import oracles


def test_installed_module_is_returned():
  assert oracles.require("json") is json


def test_missing_module_skips(monkeypatch):
  monkeypatch.delenv("PROMPT_TUNING_REQUIRE_ORACLES", raising=False)
  with pytest.raises(pytest.skip.Exception, match="no_such_oracle"):
    oracles.require("no_such_oracle")


def test_missing_module_fails_where_it_is_required(monkeypatch):
  monkeypatch.setenv("PROMPT_TUNING_REQUIRE_ORACLES", "1")
  with pytest.raises(ImportError, match="forbids skipping"):
    oracles.require("no_such_oracle")
