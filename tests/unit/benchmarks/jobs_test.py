import numpy as np
import pytest

from benchmarks import jobs, sizes
from benchmarks.jobs import Job, Kind
from prompt_tuning import types
from prompt_tuning.model.config import Rematerialization

SIZES = sizes.read("tiny", vocab_size=128)


def make(**settings):
  return Job(
    **{"kind": "train_step", "sizes": SIZES, "batch_size": 6} | settings
  )


def test_a_job_crosses_a_pipe_whole():
  job = make(lengths=((3, 2), (4, 1)), kind=Kind.DECODE)
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
  lengths = ((4, 1), (12, 1))
  job = make(lengths=lengths, inputs_length=20, length_multiple=multiple)
  for batch in jobs.make_batches(job):
    assert batch.inputs.shape == (6, padded)
    assert set(batch.lengths) <= {4, 12}
    np.testing.assert_array_equal((batch.inputs != 0).sum(1), batch.lengths)
    assert batch.num_tokens == batch.lengths.sum() + 6 * 8


def test_long_inputs_are_cut():
  batch = jobs.make_batches(make(lengths=((50, 1),), inputs_length=20))[0]
  assert set(batch.lengths) == {20}


def test_lengths_are_drawn_as_often_as_they_occur():
  job = make(lengths=((3, 3), (7, 1)), batch_size=2000)
  drawn = np.concatenate([b.lengths for b in jobs.make_batches(job)])
  assert np.mean(drawn == 3) == pytest.approx(0.75, abs=0.02)


@pytest.mark.parametrize(
  "way",
  [
    {"packed_length": 64},
    {"num_microbatches": 2},
    {"remat": "layer"},
    {"length_multiple": 1},
  ],
)
def test_examples_are_the_same_however_they_are_computed(way):
  lengths = {"lengths": ((4, 1), (12, 1)), "inputs_length": 20}
  pairs = zip(
    jobs.make_batches(make(**lengths)),
    jobs.make_batches(make(**lengths, **way)),
    strict=True,
  )
  for plain, other in pairs:
    width = other.inputs.shape[1]
    np.testing.assert_array_equal(plain.inputs[:, :width], other.inputs)
    np.testing.assert_array_equal(plain.targets, other.targets)


def test_every_prompt_has_a_batch_of_its_own():
  job = make(kind="many_prompts", num_prompts=3, batch_size=2)
  batch = jobs.make_batches(job)[0]
  assert job.examples_per_step == len(batch.inputs) == 6
  assert make(batch_size=2).examples_per_step == 2


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
    ({"lengths": ((3, 1), (0, 2))}, "occurs, got 0 and 2"),
    ({"remat": "all"}, "remat must be one of none, layer"),
    ({"kind": "eval", "packed_length": 64}, "packed_length=64 is a setting of"),
    ({"kind": "eval", "targets_length": 1}, "cannot be told apart"),
  ],
)
def test_refuses_a_job_that_cannot_be(settings, message):
  with pytest.raises(ValueError, match=message):
    make(**settings)


def test_reads_lengths(tmp_path):
  path = tmp_path / "lengths.txt"
  path.write_text("3 40\n15 2\n")
  assert jobs.read_lengths(path) == ((3, 40), (15, 2))
  for line in ("3 ten", "3"):
    path.write_text(f"3 40\n{line}\n")
    with pytest.raises(ValueError, match=f"how often it occurs.*{line!r}"):
      jobs.read_lengths(path)
  path.write_text("")
  with pytest.raises(ValueError, match="holds no token counts"):
    jobs.read_lengths(path)


def test_special_tokens_are_those_of_the_library():
  assert (jobs.PAD_ID, jobs.EOS_ID) == (types.PAD_ID, types.EOS_ID)


def test_ways_to_rematerialize_are_those_of_the_library():
  for way in Rematerialization:
    assert make(remat=way.value).remat == way.value


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
