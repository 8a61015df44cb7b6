import numpy as np
import pytest

from benchmarks import jobs, sizes
from benchmarks.jobs import Job, Kind
from prompt_tuning import types

SIZES = sizes.read("tiny", vocab_size=128)


def make(**settings):
  return Job(
    **{"kind": "train_step", "sizes": SIZES, "batch_size": 6} | settings
  )


def test_a_job_crosses_a_pipe_whole():
  job = make(lengths=(3, 4), kind=Kind.DECODE)
  text = job.to_json()
  assert "\n" not in text
  assert Job.from_json(text) == job


def test_batches_are_the_same_in_every_process():
  one, other = jobs.make_batches(make()), jobs.make_batches(make())
  assert len(one) == 4
  for a, b in zip(one, other, strict=True):
    np.testing.assert_array_equal(a.inputs, b.inputs)
    np.testing.assert_array_equal(a.targets, b.targets)
  assert not np.array_equal(one[0].inputs, one[1].inputs)


def test_inputs_of_one_length_have_no_padding():
  batch = jobs.make_batches(make(inputs_length=10, targets_length=3))[0]
  assert batch.inputs.shape == (6, 10)
  assert np.all(batch.inputs[:, -1] == 1)
  assert np.all(batch.inputs[:, :-1] > 2)
  assert batch.num_tokens == 6 * (10 + 3)


@pytest.mark.parametrize(("multiple", "padded"), [(0, 20), (8, 16), (1, 12)])
def test_lengths_are_drawn_and_padded(multiple, padded):
  job = make(lengths=(4, 12), inputs_length=20, length_multiple=multiple)
  for batch in jobs.make_batches(job):
    assert batch.inputs.shape == (6, padded)
    assert set(batch.lengths) <= {4, 12}
    np.testing.assert_array_equal((batch.inputs != 0).sum(1), batch.lengths)
    assert batch.num_tokens == batch.lengths.sum() + 6 * 8


def test_long_inputs_are_cut():
  batch = jobs.make_batches(make(lengths=(50,), inputs_length=20))[0]
  assert set(batch.lengths) == {20}


def test_verbalizers_differ():
  rows = jobs.make_verbalizers(make(num_verbalizers=5, targets_length=2))
  assert rows.shape == (5, 2)
  assert len({tuple(row) for row in rows}) == 5
  assert np.all(rows[:, -1] == 1)


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"kind": "train"}, "'train' is not a valid Kind"),
    ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
    ({"dtype": "float16"}, "dtype must be one of float32, bfloat16"),
    ({"lengths": (3, 0)}, "positive token counts, got 0"),
    ({"kind": "eval", "targets_length": 1}, "cannot be told apart"),
  ],
)
def test_refuses_a_job_that_cannot_be(settings, message):
  with pytest.raises(ValueError, match=message):
    make(**settings)


def test_reads_lengths(tmp_path):
  path = tmp_path / "lengths.txt"
  path.write_text("3\n15\n")
  assert jobs.read_lengths(path) == (3, 15)
  path.write_text("3\nten\n")
  with pytest.raises(ValueError, match=r"one token count a line.*'ten'"):
    jobs.read_lengths(path)
  path.write_text("")
  with pytest.raises(ValueError, match="holds no token counts"):
    jobs.read_lengths(path)


def test_special_tokens_are_those_of_the_library():
  assert (jobs.PAD_ID, jobs.EOS_ID) == (types.PAD_ID, types.EOS_ID)


def test_sizes_are_those_of_the_recipes():
  assert sizes.read("small", vocab_size=32128) == {
    "vocab_size": 32128,
    "embed_dim": 512,
    "num_heads": 6,
    "head_dim": 64,
    "mlp_dim": 1024,
    "num_encoder_layers": 8,
    "num_decoder_layers": 8,
  }
  with pytest.raises(ValueError, match=r"unknown size 'huge'; there are .*xxl"):
    sizes.read("huge", vocab_size=8)
