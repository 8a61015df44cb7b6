"""Several inputs in one stream."""

import collections

import pytest

from prompt_tuning.data.features import FeatureLengths
from prompt_tuning.data.inputs_mixture import InputsMixture
from prompt_tuning.data.streams import ExamplesInMemory
from prompt_tuning.data.vocabularies import ByteVocabulary

LENGTHS = FeatureLengths(inputs=8, targets=4)


class Words:
  """One example, which tells whose it is."""

  truncate_targets = False

  def __init__(self, name, fault=None):
    self.name, self.fault = name, fault

  def check(self, vocabulary, lengths):
    if self.fault:
      raise ValueError(self.fault)

  def stream(self, vocabulary, lengths, *, seed):
    example = {"inputs": [5, 6], "targets": [7], "whose": self.name}
    return ExamplesInMemory([example], seed=seed)


def shares(mixture):
  stream = mixture.stream(ByteVocabulary(), LENGTHS, seed=0)
  drawn = collections.Counter(stream.example(n)["whose"] for n in range(3000))
  return {name: count / 3000 for name, count in drawn.items()}


def test_parts_come_at_their_rates():
  parts = [Words("a"), Words("b")]
  mixture = InputsMixture(parts=parts, rates=[3, 1])
  assert mixture.name == "a+b"
  assert not mixture.truncate_targets
  assert shares(mixture) == pytest.approx({"a": 0.75, "b": 0.25}, abs=0.03)
  equal = InputsMixture(parts=parts)
  assert shares(equal) == pytest.approx({"a": 0.5, "b": 0.5}, abs=0.03)


def test_each_part_is_checked():
  mixture = InputsMixture(parts=[Words("a"), Words("b", "no such file")])
  with pytest.raises(ValueError, match="no such file"):
    mixture.check(ByteVocabulary(), LENGTHS)


@pytest.mark.parametrize(
  ("parts", "rates", "message"),
  [
    ([], None, "names of their own, got \\[\\]"),
    ([Words("a"), Words("a")], None, "got \\['a', 'a'\\]"),
    ([Words("a"), Words("b")], [1], "one for each of \\['a', 'b'\\]"),
  ],
)
def test_what_is_no_mixture(parts, rates, message):
  with pytest.raises(ValueError, match=message):
    InputsMixture(parts=parts, rates=rates)
