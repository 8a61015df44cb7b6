import itertools

import chex
import jax
import numpy as np
import pytest

from benchmarks import jobs, sizes, systems
from benchmarks.jobs import Job, Kind
from benchmarks.systems import many_prompts, matrix, ours
from prompt_tuning.testing import oracles


def tiny(kind, **settings):
  shape = sizes.read("tiny", vocab_size=64)
  plain = {
    "prompt_length": 4,
    "batch_size": 8,
    "inputs_length": 6,
    "targets_length": 3,
    "num_batches": 2,
  }
  return Job(
    kind=kind,
    sizes=shape | {"num_encoder_layers": 1, "num_decoder_layers": 1},
    **plain | settings,
  )


def run(name, job):
  system = systems.find(name).load()(job)
  system.start()
  system.run(3)
  return system


_SLOWEST = ("ours_model_tuning", Kind.TRAIN_STEP)
_OURS = ["ours", "ours_prefix", "ours_model_tuning"]
_JOBS = [
  *itertools.product(
    _OURS, [kind for kind in Kind if kind is not Kind.MANY_PROMPTS]
  ),
  ("ours_joint", Kind.MANY_PROMPTS),
  ("ours_in_turn", Kind.MANY_PROMPTS),
]


@pytest.mark.parametrize(
  ("name", "kind"),
  [
    pytest.param(
      *pair,
      # Adafactor on every weight is long to compile.
      marks=[pytest.mark.slow] if pair == _SLOWEST else [],
      id="-".join((pair[0], pair[1].value)),
    )
    for pair in _JOBS
  ],
)
def test_our_systems_do_every_job(name, kind):
  facts = run(name, tiny(kind)).facts()
  assert facts["num_devices"] == jax.device_count()
  trains = kind in (Kind.TRAIN_STEP, Kind.MANY_PROMPTS)
  assert ("compiled_flops" in facts) == trains


def test_our_step_trains_the_prompt_alone_and_moves_it():
  system = ours.prompt_tuning(tiny("train_step"))
  before = jax.device_get(system._state)
  assert set(before.trainable) == {"prompt"}
  assert "prompt" not in system._frozen
  system.start()
  system.run(2)
  after = jax.device_get(system._state)
  assert after.step == 3
  prompts = (s.trainable["prompt"]["embedding"] for s in (before, after))
  assert not np.array_equal(*prompts)


def test_model_tuning_trains_everything():
  system = ours.model_tuning(tiny("train_step"))
  assert not system._frozen
  assert "prompt" not in system._state.trainable


def test_every_shape_is_compiled_before_it_is_timed():
  job = tiny(
    "train_step", lengths=((2, 1), (3, 1), (9, 1)), length_multiple=3,
    inputs_length=9, batch_size=8, seed=3, num_batches=6,
  )  # fmt: skip
  system = ours.prompt_tuning(job)
  shapes = {f["encoder_input_tokens"].shape for f in system._batches}
  system.start()
  assert {encoder for encoder, _ in system._compiled} == shapes
  system.run(6)


def test_slots_stand_in_front_of_the_words_in_full_mode_alone():
  batches = {
    attention: ours.prompt_tuning(tiny("eval"), attention=attention)._batches
    for attention in ("full", "prefix")
  }
  full, prefix = (b[0]["encoder_input_tokens"] for b in batches.values())
  np.testing.assert_array_equal(full[:, :4], [[64, 65, 66, 67]] * 8)
  np.testing.assert_array_equal(full[:, 4:], prefix)
  assert np.all(prefix < 64)


_WORDS = {"lengths": ((2, 3), (6, 1)), "num_batches": 1, "batch_size": 16}


def prompt_after(job, *, attention="full"):
  system = ours.prompt_tuning(job, attention=attention)
  system.start()
  loss = jax.device_get(system.take_next())["loss"]
  return loss, np.asarray(system._state.trainable["prompt"]["embedding"])


@pytest.mark.parametrize(
  "attention", ["full", pytest.param("prefix", marks=pytest.mark.slow)]
)
def test_packed_rows_are_the_same_step(attention):
  plain, packed = (
    prompt_after(tiny("train_step", **_WORDS, **way), attention=attention)
    for way in ({}, {"packed_length": 20})
  )
  np.testing.assert_allclose(packed[0], plain[0], rtol=1e-5)
  np.testing.assert_allclose(packed[1], plain[1], atol=1e-4)


def test_packed_rows_are_fewer_and_divide_over_devices_and_parts():
  words = _WORDS | {"batch_size": 40}
  job = tiny("train_step", **words, packed_length=24, num_microbatches=2)
  system = ours.prompt_tuning(job)
  rows = len(system._batches[0]["encoder_input_tokens"])
  assert rows < 40
  assert rows % (jax.device_count() * 2) == 0
  system.start()
  assert "compiled_flops" not in system.facts()


def test_prompts_are_tuned_jointly_as_they_are_in_turn():
  job = tiny("many_prompts", num_prompts=2, dropout_rate=0.1)
  joint, in_turn = many_prompts.Joint(job), many_prompts.InTurn(job)
  for system in (joint, in_turn):
    system.start()
    system.run(2)
  together = jax.device_get(joint._state)
  each = jax.device_get([one._state for one in in_turn._jobs])
  chex.assert_trees_all_close(together, tuple(each), atol=1e-4)
  tables = [state.trainable["prompt"]["embedding"] for state in each]
  assert len(tables) == 2
  assert not np.allclose(tables[0], tables[1], atol=0.1)


def test_the_matrix_rate_is_measured_as_a_system():
  job = tiny("train_step", matrix_width=32)
  assert "jax" in run("matrix_xla", job).facts()
  assert matrix.step_flops(job) == 2 * 32**3


def test_an_unknown_system_is_named():
  with pytest.raises(ValueError, match="unknown system 'theirs'; there are"):
    systems.find("theirs")


@pytest.mark.oracle
@pytest.mark.filterwarnings("ignore")  # Those of other libraries.
@pytest.mark.parametrize(
  "kind", sorted(systems.SYSTEMS["peft"].kinds, key=lambda kind: kind.value)
)
def test_peft_does_every_job(kind):
  oracles.require("peft")
  facts = run("peft", tiny(kind)).facts()
  assert {"torch", "transformers", "peft", "num_threads"} == set(facts)


@pytest.mark.oracle
@pytest.mark.filterwarnings("ignore")
def test_peft_tunes_as_many_soft_tokens_and_no_more():
  oracles.require("peft")
  from benchmarks.systems import peft

  model = peft.make_model(tiny("train_step"))
  tuned = [p for p in model.parameters() if p.requires_grad]
  assert [tuple(p.shape) for p in tuned] == [(4, 64)]


@pytest.mark.oracle
@pytest.mark.filterwarnings("ignore")
def test_peft_scores_verbalizers_as_a_plain_forward_pass_would():
  oracles.require("peft")
  import torch

  from benchmarks.systems import peft

  job = tiny("eval", num_verbalizers=3, lengths=((3, 1), (6, 1)))
  model = peft.make_model(job)
  batch = peft._tensors(jobs.make_batches(job)[0])
  rows = torch.from_numpy(jobs.make_verbalizers(job).astype("int64"))
  with torch.inference_mode():
    losses = []
    for row, index in itertools.product(rows, range(job.batch_size)):
      one = {name: tensor[index : index + 1] for name, tensor in batch.items()}
      losses.append(model(**one | {"labels": row[None]}).loss.item())
  losses = np.reshape(losses, (len(rows), job.batch_size))
  np.testing.assert_array_equal(
    peft._ranker(job, model)(batch).numpy(), losses.argmin(0)
  )


@pytest.mark.oracle
def test_peft_refuses_what_pytorch_cannot_do():
  oracles.require("peft")
  from benchmarks.systems import peft

  with pytest.raises(ValueError, match="dtype=bfloat16 and weights_dtype="):
    peft.make_model(tiny("train_step", dtype="bfloat16"))
