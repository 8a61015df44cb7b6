import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from prompt_tuning.backbone import Backbone
from prompt_tuning.data.inputs import TaskInputs
from prompt_tuning.data.vocabularies import ByteVocabulary
from prompt_tuning.evaluate.generation import BeamSearch
from prompt_tuning.evaluate.predictors import Generation, RankClassification
from prompt_tuning.evaluate.tasks import TaskEvaluation
from prompt_tuning.prompts import initializers
from prompt_tuning.prompts.spec import PromptSpec
from prompt_tuning.runs import train
from prompt_tuning.runs.hardware import Hardware
from prompt_tuning.scale.programs import Run
from prompt_tuning.testing import fakes
from prompt_tuning.train import mesh as mesh_lib
from prompt_tuning.train import optimizers
from prompt_tuning.train.plan import Plan

BACKBONE = Backbone(
  config=fakes.tiny_config(vocab_size=384),
  vocabulary=ByteVocabulary(extra_ids=125),
  checkpoint="/no/such/checkpoint",
  dtype="bfloat16",
)


def make_run(**changes):
  arguments = {
    "backbone": BACKBONE,
    "feature_lengths": {"inputs": 12, "targets": 4},
    "batch_size": 8,
    "trainable": ["prompt/.*"],
    "optimizer": optimizers.adafactor(
      learning_rate=optimizers.constant(learning_rate=0.3)
    ),
    "prompt": PromptSpec(length=3, initializer=initializers.uniform),
    "model_dir": "not written",
    "inputs": TaskInputs(task="not read"),
    "plan": Plan(total_steps=1),
  }
  return Run(train.with_defaults(arguments | changes))


@pytest.fixture(name="mesh")
def _mesh():
  return mesh_lib.make_mesh(2, 2, devices=jax.devices()[:4])


@pytest.mark.multidevice
def test_the_train_step_is_laid_out_as_in_a_run(mesh):
  state, frozen, batch, _ = make_run().train(mesh).arguments
  table = frozen["token_embedder"]["embedding"]
  assert table.dtype == "bfloat16"
  assert table.sharding.spec == PartitionSpec("model", None)
  soft = state.trainable["prompt"]["embedding"]
  assert soft.dtype == "float32"
  assert soft.sharding.is_fully_replicated
  tokens = batch["encoder_input_tokens"]
  assert tokens.shape == (8, 15)
  assert tokens.sharding.shard_shape(tokens.shape) == (4, 15)


@pytest.mark.multidevice
def test_a_sequence_axis_cuts_the_inputs_alone():
  mesh = mesh_lib.make_mesh(2, 1, devices=jax.devices()[:4], sequence=2)
  run = make_run(
    feature_lengths={"inputs": 13, "targets": 4},
    hardware=Hardware(sequence=2),
  )
  for program in (run.train(mesh), run.score(mesh), run.decode(mesh)):
    jax.eval_shape(program.function, *program.arguments)
    batch = program.arguments[-2]
    shapes = {
      name: x.sharding.shard_shape(x.shape) for name, x in batch.items()
    }
    assert shapes["encoder_input_tokens"] == (4, 8)
    assert shapes["decoder_target_tokens"] == (4, 4)


@pytest.mark.multidevice
def test_the_train_step_overwrites_its_state(mesh):
  program = make_run().train(mesh)
  state, *_ = program.arguments
  out_state, _ = jax.eval_shape(program.function, *program.arguments)
  assert program.donated
  assert jax.tree.structure(out_state) == jax.tree.structure(state)


@pytest.mark.multidevice
def test_a_model_axis_halves_what_is_cut(mesh):
  run = make_run()
  whole = run.weight_bytes(mesh_lib.make_mesh(1, 1, devices=jax.devices()[:1]))
  cut = run.weight_bytes(mesh)
  stays = sum(
    int(np.prod(leaf.shape)) * leaf.dtype.itemsize
    for leaf in jax.tree.leaves(run.network.params)
    if leaf.ndim == 1 or leaf.dtype == np.float32  # Scales, and the prompt.
  )
  assert cut == (whole - stays) // 2 + stays


@pytest.mark.multidevice
@pytest.mark.parametrize(
  ("evaluations", "score", "decode"),
  [
    ((), (8, 2), (8, 4)),
    (
      (RankClassification(labels=("no", "maybe")),),
      (8, 6),  # Five bytes and an end of sequence.
      (8, 4),
    ),
    ((Generation(decoder=BeamSearch(num_decodes=2)),), (8, 2), (8, 4)),
  ],
)
def test_answers_are_found_as_the_recipe_says(mesh, evaluations, score, decode):
  run = make_run(
    evaluations=[
      TaskEvaluation(task="none", predictor=predictor, batch_size=8)
      for predictor in evaluations
    ]
  )
  for program, shape in ((run.score(mesh), score), (run.decode(mesh), decode)):
    tokens = jax.eval_shape(program.function, *program.arguments)
    assert tokens.shape == shape


@pytest.mark.multidevice
@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"batch_size": 7}, "batch of 7 examples does not divide"),
    (
      {
        "backbone": Backbone(
          config=fakes.tiny_config(vocab_size=385),
          vocabulary=BACKBONE.vocabulary,
          checkpoint="/no/such/checkpoint",
        )
      },
      "does not divide by the 2 devices",
    ),
  ],
)
def test_a_mesh_that_does_not_divide_is_refused(mesh, changes, message):
  with pytest.raises(ValueError, match=message):
    make_run(**changes).check_mesh(mesh)
