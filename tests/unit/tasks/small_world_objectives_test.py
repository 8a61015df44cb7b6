import numpy as np
import pytest

from prompt_tuning.tasks.small_world.objectives import sentence_prefix_lm

_END = 9


def _split(ids, seed, *, targets_length=16, **kwargs):
  return sentence_prefix_lm(
    np.array(ids),
    np.random.default_rng(seed),
    end_ids=(_END,),
    targets_length=targets_length,
    **kwargs,
  )


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_inputs_and_targets_make_up_the_document(seed, share):
  ids = [5, 6, _END, 7, 8, _END]
  example = _split(ids, seed, border_share=share)
  assert example["inputs"][-1] == example["targets"][-1] == 1
  whole = [*example["inputs"][:-1], *example["targets"][:-1]]
  assert whole == ids
  assert example["inputs"].size > 1
  assert example["targets"].size > 1


@pytest.mark.parametrize("seed", range(20))
def test_a_share_of_one_splits_only_after_an_end(seed):
  ids = [5, _END, 6, 6, _END, 7, 8, _END]
  example = _split(ids, seed, border_share=1.0)
  assert example["inputs"][-2] == _END


def test_every_border_is_used():
  ids = [5, _END, 6, 6, _END, 7, 8, _END]
  sizes = {
    _split(ids, seed, border_share=1.0)["inputs"].size for seed in range(30)
  }
  assert sizes == {3, 6}


def test_a_document_without_a_border_is_split_anywhere():
  sizes = {
    _split([5, 6, 7, 8], seed, border_share=1.0)["inputs"].size
    for seed in range(30)
  }
  assert sizes == {2, 3, 4}


def test_one_token_cannot_be_split():
  with pytest.raises(ValueError, match="at least 2 tokens"):
    _split([5], 0)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_no_target_is_longer_than_allowed(share):
  ids = [5, _END, 6, 6, _END, 7, 8, _END]
  sizes = {
    _split(ids, seed, border_share=share, targets_length=5)["targets"].size
    for seed in range(40)
  }
  assert max(sizes) <= 5
  assert min(sizes) >= 2


def test_targets_need_room_for_a_token():
  with pytest.raises(ValueError, match="targets_length must be at least 2"):
    _split([5, 6], 0, targets_length=1)
