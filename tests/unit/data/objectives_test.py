"""Objectives against the published procedure: counts, laws, reconstruction."""

import itertools
import math

import numpy as np
import pytest

from prompt_tuning.data import objectives

_VOCAB_SIZE = 32100
_EOS = 1


def _rng(seed=0):
  return np.random.default_rng(seed)


def _words(length, seed=0):
  return _rng(seed).integers(3, 30000, size=length)


def _spans(mask):
  """Lengths of the runs of a mask, text and noise."""
  runs = [(key, len(list(run))) for key, run in itertools.groupby(mask)]
  text = [size for is_noise, size in runs if not is_noise]
  return text, [size for is_noise, size in runs if is_noise]


def _reconstruct(inputs, targets):
  """Puts the hidden spans back in place of their sentinels."""
  assert inputs[-1] == targets[-1] == _EOS
  hidden, sentinel = {}, None
  for token in targets[:-1]:
    if token >= _VOCAB_SIZE - 100:
      sentinel = token
      hidden[sentinel] = []
    else:
      hidden[sentinel].append(token)
  return [t for token in inputs[:-1] for t in hidden.get(token, [token])]


@pytest.mark.parametrize("length", [2, 3, 7, 20, 64, 115, 568])
def test_inputs_and_targets_reconstruct_the_text(length):
  ids = _words(length)
  pair = objectives.span_corruption(ids, _rng(), vocab_size=_VOCAB_SIZE)
  assert _reconstruct(pair["inputs"], pair["targets"]) == ids.tolist()
  assert pair["inputs"].dtype == pair["targets"].dtype == np.int32


@pytest.mark.parametrize("length", [20, 115, 568])
def test_sentinels_are_unique_and_count_down_from_the_top(length):
  pair = objectives.span_corruption(
    _words(length), _rng(), vocab_size=_VOCAB_SIZE
  )
  for side in ("inputs", "targets"):
    sentinels = pair[side][pair[side] >= _VOCAB_SIZE - 100]
    expected = _VOCAB_SIZE - 1 - np.arange(sentinels.size)
    np.testing.assert_array_equal(sentinels, expected)


# (inputs, raw text, targets): 512 -> 568, 114 is T5's own pre-training; the
# others follow from the same definition, worked out by hand.
@pytest.mark.parametrize(
  ("inputs", "raw", "targets"),
  [(512, 568, 114), (64, 70, 14), (1024, 1137, 229)],
)
def test_published_lengths(inputs, raw, targets):
  lengths = objectives.lengths_for_span_corruption(inputs)
  assert lengths == objectives.CorruptedLengths(raw, inputs, targets)


@pytest.mark.parametrize("inputs_length", [*range(3, 70), 128, 256, 512])
def test_chosen_lengths_are_the_lengths_made(inputs_length):
  lengths = objectives.lengths_for_span_corruption(inputs_length)
  pair = objectives.span_corruption(
    _words(lengths.raw), _rng(), vocab_size=_VOCAB_SIZE
  )
  assert pair["inputs"].size == lengths.inputs <= inputs_length
  assert pair["targets"].size == lengths.targets
  longer = objectives.span_corruption(
    _words(lengths.raw + 1), _rng(), vocab_size=_VOCAB_SIZE
  )
  assert longer["inputs"].size > inputs_length


def test_half_noise_has_equal_sides():
  lengths = objectives.lengths_for_span_corruption(
    100, noise_density=0.5, mean_span_length=3.0
  )
  assert lengths.targets <= 100


@pytest.mark.parametrize("density", [0.15, 0.5])
@pytest.mark.parametrize("mean_span", [1.0, 3.0, 10.0])
@pytest.mark.parametrize("length", [100, 568])
def test_mask_has_the_published_counts(density, mean_span, length):
  for seed in range(20):
    mask = objectives.random_spans_noise_mask(
      length, _rng(seed), noise_density=density, mean_span_length=mean_span
    )
    text, noise = _spans(mask)
    num_noise = round(length * density)
    assert mask.sum() == num_noise
    assert not mask[0]
    assert mask[-1]
    assert len(noise) == len(text) == round(num_noise / mean_span)


def test_all_masks_are_equally_likely():
  # 8 tokens, 3 of them noise in 2 spans: 4 ways to split the 5 text tokens
  # times 2 ways to split the noise.
  draws = 8000
  rng = _rng(3)
  counts = {}
  for _ in range(draws):
    mask = objectives.random_spans_noise_mask(
      8, rng, noise_density=0.375, mean_span_length=1.5
    )
    key = tuple(mask)
    counts[key] = counts.get(key, 0) + 1
  assert len(counts) == 8
  expected = draws / 8
  chi_squared = sum((c - expected) ** 2 / expected for c in counts.values())
  assert chi_squared < 24.3  # 0.999 quantile for 7 degrees of freedom.


def test_span_lengths_follow_the_law_of_random_compositions():
  # T5 at length 568: 85 noise tokens in 28 spans; a part of a uniformly random
  # composition of n into k has P(x) = C(n - x - 1, k - 2) / C(n - 1, k - 1).
  n, k, draws = 85, 28, 400
  rng = _rng(5)
  sizes = np.concatenate(
    [
      _spans(objectives.random_spans_noise_mask(568, rng))[1]
      for _ in range(draws)
    ]
  )
  assert sizes.mean() == pytest.approx(n / k)
  for size in (1, 2, 3, 5):
    law = math.comb(n - size - 1, k - 2) / math.comb(n - 1, k - 1)
    error = 5 * math.sqrt(law / sizes.size)
    assert (sizes == size).mean() == pytest.approx(law, abs=error)


def test_seed_decides_the_noise():
  ids = _words(60)

  def corrupt(seed):
    return objectives.span_corruption(ids, _rng(seed), vocab_size=_VOCAB_SIZE)[
      "inputs"
    ].tolist()

  assert corrupt(1) == corrupt(1)
  assert corrupt(1) != corrupt(2)


def test_more_spans_than_sentinels():
  with pytest.raises(ValueError, match="makes 28 spans and the vocabulary has"):
    objectives.span_corruption(
      _words(568), _rng(), vocab_size=_VOCAB_SIZE, num_sentinels=27
    )


@pytest.mark.parametrize(
  ("option", "value"),
  [("noise_density", 0.0), ("noise_density", 1.0), ("mean_span_length", 0.5)],
)
def test_impossible_noise(option, value):
  with pytest.raises(ValueError, match=option):
    objectives.span_corruption(
      _words(20), _rng(), vocab_size=_VOCAB_SIZE, **{option: value}
    )
  with pytest.raises(ValueError, match=option):
    objectives.lengths_for_span_corruption(64, **{option: value})


def test_targets_without_room():
  lengths = objectives.lengths_for_span_corruption(64)
  assert lengths == objectives.lengths_for_span_corruption(
    64, targets_length=lengths.targets
  )
  message = f"needs targets of {lengths.targets}, got {lengths.targets - 1}"
  with pytest.raises(ValueError, match=message):
    objectives.lengths_for_span_corruption(
      64, targets_length=lengths.targets - 1
    )


@pytest.mark.parametrize("length", [0, 1])
def test_too_little_text(length):
  for objective in (
    objectives.prefix_lm,
    lambda ids, rng: objectives.span_corruption(ids, rng, vocab_size=99),
  ):
    with pytest.raises(ValueError, match="needs at least 2 tokens"):
      objective(_words(length), _rng())
  with pytest.raises(ValueError, match="at least 3 tokens, got 2"):
    objectives.lengths_for_span_corruption(2)


def test_prefix_lm_splits_everywhere_equally_often():
  ids, draws = _words(9), 4000
  rng = _rng(7)
  counts = np.zeros(9)
  for _ in range(draws):
    pair = objectives.prefix_lm(ids, rng)
    whole = [*pair["inputs"][:-1], *pair["targets"][:-1]]
    assert whole == ids.tolist()
    assert pair["inputs"][-1] == pair["targets"][-1] == _EOS
    counts[pair["inputs"].size - 1] += 1
  assert counts[0] == 0
  expected = draws / 8
  assert ((counts[1:] - expected) ** 2 / expected).sum() < 24.3
