"""What a run needs on a mesh, by its shapes and as it then lies there."""

import dataclasses
import math

import jax
import numpy as np
import pytest

from prompt_tuning.backbone import Backbone
from prompt_tuning.data.features import FeatureLengths
from prompt_tuning.data.inputs import TaskInputs
from prompt_tuning.data.vocabularies import ByteVocabulary
from prompt_tuning.model import t5
from prompt_tuning.prompts import initializers
from prompt_tuning.prompts.spec import PromptSpec
from prompt_tuning.runs import evaluate, train
from prompt_tuning.runs.abstract import (
  AbstractRun,
  abstract_mesh,
  answering_need,
  joint_need,
  num_bytes,
)
from prompt_tuning.runs.hardware import Hardware
from prompt_tuning.runs.network import abstract_network
from prompt_tuning.runs.placement import make_mesh
from prompt_tuning.testing import fakes
from prompt_tuning.train import mesh as mesh_lib
from prompt_tuning.train import optimizers, partition, plan
from prompt_tuning.train.mesh_choice import MeshShape, Need
from prompt_tuning.train.step import init_state

LENGTHS = {"inputs": 13, "targets": 4}
BACKBONE = Backbone(
  config=fakes.tiny_config(vocab_size=384),
  vocabulary=ByteVocabulary(extra_ids=125),
  checkpoint="/no/such/checkpoint",
)
SHAPES = [
  MeshShape(data=8, model=1),
  MeshShape(data=2, model=4),
  MeshShape(data=1, sequence=4, model=2),
]


def _arguments(patterns=("prompt/.*",), **changes):
  arguments = {
    "model_dir": "/no/such/folder",
    "backbone": BACKBONE,
    "inputs": TaskInputs(task="any"),
    "feature_lengths": LENGTHS,
    "batch_size": 8,
    "trainable": patterns,
    "optimizer": optimizers.adamw(
      learning_rate=optimizers.constant(learning_rate=0.3)
    ),
    "plan": plan.Plan(total_steps=1),
    "prompt": PromptSpec(length=3, initializer=initializers.uniform),
    "hardware": Hardware(model="auto"),
  }
  return train.with_defaults(arguments | changes)


def _run(*args, **changes):
  return AbstractRun(_arguments(*args, **changes))


def _on_first(tree):
  """Bytes of arrays that are on the first device."""
  first = jax.devices()[0]
  return sum(
    shard.data.nbytes
    for leaf in jax.tree.leaves(tree)
    for shard in leaf.addressable_shards
    if shard.device == first
  )


@pytest.mark.parametrize("patterns", [("prompt/.*",), (".*",)])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_what_is_needed_is_what_lies_there(shape, patterns):
  run = _run(patterns)
  mesh = mesh_lib.make_mesh(shape.data, shape.model, sequence=shape.sequence)
  params = jax.tree.map(
    lambda x: np.zeros(x.shape, x.dtype), run.network.params
  )
  parts = partition.split(params, patterns)
  axes = t5.logical_axes(run.network.model)
  place = lambda part: mesh_lib.place(  # noqa: E731
    part, mesh_lib.param_shardings(part, axes, mesh=mesh)
  )
  trainable = place(parts.trainable)
  optimizer = optimizers.adamw(
    learning_rate=optimizers.constant(learning_rate=0.3)
  )
  state = jax.jit(
    lambda p: init_state(p, optimizer), out_shardings=run.state_shardings(mesh)
  )(trainable)
  frozen = place(parts.frozen)
  gradients = _on_first(trainable)
  expected = _on_first(frozen) + _on_first(state) + gradients
  assert run.need(shape).parameters == expected


def test_more_devices_hold_fewer_activations_each():
  config = dataclasses.replace(BACKBONE.config, num_heads=8)
  run = _run(backbone=dataclasses.replace(BACKBONE, config=config))
  whole = run.need(MeshShape(data=1, model=1)).activations
  by_data = run.need(MeshShape(data=8, model=1)).activations
  by_sequence = run.need(MeshShape(data=1, sequence=8, model=1)).activations
  by_model = run.need(MeshShape(data=1, model=8)).activations
  assert abs(by_data - whole / 8) <= 1
  # What the decoder holds is whole, as is the residual stream.
  assert whole / 8 < by_sequence < whole / 2
  assert whole / 8 < by_model < whole


def test_auto_takes_the_mesh_that_fits():
  run = _run((".*",))
  needs = {
    model: run.need(MeshShape(data=8 // model, model=model))
    for model in (1, 2, 4)
  }
  for model in (2, 4):
    smaller, fitting = needs[model // 2], needs[model]
    memory = fitting.parameters + fitting.activations
    assert memory < smaller.parameters + smaller.activations
    # A tenth is left to what is not counted.
    taken = Hardware(model="auto").shape(
      lambda: run.need,
      rows=8,
      num_devices=8,
      memory_bytes=lambda m=memory: math.ceil(m / 0.9),
    )
    assert taken == MeshShape(data=8 // model, model=model)


def test_a_number_is_not_asked_about():
  def need():
    raise AssertionError

  taken = Hardware(data=2, sequence=2, model=2).shape(
    need, rows=3, num_devices=8
  )
  assert taken == MeshShape(data=2, sequence=2, model=2)
  one = Hardware(model="auto").shape(need, rows=3, num_devices=1)
  assert one == MeshShape(data=1, model=1)


@pytest.mark.parametrize(
  ("axes", "message"),
  [
    ({"model": "best"}, "MODEL_PARTITIONS is a number of devices or 'auto'"),
    ({"model": 2.0}, "MODEL_PARTITIONS is a number"),
    ({"data": "auto"}, "DATA_PARTITIONS is a number of devices, got 'auto'"),
    ({"sequence": None}, "SEQUENCE_PARTITIONS is a number"),
    ({"sequence": True}, "SEQUENCE_PARTITIONS is a number"),
  ],
)
def test_what_is_no_number_is_refused(axes, message):
  with pytest.raises(ValueError, match=message):
    Hardware(**axes)


def test_what_is_wrong_with_a_run_is_not_a_mesh_that_does_not_fit():
  with pytest.raises(ValueError, match="matches none") as error:
    make_mesh([_arguments(("promt/.*",))])
  assert "mesh" not in str(error.value)


def test_a_job_needs_what_its_runs_need_and_one_backbone():
  shape = MeshShape(data=2, model=4)
  runs = [_run(), _run(feature_lengths={"inputs": 29, "targets": 4})]
  alone = [run.need(shape) for run in runs]
  together = joint_need(runs, shape)
  assert together.activations == sum(each.activations for each in alone)
  frozen = sum(each.parameters for each in alone) - together.parameters
  mesh = abstract_mesh(shape)
  shardings = runs[0].shardings(runs[0].frozen, mesh)
  assert frozen == num_bytes(runs[0].frozen, shardings)


def test_rows_of_packed_examples_divide_by_their_own_length():
  shape = MeshShape(data=2, sequence=4, model=1)
  # 13 + 3 tokens divide by 4, 12 + 3 do not.
  _run(packed_length=32, feature_lengths={"inputs": 12, "targets": 4}).need(
    shape
  )
  with pytest.raises(ValueError, match=r"PACKED_LENGTH is 33: rows of 33 .*32"):
    _run(packed_length=33).need(shape)


@pytest.mark.parametrize("setting", ["num_microbatches", "packed_length"])
def test_what_the_run_refuses_does_not_end_the_choice(setting):
  assert make_mesh([_arguments(**{setting: 0})]).size == 8


def test_a_microbatch_is_cut_over_the_devices():
  run = _run(num_microbatches=4)
  taken = Hardware(model="auto").shape(
    lambda: run.need, rows=run.rows, num_devices=8, memory_bytes=lambda: None
  )
  assert taken == MeshShape(data=2, model=4)


def test_answers_need_less_than_training():
  shape = MeshShape(data=2, model=4)
  run = _run()
  need = answering_need(
    run.network,
    shape,
    lengths=FeatureLengths(**LENGTHS),
    batch_size=8,
    rules=mesh_lib.DEFAULT_RULES,
  )
  assert isinstance(need, Need)
  assert need.parameters < run.need(shape).parameters
  assert need.activations < run.need(shape).activations


def test_answers_are_asked_for_on_the_chosen_mesh():
  network = abstract_network(BACKBONE, None)
  params = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), network.params)
  network = dataclasses.replace(network, params=params)
  lengths = FeatureLengths(**LENGTHS)
  hardware = Hardware(sequence=2, model="auto")
  on_mesh, placed = evaluate.on_devices(
    network, hardware, lengths=lengths, batch_size=3
  )
  assert on_mesh.model.sharding is not None
  mesh = jax.tree.leaves(placed)[0].sharding.mesh
  assert mesh.shape == {"data": 4, "sequence": 2, "model": 1}
