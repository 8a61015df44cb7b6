"""T5X's trainer, checkpoints and evaluation around this project's network.

Needs T5X, which is on no package registry: docs/t5x.md says how to install it.
"""

import dataclasses
import functools
import warnings

import jax
import numpy as np
import pytest
from flax import traverse_util

from prompt_tuning import paths
from prompt_tuning.backbone import Backbone
from prompt_tuning.checkpoints import t5x as t5x_layout
from prompt_tuning.data import text_tasks
from prompt_tuning.data.batches import evaluation_batches
from prompt_tuning.data.vocabularies import ByteVocabulary
from prompt_tuning.model.config import T5Config
from prompt_tuning.prompts import artifact, initializers
from prompt_tuning.prompts.spec import PromptSpec
from prompt_tuning.runs.network import build_network
from prompt_tuning.testing import fakes
from prompt_tuning.testing.fixtures import read_params
from prompt_tuning.testing.shared import fixture_path
from prompt_tuning.train import optimizers, partition
from prompt_tuning.train.step import init_state, make_train_step

with warnings.catch_warnings():
  # Of T5X's own imports.
  warnings.simplefilter("ignore")
  try:
    from jax.sharding import Mesh, PartitionSpec
    from t5x import checkpoints, partitioning, trainer, utils

    from prompt_tuning import t5x_bridge
  except ImportError as missing:
    pytest.skip(
      f"T5X cannot be imported ({missing}); docs/t5x.md says how to install it",
      allow_module_level=True,
    )

pytestmark = [
  # T5X and what it imports are older than what they call.
  pytest.mark.filterwarnings("ignore::DeprecationWarning"),
  pytest.mark.filterwarnings("ignore::UserWarning"),
  pytest.mark.timeout(300),
]

LENGTHS = {"inputs": 12, "targets": 4}
PROMPT_LENGTH = 4
BATCH_SIZE = 8
RULES = [("num_prompts", None), ("prompt", None), ("prompt_embed", None)]


def adafactor(step_offset=0):
  """The optimizer of optimizers/prompt_tuning.gin."""
  return optimizers.adafactor(
    learning_rate=optimizers.constant(learning_rate=0.3),
    step_offset=step_offset,
    multiply_by_parameter_scale=False,
    weight_decay_rate=1e-5,
  )


def spec(**changes):
  return PromptSpec(
    **{
      "length": PROMPT_LENGTH,
      "initializer": initializers.uniform,
      **changes,
    }
  )


def bridged(backbone, *, lengths=LENGTHS, **changes):
  settings = {"prompt": spec(), "optimizer": adafactor(), "seed": 3, **changes}
  return t5x_bridge.prompted_model(
    backbone=backbone, feature_lengths=lengths, **settings
  )


def batches(count, **changes):
  settings = {
    "batch_size": BATCH_SIZE,
    "inputs_length": LENGTHS["inputs"] + PROMPT_LENGTH,
    "targets_length": LENGTHS["targets"],
    "prompt_length": PROMPT_LENGTH,
    "vocab_size": 384,
    **changes,
  }
  rng = np.random.default_rng(0)
  return [fakes.tiny_batch(rng, **settings) for _ in range(count)]


class Partitioner(partitioning.PjitPartitioner):
  """T5X's on a mesh of a given shape, `data` x `model`.

  On CPUs its own takes all devices of a process for `model`, whatever
  num_partitions is; elsewhere (4, 2) is what 2 makes of eight devices.
  """

  def __init__(self, shape):
    super().__init__(
      num_partitions=shape[1],
      logical_axis_rules=partitioning.standard_logical_axis_rules(
        additional_rules=RULES
      ),
    )
    self.shape = shape

  @functools.cached_property
  def mesh(self):
    devices = np.array(jax.devices()[: np.prod(self.shape)])
    return Mesh(devices.reshape(self.shape), ["data", "model"])


class Engine:
  """What `t5x.train.train` sets up between a model and its steps."""

  def __init__(self, model, batch, *, mesh=(1, 1)):
    self.model = model
    self.partitioner = Partitioner(mesh)
    self.initializer = utils.TrainStateInitializer(
      optimizer_def=model.optimizer_def,
      init_fn=model.get_initial_variables,
      input_shapes={name: x.shape for name, x in batch.items()},
      input_types={name: x.dtype for name, x in batch.items()},
      partitioner=self.partitioner,
    )
    self.axes = self.initializer.train_state_axes
    self._step = self.partitioner.partition(
      functools.partial(
        trainer.train_with_lr, model=model, num_microbatches=None
      ),
      in_axis_resources=(self.axes, PartitionSpec("data"), None, None),
      out_axis_resources=(self.axes, None),
    )

  def restore(self, path, *, use_orbax=True, is_resuming=False, save=None):
    """Restores a base checkpoint, or one of a run; returns a manager too."""
    transform = t5x_bridge.from_backbone
    if is_resuming:
      transform = functools.partial(transform, is_resuming=True)
    return utils.create_checkpoint_manager_and_restore(
      self.initializer,
      self.partitioner,
      utils.RestoreCheckpointConfig(
        path=str(path),
        mode="specific",
        dtype="float32",
        fallback_to_scratch=not is_resuming,
        state_transformation_fns=[transform],
      ),
      str(path),
      jax.random.PRNGKey(0),
      save_checkpoint_cfg=save,
      model_dir=str(path.parent if save is None else save.folder),
      use_orbax=use_orbax,
    )

  def step(self, state, batch):
    """Takes a step; returns the state and the loss that T5X logs."""
    state, metrics = self._step(
      state, batch, np.float32(0.3), jax.random.PRNGKey(0)
    )
    return state, float(metrics["loss"].compute())


@dataclasses.dataclass
class Save(utils.SaveCheckpointConfig):
  """Where to save, beside how."""

  folder: str = ""


def flat(params):
  return {
    "/".join(path): np.asarray(leaf)
    for path, leaf in traverse_util.flatten_dict(params).items()
  }


def checkpoint_of(backbone):
  return paths.as_path(t5x_bridge.checkpoint_path(backbone.checkpoint))


def assert_frozen_as_in(state, expected):
  found = flat(state.params)
  assert found.keys() == {*expected, "prompt/embedding"}
  for path, array in expected.items():
    np.testing.assert_array_equal(found[path], array, err_msg=path)


# --- Restoring


def test_the_backbone_is_restored_and_the_prompt_starts_as_under_our_engine(
  backbone,
):
  model = bridged(backbone)
  state, _ = Engine(model, batches(1)[0]).restore(checkpoint_of(backbone))
  assert_frozen_as_in(state, flat(backbone.load().params))
  rng, _ = jax.random.split(jax.random.key(3))
  ours = build_network(backbone, spec(), rng=rng)
  np.testing.assert_array_equal(
    state.params["prompt"]["embedding"], ours.params["prompt"]["embedding"]
  )
  # The steps of this run, whatever the step of the checkpoint (7).
  assert int(state.step) == 0


def test_the_optimizer_holds_state_of_the_prompt_alone(backbone):
  model = bridged(backbone)
  state, _ = Engine(model, batches(1)[0]).restore(checkpoint_of(backbone))
  sizes = [leaf.size for leaf in jax.tree.leaves(state.param_states)]
  prompt_size = PROMPT_LENGTH * fakes.EMBED_DIM
  # The second moment, and counters and places that are not used.
  assert sorted(size for size in sizes if size > 1) == [prompt_size]


def test_a_weight_that_the_checkpoint_lacks_is_an_error(backbone):
  state = {"target": {"encoder": {"norm": 0}, "prompt": {"embedding": 0}}}
  checkpoint = {"target": {"encoder": {"nor": 1}}, "state": {"step": 7}}
  with pytest.raises(ValueError, match=r"lacks 1 .* encoder/norm; .* has are"):
    t5x_bridge.from_backbone(checkpoint, state)


@pytest.mark.parametrize("layout", ["ckpt_t5x", "ckpt_orbax"])
def test_checkpoints_of_t5x_load_and_give_its_loss(layout):
  backbone = fixture_backbone(layout)
  model, batch = fixture_model(backbone), fixture_batch(0)
  state, _ = Engine(model, batch).restore(checkpoint_of(backbone))
  assert_frozen_as_in(state, flat(read_params(fixture_path("params.npz"))))
  loss, _ = jax.jit(model.loss_fn)(state.params, batch, None)
  expected = np.load(fixture_path("forward.npz"))["prefix_f32/loss"]
  np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_a_run_of_googles_is_a_backbone_and_a_prompt():
  folder = fixture_path("model_dir_prompt")
  name = "checkpoint_1100010"
  file = folder / "numpy_checkpoints" / name / "encoder.prompt.prompt.prompt"
  backbone = fixture_backbone("ckpt_t5x", checkpoint=folder / name)
  model = bridged(
    backbone,
    lengths={"inputs": 24, "targets": 8},
    prompt=None,
    prompt_file=str(file),
    allow_missing_card=True,
    optimizer=None,
  )
  state, _ = Engine(model, fixture_batch(0)).restore(folder / name)
  assert_frozen_as_in(state, flat(read_params(fixture_path("params.npz"))))
  prompt = state.params["prompt"]["embedding"]
  np.testing.assert_array_equal(prompt, np.load(file))


def test_scanned_layers_are_not_taken_for_others():
  folder = fixture_path("ckpt_t5x_scan") / "checkpoint_0"
  checkpoint = checkpoints.load_t5x_checkpoint(str(folder))
  state = {"target": fakes.tiny_params(fakes.tiny_model())}
  with pytest.raises(ValueError, match=r"lacks .* prompt_tuning\.export"):
    t5x_bridge.from_backbone(checkpoint, state)


@pytest.mark.parametrize(
  ("storage", "dtype"),
  [("zarr", "float32"), ("zarr", "bfloat16"), ("msgpack", "float32")],
)
def test_t5x_reads_what_we_write_in_its_layout(tmp_path, storage, dtype):
  params = fakes.tiny_params(fakes.tiny_model())
  path = t5x_layout.save(
    params, tmp_path, step=5, storage=t5x_layout.Storage(storage), dtype=dtype
  )
  read = checkpoints.load_t5x_checkpoint(str(path))
  assert int(read["state"]["step"]) == 5
  found, written = flat(read["target"]), flat(params)
  assert found.keys() == written.keys()
  for name, array in written.items():
    assert found[name].dtype == dtype
    np.testing.assert_array_equal(found[name], array.astype(dtype))


# --- Training


def our_steps(backbone, prompt, batches_):
  """Losses and prompts of this project's own engine."""
  rng, _ = jax.random.split(jax.random.key(3))
  network = build_network(backbone, prompt, rng=rng)
  parts = partition.split(network.params, ("prompt/.*",))
  optimizer = adafactor()
  state = init_state(parts.trainable, optimizer)
  step = jax.jit(make_train_step(network.model, optimizer))
  for batch in batches_:
    state, metrics = step(state, parts.frozen, batch, jax.random.key(0))
    yield metrics["loss_sum"], state.trainable["prompt"]["embedding"]


@pytest.mark.parametrize(
  ("attention", "mesh"),
  [("full", (1, 1)), ("full", (4, 2)), ("full", (1, 8)), ("prefix", (1, 1))],
  ids=str,
)
def test_steps_are_those_of_our_engine_and_leave_the_rest_bit_for_bit(
  backbone, attention, mesh
):
  prompt = spec(attention=attention)
  changes = {}
  if attention == "prefix":  # No slots stand in the rows.
    changes = {"prompt_length": 0, "inputs_length": LENGTHS["inputs"]}
  given = batches(5, **changes)
  engine = Engine(bridged(backbone, prompt=prompt), given[0], mesh=mesh)
  state, _ = engine.restore(checkpoint_of(backbone))
  for batch, (loss, embedding) in zip(
    given, our_steps(backbone, prompt, given), strict=True
  ):
    state, theirs = engine.step(state, batch)
    np.testing.assert_allclose(theirs, loss, rtol=1e-5)
    np.testing.assert_allclose(
      state.params["prompt"]["embedding"], embedding, rtol=1e-4, atol=1e-5
    )
  assert int(state.step) == 5
  assert_frozen_as_in(state, flat(backbone.load().params))


@pytest.mark.parametrize("first", [0, 1100000])
def test_ten_steps_are_those_of_googles_prompt_tuning(first):
  backbone = fixture_backbone("ckpt_t5x")
  model = fixture_model(backbone, optimizer=adafactor(step_offset=first))
  reference = np.load(fixture_path(f"adafactor_10steps_step{first}.npz"))
  engine = Engine(model, fixture_batch(0))
  state, _ = engine.restore(checkpoint_of(backbone))
  for number in range(10):
    state, loss = engine.step(state, fixture_batch(number))
    expected = reference["losses"][number]
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    np.testing.assert_allclose(
      np.asarray(state.params["prompt"]["embedding"]),
      reference["prompts"][number + 1],
      atol=2e-5,
    )


def test_no_gradient_of_the_backbone_is_computed(backbone):
  """All gradients are asked for here, so that no compiler may drop them."""
  model, batch = bridged(backbone), batches(1)[0]
  state, _ = Engine(model, batch).restore(checkpoint_of(backbone))
  gradient = jax.grad(model.loss_fn, has_aux=True)
  key = jax.random.PRNGKey(0)
  gradients, _ = jax.jit(gradient)(state.params, batch, key)
  for path, leaf in flat(gradients).items():
    assert leaf.any() == (path == "prompt/embedding"), path

  def flops(function):
    lowered = jax.jit(function).lower(state.params, batch, key)
    return lowered.compile().cost_analysis()["flops"]

  def whole(params, batch, key):
    loss_fn = super(t5x_bridge.PromptedModel, model).loss_fn
    return jax.grad(loss_fn, has_aux=True)(params, batch, key)

  def of_prompt(params, batch, key):
    return {"prompt": gradient(params, batch, key)[0]["prompt"]}

  # T5X's metrics are a part of the first; they are no products of matrices.
  assert flops(gradient) < 1.02 * flops(of_prompt)
  assert flops(whole) > 1.25 * flops(gradient)


@pytest.mark.parametrize("use_orbax", [True, False])
def test_a_run_that_is_taken_up_again_is_one_never_left(
  backbone, tmp_path, use_orbax
):
  model, given = bridged(backbone), batches(6)
  writer = t5x_bridge.prompt_writer(
    model=model,
    prompt=spec(),
    backbone=backbone,
    model_dir=str(tmp_path),
    task="a task",
  )
  save = Save(folder=str(tmp_path), state_transformation_fns=[writer])
  engine = Engine(model, given[0])
  state, manager = engine.restore(
    checkpoint_of(backbone), use_orbax=use_orbax, save=save
  )
  for batch in given[:3]:
    state, _ = engine.step(state, batch)
  manager.save(state, save.state_transformation_fns)
  manager.wait_until_finished()
  manager.close()
  resumed, _ = engine.restore(
    tmp_path / "checkpoint_3", use_orbax=use_orbax, is_resuming=True
  )
  for batch in given[3:]:
    state, _ = engine.step(state, batch)
    resumed, _ = engine.step(resumed, batch)
  jax.tree.map(np.testing.assert_array_equal, resumed, state)
  assert int(resumed.step) == 6


def test_the_prompt_is_written_with_its_card(backbone, tmp_path):
  model = bridged(backbone)
  writer = t5x_bridge.prompt_writer(
    model=model,
    prompt=spec(),
    backbone=backbone,
    model_dir=str(tmp_path),
    task="a task",
  )
  state, _ = Engine(model, batches(1)[0]).restore(checkpoint_of(backbone))
  content = state.state_dict()
  assert writer(content, "infos") == (content, "infos")
  saved = artifact.load_prompt(
    tmp_path / "prompts" / "prompt_0.npy",
    backbone_fingerprint=backbone.load().fingerprint,
  )
  np.testing.assert_array_equal(
    saved.array, state.params["prompt"]["embedding"]
  )
  assert saved.card.task == "a task"
  assert saved.card.initialiser == "uniform"


# --- Data


def test_t5x_reads_the_rows_that_our_engine_reads(backbone):
  """In tests/unit/data/seqio_features_test.py is what does not take T5X."""
  add_task("t5x_bridge_rows")
  model = bridged(backbone)
  config = utils.DatasetConfig(
    mixture_or_task_name="t5x_bridge_rows",
    task_feature_lengths=None,
    split="train",
    batch_size=4,
    shuffle=False,
    seed=0,
  )
  (theirs,) = utils.get_dataset(
    config, 0, 1, model.FEATURE_CONVERTER_CLS, num_epochs=1
  ).as_numpy_iterator()
  task = text_tasks.get("t5x_bridge_rows")
  (ours,) = evaluation_batches(
    task.examples("train"), model.builder, batch_size=4
  )
  assert theirs.keys() == ours.features.keys()
  for name, array in ours.features.items():
    np.testing.assert_array_equal(theirs[name], array)


def add_task(name):
  texts = ["a short", "one that is cut to fit", "another", "the last of four"]
  rows = [{"inputs": text, "targets": "no"} for text in texts]
  text_tasks.add(
    name,
    text_tasks.in_memory({"train": rows}),
    vocabulary=ByteVocabulary(extra_ids=125),
  )


# --- Settings


def test_what_t5x_would_not_restore_is_refused(backbone, tmp_path):
  (tmp_path / "config.json").write_text("{}")
  other = dataclasses.replace(backbone, checkpoint=str(tmp_path))
  with pytest.raises(ValueError, match=r"Hugging Face.*prompt_tuning\.export"):
    bridged(other)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"dtype": "int8"}, "BACKBONE_DTYPE is 'int8'.*float32"),
    ({"dtype": "bfloat16"}, "BACKBONE_DTYPE is 'bfloat16'.*float32"),
    ({"scan_layers": True}, "SCAN_LAYERS"),
  ],
)
def test_backbones_that_are_kept_otherwise_are_refused(
  backbone, changes, message
):
  if "scan_layers" in changes:
    changes = {"config": dataclasses.replace(backbone.config, **changes)}
  with pytest.raises(ValueError, match=message):
    bridged(dataclasses.replace(backbone, **changes))


def test_a_prompt_to_train_and_one_to_evaluate_are_refused(backbone):
  with pytest.raises(ValueError, match=r"Both PROMPT and PROMPT_FILE"):
    bridged(backbone, prompt_file="prompt.npy")


# --- Material


def fixture_backbone(layout, *, checkpoint=None):
  path = checkpoint or fixture_path(layout) / "checkpoint_0"
  return Backbone(
    config=T5Config(
      vocab_size=1024,
      embed_dim=48,
      num_heads=4,
      head_dim=16,
      mlp_dim=96,
      num_encoder_layers=3,
      num_decoder_layers=2,
    ),
    vocabulary=ByteVocabulary(extra_ids=125),
    checkpoint=str(path),
  )


def fixture_model(backbone, **changes):
  start = functools.partial(
    initializers.from_file,
    path=fixture_path("prompt_init.npy"),
    allow_missing_card=True,
  )
  prompt = PromptSpec(length=10, initializer=start)
  lengths = {"inputs": 24, "targets": 8}
  return bridged(backbone, lengths=lengths, prompt=prompt, **changes)


def fixture_batch(number):
  """Batch `number` with the slots in front, as google's network has them."""
  stored = np.load(fixture_path("batches.npz"))
  prefix = f"{number}/"
  batch = {
    name.removeprefix(prefix): stored[name]
    for name in stored
    if name.startswith(prefix)
  }
  slots = np.broadcast_to(np.arange(1024, 1034, dtype=np.int32), (4, 10))
  tokens = batch["encoder_input_tokens"]
  batch["encoder_input_tokens"] = np.concatenate([slots, tokens], axis=1)
  return batch
