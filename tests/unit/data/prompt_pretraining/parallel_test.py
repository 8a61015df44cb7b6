"""Work on several processes, in order."""

import itertools
import operator

import numpy as np
import pytest

from prompt_tuning.data.inputs import FeatureLengths
from prompt_tuning.data.prompt_pretraining import parallel
from prompt_tuning.data.streams import ExamplesInMemory
from prompt_tuning.data.vocabularies import ByteVocabulary


class Numbers:
  """Examples that are their number."""

  name = "numbers"
  truncate_targets = False

  def stream(self, vocabulary, lengths: FeatureLengths, *, seed):
    rows = [{"inputs": np.asarray([n]), "targets": [1]} for n in range(50)]
    return ExamplesInMemory(rows, seed=seed)


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_order_and_are_not_awaited_all(workers):
  items = iter(itertools.count())
  found = parallel.ordered_map(operator.neg, items, num_workers=workers)
  assert list(itertools.islice(found, 9)) == [-n for n in range(9)]
  found.close()
  assert next(items) <= 9 + 2 * workers


def test_a_fault_of_a_process_is_told():
  found = parallel.ordered_map(operator.neg, iter([1, 2, "x"]), num_workers=2)
  with pytest.raises(TypeError, match="bad operand"):
    list(found)


@pytest.mark.parametrize("count", [3, 700])
def test_examples_are_those_of_the_stream(count):
  stream = Numbers().stream(ByteVocabulary(), None, seed=4)
  expected = [int(stream.example(n)["inputs"][0]) for n in range(count)]
  for workers in (1, 2):
    made = parallel.examples(
      Numbers(), ByteVocabulary(), count, seed=4, num_workers=workers
    )
    assert [int(example["inputs"][0]) for example in made] == expected
