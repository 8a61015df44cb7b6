"""Tests of telling runs apart."""

import dataclasses
import json

import pytest

from prompt_tuning.train.run_identity import RunIdentity

RUN = RunIdentity(
  backbone="abc",
  trainable=("prompt/.*",),
  seed=0,
  config={"learning_rate": 0.3, "lengths": (512, 8), "nested": {"a": [1]}},
)


def _changed(**changes):
  return dataclasses.replace(RUN, **changes)


def test_a_run_equals_itself_after_json():
  entry = json.loads(json.dumps(RUN.as_json()))
  assert RUN.differences(RunIdentity.from_json(entry)) == []
  assert RunIdentity.from_json(entry).config_hash == RUN.config_hash


@pytest.mark.parametrize(
  ("other", "line"),
  [
    (_changed(backbone="xyz"), "backbone fingerprint: 'xyz' -> 'abc'"),
    (
      _changed(trainable=[".*"]),
      "trainable patterns: ['.*'] -> ['prompt/.*']",
    ),
    (_changed(seed=1), "random seed: 1 -> 0"),
    (
      _changed(config=RUN.config | {"learning_rate": 0.1}),
      "learning_rate: 0.1 -> 0.3",
    ),
    (
      _changed(config=RUN.config | {"dropout": 0.1}),
      "dropout: 0.1 -> (not set)",
    ),
  ],
)
def test_what_differs_is_named(other, line):
  assert RUN.differences(other) == [line]


def test_the_hash_depends_on_values_alone():
  reordered = _changed(config=dict(reversed(RUN.config.items())))
  assert reordered.config_hash == RUN.config_hash
  other = _changed(config=RUN.config | {"learning_rate": 0.1})
  assert other.config_hash != RUN.config_hash
