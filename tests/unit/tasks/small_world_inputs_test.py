import numpy as np
import pytest

from prompt_tuning import paths
from prompt_tuning.data.features import FeatureLengths
from prompt_tuning.data.vocabularies import SentencePieceVocabulary
from prompt_tuning.tasks.small_world.documents import SKILLS
from prompt_tuning.tasks.small_world.inputs import SmallWorldInputs

_LENGTHS = FeatureLengths(inputs=40, targets=12)


@pytest.fixture(scope="module")
def vocabulary():
  return SentencePieceVocabulary(
    str(paths.embedded_dir() / "sentencepiece.model")
  )


@pytest.fixture(params=["span_corruption", "prefix_lm"])
def stream(request, vocabulary):
  inputs = SmallWorldInputs(objective=request.param, num_documents=300)
  return inputs.stream(vocabulary, _LENGTHS, seed=0)


def test_every_example_fits_the_lengths(stream):
  for number in range(stream.chunks_per_epoch):
    example = stream.example(number)
    assert 1 < example["inputs"].size <= _LENGTHS.inputs
    assert 1 < example["targets"].size <= _LENGTHS.targets
    assert example["inputs"][-1] == example["targets"][-1] == 1


def test_an_example_depends_on_its_number_alone(stream):
  first = stream.example(17)
  stream.example(3)
  again = stream.example(17)
  np.testing.assert_array_equal(first["inputs"], again["inputs"])
  np.testing.assert_array_equal(first["targets"], again["targets"])


def test_prefix_lm_often_asks_for_a_label_first(vocabulary):
  inputs = SmallWorldInputs(objective="prefix_lm", num_documents=300)
  stream = inputs.stream(vocabulary, _LENGTHS, seed=0)
  labels = {
    vocabulary.encode(label)[0]
    for skill in SKILLS.values()
    for label in skill.labels
  }
  firsts = [int(stream.example(n)["targets"][0]) for n in range(300)]
  assert sum(first in labels for first in firsts) > 45


def test_other_borders_are_other_data(vocabulary):
  first, other = (
    SmallWorldInputs(
      objective="prefix_lm", num_documents=50, border_share=share
    ).stream(vocabulary, _LENGTHS, seed=0)
    for share in (0.6, 0.1)
  )
  assert first.card()["objective"]["border_share"] == 0.6
  assert first.card() != other.card()


def test_too_short_targets_name_what_is_needed(vocabulary):
  inputs = SmallWorldInputs(objective="span_corruption", num_documents=50)
  with pytest.raises(ValueError, match="needs targets of 10, got 4"):
    inputs.stream(vocabulary, FeatureLengths(inputs=40, targets=4), seed=0)


def test_an_unknown_objective_is_refused():
  message = r"objective must be one of 'span_corruption', .* got 'mlm'"
  with pytest.raises(ValueError, match=message):
    SmallWorldInputs(objective="mlm")


def test_no_documents_are_refused():
  with pytest.raises(ValueError, match="num_documents must be at least 1"):
    SmallWorldInputs(objective="prefix_lm", num_documents=0)
