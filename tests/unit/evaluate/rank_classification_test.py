"""Ranking of verbalizers: the likeliest wins, whole and as a target."""

import dataclasses

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from prompt_tuning.data.vocabularies import ByteVocabulary
from prompt_tuning.evaluate.rank_classification import (
  LengthNormalization,
  RankClassifier,
  Verbalizers,
)
from prompt_tuning.model.scoring import sequence_log_likelihood, shift_right
from prompt_tuning.testing import fakes

# The second goes on where the first ends.
VERBALIZERS = Verbalizers(
  texts=("good", "good enough", "bad"), tokens=((20,), (20, 31, 32), (21, 9))
)


@pytest.fixture(scope="module")
def prompted():
  # One layer of each, because compiling takes most of the time.
  model = fakes.tiny_model(
    fakes.tiny_prompt(4), num_encoder_layers=1, num_decoder_layers=1
  )
  batch = fakes.tiny_batch(np.random.default_rng(0), prompt_length=4)
  return model, fakes.tiny_params(model), batch


def teacher_forced(model, params, batch, targets):
  """Returns the log-likelihood of one target for all inputs, [B]."""
  inputs = batch["encoder_input_tokens"]
  targets = np.tile(targets, (len(inputs), 1))
  logits = jax.jit(model.apply)(
    {"params": params}, inputs, shift_right(jnp.asarray(targets))
  )
  return np.asarray(sequence_log_likelihood(logits, targets, targets > 0))


@pytest.mark.parametrize("normalization", list(LengthNormalization))
def test_scores_are_those_of_whole_targets(prompted, normalization):
  classifier = RankClassifier(
    prompted[0], VERBALIZERS, length_normalization=normalization
  )
  ranking = classifier.rank(*prompted[1:])
  # End of sequence included.
  for column, (target, length) in enumerate(
    [([20, 1, 0, 0], 2), ([20, 31, 32, 1], 4), ([21, 9, 1, 0], 3)]
  ):
    expected = teacher_forced(*prompted, np.asarray(target, np.int32))
    if normalization is LengthNormalization.TOKENS:
      expected = expected / length
    np.testing.assert_allclose(ranking.scores[:, column], expected, rtol=1e-5)
  np.testing.assert_array_equal(ranking.choices, ranking.scores.argmax(axis=1))


def test_predictions_are_the_chosen_targets(prompted):
  classifier = RankClassifier(prompted[0], VERBALIZERS)
  predictions = np.asarray(classifier.predict(*prompted[1:]))
  choices = classifier.rank(*prompted[1:]).choices
  assert predictions.dtype == np.int32
  np.testing.assert_array_equal(VERBALIZERS.choices(predictions), choices)
  for row, choice in zip(predictions, choices, strict=True):
    assert row.tolist() == VERBALIZERS.targets[choice].tolist()


def test_predictions_decode_to_the_text():
  vocabulary = ByteVocabulary()
  verbalizers = Verbalizers.encode(["yes", "no way"], vocabulary)
  assert [vocabulary.decode(row) for row in verbalizers.targets] == [
    "yes",
    "no way",
  ]
  assert verbalizers.lengths.tolist() == [4, 7]


def test_order_and_company_of_inputs_change_nothing(prompted):
  model, params, batch = prompted
  classifier = RankClassifier(model, VERBALIZERS, candidates_per_pass=2)
  rows = batch["encoder_input_tokens"]
  whole = classifier.rank(params, batch)
  order = np.array([3, 1])
  padded = np.pad(rows[order], ((0, 0), (0, 4)))
  part = classifier.rank(params, {"encoder_input_tokens": padded})
  np.testing.assert_allclose(whole.scores[order], part.scores, rtol=1e-4)


def test_is_compiled_once_a_shape(prompted, caplog):
  model, params, batch = prompted
  RankClassifier(model, VERBALIZERS).rank(params, batch)
  changed = jax.tree.map(lambda x: x * 0.5, params)
  other = {**batch, "encoder_input_tokens": batch["encoder_input_tokens"][::-1]}
  again = RankClassifier(model, dataclasses.replace(VERBALIZERS))
  with jax.log_compiles():
    again.rank(changed, other)
  assert "_rank_tokens" not in caplog.text
  assert "_compile" not in caplog.text
  with jax.log_compiles():
    shorter = {"encoder_input_tokens": batch["encoder_input_tokens"][:, :9]}
    again.rank(params, shorter)
  assert "_rank_tokens" in caplog.text


def test_other_verbalizers_are_compiled_anew(prompted):
  model, params, batch = prompted
  texts, tokens = VERBALIZERS.texts, VERBALIZERS.tokens
  swapped = Verbalizers(texts=texts[::-1], tokens=tokens[::-1])
  scores, reversed_scores = (
    RankClassifier(model, verbalizers).rank(params, batch).scores
    for verbalizers in (VERBALIZERS, swapped)
  )
  np.testing.assert_allclose(reversed_scores, scores[:, ::-1], rtol=1e-6)


def test_labels_of_targets():
  targets = [[20, 31, 32, 1], [21, 9, 1, 0], [20, 1, 0, 0], [20, 0, 0, 0]]
  np.testing.assert_array_equal(VERBALIZERS.choices(targets), [1, 2, 0, 0])


@pytest.mark.parametrize("target", [[22, 1, 0], [20, 31, 1], [1, 0, 0]])
def test_a_target_outside_the_verbalizers_is_an_error(target):
  with pytest.raises(ValueError, match=r"target 1 .* none of the verbalizers"):
    VERBALIZERS.choices([[20, 1, 0], target])


@pytest.mark.parametrize(
  ("texts", "tokens", "message"),
  [
    (("good",), ((20,),), r"at least two texts .* got 1 texts \['good'\]"),
    (("a", "b"), ((20,),), "2 texts .* and 1 token lists"),
    (("a", ""), ((20,), ()), "verbalizer '' has no tokens"),
    (("a", "A"), ((20,), (20,)), "'a' and 'A' have the same tokens"),
    (("a", "b"), ((20,), (21, 1)), "'b': its tokens .* end of sequence"),
    (("a", "b"), ((20, 0), (21,)), "'a': its tokens .* hold padding"),
  ],
)
def test_bad_verbalizers_are_errors(texts, tokens, message):
  with pytest.raises(ValueError, match=message):
    Verbalizers(texts=texts, tokens=tokens)


def test_a_verbalizer_of_another_vocabulary_is_an_error(prompted):
  verbalizers = Verbalizers(texts=("a", "b"), tokens=((20,), (64,)))
  with pytest.raises(ValueError, match=r"'b' has the token 64, but .* 64 rows"):
    RankClassifier(prompted[0], verbalizers)


def test_a_packed_batch_is_an_error(prompted):
  model, params, batch = prompted
  packed = {**batch, "encoder_segment_ids": np.ones((4, 12), np.int32)}
  with pytest.raises(ValueError, match="the batch is packed"):
    RankClassifier(model, VERBALIZERS).predict(params, packed)
