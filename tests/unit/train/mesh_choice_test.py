"""Which mesh is taken."""

import pytest

from prompt_tuning.train.mesh_choice import (
  MeshShape,
  Need,
  candidates,
  choose,
)

GIB = 2**30


def _need(shape):
  """A model of 40 GiB, all of it cut, whose heads allow 8 ways."""
  if shape.model > 8:
    raise ValueError("16 ways do not divide 8 heads")
  return Need(
    parameters=40 * GIB // shape.model,
    activations=64 * GIB // (shape.data * shape.sequence * shape.model),
  )


def _choose(num_devices, *, rows=None, memory=16, **axes):
  return choose(
    candidates(num_devices, **axes),
    _need,
    rows=rows,
    memory_bytes=memory and memory * GIB,
  )


def _names(shapes):
  return [(each.data, each.sequence, each.model) for each in shapes]


def test_candidates_use_all_devices():
  assert _names(candidates(8)) == [(8, 1, 1), (4, 1, 2), (2, 1, 4), (1, 1, 8)]
  assert _names(candidates(8, sequence=2)) == [(4, 2, 1), (2, 2, 2), (1, 2, 4)]
  assert _names(candidates(8, data=4)) == [(4, 1, 2)]
  assert _names(candidates(6)) == [(6, 1, 1), (3, 1, 2), (2, 1, 3), (1, 1, 6)]


@pytest.mark.parametrize(
  "axes", [{"data": 3}, {"sequence": 3}, {"sequence": 0}, {"data": 16}]
)
def test_no_candidate_is_an_error(axes):
  with pytest.raises(ValueError, match=r"No mesh with data=.*8 devices"):
    candidates(8, **axes)


def test_parameters_are_cut_no_further_than_memory_asks():
  choice = _choose(16)
  assert choice.shape == MeshShape(data=4, model=4)
  assert len(choice.reasons) == 3
  assert "40.00 GiB of parameters" in choice.reasons[0]
  assert "data=4 x model=4: taken" in choice.reasons[-1]
  assert _choose(16, memory=50).shape == MeshShape(data=16, model=1)


def test_devices_that_do_not_tell_their_memory_hold_everything():
  choice = _choose(16, memory=None)
  assert choice.shape == MeshShape(data=16, model=1)
  assert "do not tell" in choice.reasons[0]


def test_a_batch_too_small_for_the_devices_leaves_them_to_the_model():
  choice = _choose(16, rows=4, memory=80)
  assert choice.shape == MeshShape(data=4, model=4)
  assert "4 examples do not divide" in choice.reasons[0]


def test_a_sequence_axis_shares_activations():
  # 40 / 2 and 64 / 8 GiB on each, of 9 tenths of the memory.
  assert _choose(8, memory=32, sequence=4).shape == MeshShape(
    data=1, sequence=4, model=2
  )


def test_every_refusal_is_told():
  with pytest.raises(ValueError, match="no mesh was found") as error:
    _choose(16, memory=4)
  message = str(error.value)
  assert message.count("GiB of parameters") == 4
  assert "data=1 x model=16: 16 ways do not divide 8 heads" in message
  assert "MICROBATCHES" in message
