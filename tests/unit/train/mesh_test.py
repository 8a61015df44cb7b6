"""Tests of mesh, axis rules and shardings that need no devices."""

import jax
import numpy as np
import optax
import pytest
from jax.sharding import AbstractMesh, AxisType, PartitionSpec

from prompt_tuning.model import t5
from prompt_tuning.testing import fakes
from prompt_tuning.train import mesh as mesh_lib
from prompt_tuning.train import partition
from prompt_tuning.train.step import TrainState

MESH = AbstractMesh((4, 1, 2), ("data", "sequence", "model"))
LONG = AbstractMesh((2, 4, 1), ("data", "sequence", "model"))


def _shape(*shape):
  return jax.ShapeDtypeStruct(shape, np.float32)


def _specs(shapes, axes, **kwargs):
  shardings = mesh_lib.param_shardings(shapes, axes, mesh=MESH, **kwargs)
  return jax.tree.map(lambda s: s.spec, shardings)


def test_default_mesh_has_all_devices_on_auto_axes():
  mesh = mesh_lib.make_mesh()
  assert mesh.shape == {
    "data": jax.device_count(),
    "sequence": 1,
    "model": 1,
  }
  assert set(mesh.axis_types) == {AxisType.Auto}


def test_named_devices_make_the_mesh():
  mesh = mesh_lib.make_mesh(1, 1, devices=jax.devices()[:1])
  assert mesh.devices.tolist() == [[[jax.devices()[0]]]]


@pytest.mark.parametrize(
  ("data", "model", "message"),
  [
    (3, 1, "data=3 x model=1 does not use the 1 devices"),
    (-1, 2, "axes whose product divides 1"),
    (0, 1, "must be a positive number"),
    (1, -1, "must be a positive number"),
  ],
)
def test_a_mesh_of_other_size_is_explained(data, model, message):
  with pytest.raises(ValueError, match=message):
    mesh_lib.make_mesh(data, model, devices=jax.devices()[:1])


def test_every_parameter_of_t5_has_a_rule():
  model = fakes.tiny_model(fakes.tiny_prompt())
  specs = _specs(t5.abstract_params(model), t5.logical_axes(model))
  layer = specs["encoder"]["layers_0"]
  assert layer["attention"]["query"]["kernel"] == PartitionSpec(None, "model")
  assert layer["attention"]["out"]["kernel"] == PartitionSpec("model", None)
  assert layer["mlp"]["wo"]["kernel"] == PartitionSpec("model", None)
  assert layer["pre_mlp_layer_norm"]["scale"] == PartitionSpec(None)
  embedding = specs["token_embedder"]["embedding"]
  assert embedding == PartitionSpec("model", None)
  assert specs["prompt"]["embedding"] == PartitionSpec(None, None)


def test_shardings_of_a_part_take_the_axes_of_the_whole():
  model = fakes.tiny_model(fakes.tiny_prompt())
  parts = partition.split(t5.abstract_params(model), ["prompt/.*"])
  specs = _specs(parts.trainable, t5.logical_axes(model))
  assert list(specs) == ["prompt"]


def test_a_mesh_axis_is_used_once_in_a_parameter():
  specs = _specs({"w": _shape(4, 4)}, {"w": ("mlp", "vocab")})
  assert specs["w"] == PartitionSpec("model", None)


def test_rules_can_be_changed():
  rules = (("mlp", None), ("embed", "model"))
  specs = _specs({"w": _shape(4, 3)}, {"w": ("embed", "mlp")}, rules=rules)
  assert specs["w"] == PartitionSpec("model", None)


@pytest.mark.parametrize(
  ("shape", "axes", "message"),
  [
    (
      (3, 8),
      ("heads", "embed"),
      r"'a/w' \(3, 8\): its axis 'heads' of size 3 does not divide by the 2 "
      r"devices.*data=4 x model=2.*\('heads', None\)",
    ),
    ((4,), ("haeds",), "'a/w' has the logical axis 'haeds'.*no rule"),
    ((4, 4), ("heads",), "'a/w' has the shape"),
  ],
)
def test_a_parameter_that_cannot_be_cut_is_named(shape, axes, message):
  with pytest.raises(ValueError, match=message):
    _specs({"a": {"w": _shape(*shape)}}, {"a": {"w": axes}})


def _state_specs(optimizer, shapes, axes):
  state = jax.eval_shape(
    lambda p: TrainState(
      step=np.int32(0), trainable=p, opt_state=optimizer.init(p)
    ),
    shapes,
  )
  params = mesh_lib.param_shardings(shapes, axes, mesh=MESH)
  shardings = mesh_lib.state_shardings(state, params, mesh=MESH)
  assert jax.tree.structure(shardings) == jax.tree.structure(state)
  leaves = jax.tree_util.tree_leaves_with_path(
    jax.tree.map(lambda s: s.spec, shardings),
    is_leaf=lambda x: isinstance(x, PartitionSpec),
  )
  return {partition.path_name(path): spec for path, spec in leaves}


def test_moments_are_cut_like_their_parameters():
  specs = _state_specs(
    optax.adamw(0.1),
    {"a": {"w": _shape(8, 6)}},
    {"a": {"w": ("mlp", "embed")}},
  )
  cut = PartitionSpec("model", None)
  assert specs["trainable/a/w"] == cut
  assert specs["opt_state/0/mu/a/w"] == cut
  assert specs["opt_state/0/nu/a/w"] == cut
  assert specs["step"] == PartitionSpec()


def test_factored_moments_keep_the_axes_that_are_left():
  specs = _state_specs(
    optax.scale_by_factored_rms(min_dim_size_to_factor=1),
    {"w": _shape(8, 6)},
    {"w": ("mlp", "embed")},
  )
  # Optax calls the mean over the longest axis a row: [6], and [8] the column.
  assert specs["opt_state/v_row/w"] == PartitionSpec(None)
  assert specs["opt_state/v_col/w"] == PartitionSpec("model")
  assert specs["opt_state/v/w"] == PartitionSpec()


@pytest.mark.parametrize("size", [4, 8, 32])
def test_batches_that_divide_pass(size):
  mesh_lib.check_batch_size(size, MESH)


@pytest.mark.parametrize(
  ("size", "remedy"), [(6, "4 or 8"), (3, "batch size of 4")]
)
def test_a_batch_that_does_not_divide_is_explained(size, remedy):
  message = f"{size} examples.*4 devices.*data=4 x model=2.*{remedy}"
  with pytest.raises(ValueError, match=message):
    mesh_lib.check_batch_size(size, MESH)
  with pytest.raises(ValueError, match=message):
    mesh_lib.shard_batch({"x": np.zeros((size, 2))}, MESH)


def test_a_length_that_does_not_divide_is_explained():
  mesh_lib.check_length(62, LONG, num_added=18)
  message = (
    r"\['inputs'\] is 62: rows of 62 tokens and 19 of slots and template.*"
    "4 devices.*data=2 x sequence=4 x model=1.*Use 61 or 65, or another mesh"
  )
  with pytest.raises(ValueError, match=message):
    mesh_lib.check_length(62, LONG, num_added=19)
  with pytest.raises(ValueError, match=r"PACKED_LENGTH is 30: .*Use 28 or 32"):
    mesh_lib.check_length(30, LONG, name="PACKED_LENGTH")


def test_the_sequence_of_the_encoder_alone_is_cut():
  mesh = mesh_lib.make_mesh(2, 1, sequence=4)
  batch = {
    "encoder_input_tokens": np.arange(64).reshape(4, 16),
    "decoder_target_tokens": np.arange(12).reshape(4, 3),
  }
  placed = mesh_lib.shard_batch(batch, mesh)
  shapes = {
    name: value.addressable_shards[0].data.shape
    for name, value in placed.items()
  }
  assert shapes == {
    "encoder_input_tokens": (2, 4),
    "decoder_target_tokens": (2, 3),
  }
  several = {name: np.stack([value] * 3) for name, value in batch.items()}
  placed = mesh_lib.shard_batch(several, mesh, axis=1)
  for name, value in several.items():
    np.testing.assert_array_equal(placed[name], value)
    shard = placed[name].addressable_shards[0].data.shape
    assert shard == (3, *shapes[name])


def test_the_only_process_reads_every_row():
  mesh = mesh_lib.make_mesh()
  size = 2 * jax.device_count()
  assert mesh_lib.local_rows(size, mesh) == list(range(size))


def test_placed_parameters_lie_as_asked():
  mesh = mesh_lib.make_mesh(devices=jax.devices()[:1])
  params = {"a": np.arange(3.0, dtype=np.float32)}
  shardings = {"a": mesh_lib.replicated(mesh)}
  placed = mesh_lib.place(params, shardings)
  assert placed["a"].sharding == shardings["a"]
  np.testing.assert_array_equal(placed["a"], params["a"])


def test_features_of_different_lengths_are_refused():
  batch = {"a": np.zeros((4, 2)), "b": np.zeros((3, 2))}
  with pytest.raises(ValueError, match=r"differ in length.*\(3, 2\)"):
    mesh_lib.shard_batch(batch, MESH)


def test_a_batch_keeps_its_values():
  batch = fakes.tiny_batch(np.random.default_rng(0))
  mesh = mesh_lib.make_mesh(devices=jax.devices()[:1])
  sharded = mesh_lib.shard_batch(batch, mesh)
  assert sharded.keys() == batch.keys()
  for name, value in batch.items():
    np.testing.assert_array_equal(sharded[name], value)
    assert sharded[name].dtype == value.dtype
