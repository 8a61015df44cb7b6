"""Every experiment's jobs: their first three steps, on a tiny model."""

import functools

import pytest
from absl import flags

from prompt_tuning import config, paths
from prompt_tuning.checkpoints import t5x
from prompt_tuning.config import members
from prompt_tuning.runs import evaluate, train
from prompt_tuning.sweeps import jobs as sweep_jobs
from prompt_tuning.sweeps.grid import Grid
from prompt_tuning.testing import fakes

FOLDER = "papers/lester2021"
RECIPES = sorted(
  f"{FOLDER}/{path.name}"
  for path in (paths.recipe_roots()[0] / FOLDER).glob("*.gin")
)
WORDS = paths.embedded_dir() / "sentencepiece.model"
# Of every backbone the shape of the fake, whatever a rung says.
SHAPE = {
  name.upper(): getattr(fakes.tiny_config(), name)
  for name in (
    *("embed_dim", "num_heads", "head_dim", "mlp_dim"),
    *("num_encoder_layers", "num_decoder_layers"),
  )
}
SMALL = {
  "ACTIVATION_DTYPE": "float32",
  "TASK_FEATURE_LENGTHS": {"inputs": 40, "targets": 4},
  "BATCH_SIZE": 4,
  "tasks.TaskEvaluation.num_examples": 8,
}


def jobs(recipe):
  """Returns the jobs of an experiment on the tiny model."""
  config.parse([recipe], entry=Grid)
  grid = config.call(Grid)
  task = "small_world" if "multi_task" in recipe else "small_world_topic"
  files = [f"tasks/{task}.gin"]
  if "multi_task" not in recipe:
    files.append("decoding/rank.gin")
  settings = sweep_jobs.Settings(
    folder="sweep", backbone=["models/t5_1_1.gin"], gin_files=files
  )
  return sweep_jobs.plan(grid, settings)


def first_run(command):
  """Returns (files, bindings) of a command, of its first member."""
  values = flags.FlagValues()
  config.define_flags(values)
  members.define_flags(values)
  values(config.rewrite_gin_args(command))
  files, bindings = [*values.gin_file], [*values.gin_bindings]
  for text in values.member[:1]:
    member = members.read_member(text)
    files += member.gin_files
    bindings += member.bindings
  return files, bindings


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
  folder = tmp_path_factory.mktemp("backbone")

  @functools.cache
  def of_size(vocab_size):
    model = fakes.tiny_model(vocab_size=vocab_size)
    params = fakes.tiny_params(model)
    return str(t5x.save(params, folder / str(vocab_size), step=0))

  return of_size


@pytest.fixture(scope="module")
def target_files(tmp_path_factory):
  # A task of one name has the same files wherever it is described.
  file = tmp_path_factory.mktemp("target") / "mrpc.jsonl"
  row = '{"sentence1": "a", "sentence2": "b", "label": 1}\n'
  file.write_text(row * 4)
  return {"mrpc_from_qqp": {"validation": str(file)}}


@pytest.mark.slow
# A prompt of one token has no room for five labels.
@pytest.mark.filterwarnings("ignore:class_labels")
@pytest.mark.parametrize(
  ("recipe", "number"),
  [(r, n) for r in RECIPES for n in range(len(jobs(r)))],
)
def test_its_first_steps(recipe, number, checkpoint, target_files, tmp_path):
  command = jobs(recipe)[number].commands[0]
  files, bindings = first_run(command)
  is_evaluation = command[0] == "prompt_tuning.eval"
  own = {**SHAPE, **SMALL, "VOCABULARY_PATH": str(WORDS)}
  own |= {"NUM_EMBEDDINGS": 1024, "INITIAL_CHECKPOINT_PATH": checkpoint(1024)}
  if not is_evaluation:
    own["TRAIN_STEPS"] = 3
  if "runs/transfer.gin" in files:
    own["TARGET_FILES"] = target_files
    own["TASK_FEATURE_LENGTHS"] = {"inputs": 40, "targets": 16}
  place = "EVAL_OUTPUT_DIR" if is_evaluation else "MODEL_DIR"
  own[place] = str(tmp_path / "run")
  entry = evaluate.evaluate if is_evaluation else train.train
  given = [*bindings, *(f"{name}={value!r}" for name, value in own.items())]
  config.parse(files, given, entry=entry)
  result = config.call(entry)
  if is_evaluation:
    assert 0 <= result["small_world_topic/accuracy"] <= 100
    return
  assert result.step == 3
  assert "mean/score" in result.metrics
  if "runs/transfer.gin" in files:
    assert "target_mrpc_from_qqp/accuracy" in result.final
