"""Every experiment: the first three steps of its jobs, on a tiny model."""

import functools
import itertools
import json

import jax
import numpy as np
import pytest
from absl import flags

from prompt_tuning import config, paths
from prompt_tuning.checkpoints import t5x
from prompt_tuning.config import members
from prompt_tuning.data.prompt_pretraining.wording import Format
from prompt_tuning.runs import evaluate, neighbors, train
from prompt_tuning.sweeps import jobs as sweep_jobs
from prompt_tuning.sweeps.grid import Grid
from prompt_tuning.tasks.small_world import reports
from prompt_tuning.testing import fakes, shared

RECIPES = sorted(
  f"papers/{folder}/{path.name}"
  for folder in ("lester2021", "ppt2022")
  for path in (paths.recipe_roots()[0] / "papers" / folder).glob("*.gin")
  if path.name
  not in ("few_shot_steps.gin", "ensemble.gin", "interpretability.gin")
)
# The words of these are not the small world's.
ENGLISH = ("papers/ppt2022/pilot_patterns.gin",)
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
  if "ppt2022" in recipe:
    return sweep_jobs.plan(grid, ppt_settings(recipe))
  task = "small_world" if "multi_task" in recipe else "small_world_topic"
  files = [f"tasks/{task}.gin"]
  if "multi_task" not in recipe:
    files.append("decoding/rank.gin")
  settings = sweep_jobs.Settings(
    folder="sweep", backbone=["models/t5_1_1.gin"], gin_files=files
  )
  return sweep_jobs.plan(grid, settings)


def ppt_settings(recipe):
  """Returns what stands around one of PPT's experiments."""
  name = recipe.split("/")[-1]
  files, bindings = ["tasks/small_world_ppt.gin"], ["PPT_TASK='sentiment'"]
  if name.startswith("pretrain"):
    files, bindings = [], []
    if "sentences" not in name:
      files = ["embedded/prompt_pretrain.gin"]
  elif recipe in ENGLISH:
    files, bindings = ["tasks/pattern.gin"], []
  if not name.startswith(("pretrain", "full_data")):
    files.append("tasks/few_shot.gin")
  return sweep_jobs.Settings(
    folder="sweep",
    backbone=["models/t5_1_1.gin"],
    gin_files=files,
    bindings=bindings,
  )


def covering(recipe):
  """Returns numbers of jobs that have every label of every axis among them."""
  seen, chosen = set(), []
  for number, job in enumerate(jobs(recipe)):
    labels = set(job.runs[0].coordinates.items())
    if labels - seen:
      chosen.append(number)
      seen |= labels
  # The sizes of T5 are one shape here.
  return chosen[:1] if "/t5_" in recipe else chosen


def members_of(command):
  """Returns the members of a command that differ in more than settings."""
  chosen = {}
  for text in (each for each in command if each.startswith("--member=")):
    member = members.read_member(text.removeprefix("--member="))
    chosen.setdefault(member.gin_files, member)
  return list(chosen.values()) or [members.Member("")]


def run_of(command, member):
  """Returns (files, bindings) of one run of a command."""
  values = flags.FlagValues()
  config.define_flags(values)
  members.define_flags(values)
  values(config.rewrite_gin_args(command))
  files, bindings = [*values.gin_file], [*values.gin_bindings]
  files += member.gin_files
  bindings += member.bindings
  return files, bindings


@pytest.fixture(autouse=True)
def programs():
  """Lets go of a test's programs: hundreds of runs are one process."""
  yield
  jax.clear_caches()


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


@pytest.fixture(scope="module")
def files(tmp_path_factory):
  """Files that experiments read: documents, labels, rows and a prompt."""
  folder = tmp_path_factory.mktemp("files")

  def write(name, rows):
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)

  labels = [(text, n % 2) for n, text in enumerate(["good", "bad"] * 200)]
  documents = itertools.islice(reports.reports(0), 400)
  prompt = folder / "prompts"
  for form in Format:
    place = prompt / f"format={form.value}" / "RANDOM_SEED=0" / "prompts"
    place.mkdir(parents=True)
    np.save(place / "best.npy", np.ones((20, SHAPE["EMBED_DIM"]), np.float32))
  return {
    "CORPUS_FILES": [write("c.jsonl", ({"text": d} for d in documents))],
    "CORPUS_CACHE": str(folder / "cache"),
    "LABELLED_FILES": [
      write(
        "labelled.jsonl",
        (
          {"inputs": f"a {text} film {n}", "label": text, "confidence": 0.99}
          for n, (text, _) in enumerate(labels)
        ),
      )
    ],
    "VERBALIZER": {"good": "good", "bad": "bad"},
    "THRESHOLDS": {"good": 0.9, "bad": 0.9},
    "TASK_FILES": dict.fromkeys(
      ("train", "validation"),
      write("r.jsonl", ({"sentence": t, "label": n} for t, n in labels)),
    ),
    "prompts.of_format.folder": str(prompt),
    "prompts.of_format.labelled_folder": str(prompt),
    "from_file.allow_missing_card": True,
  }


def ppt_bindings(recipe, number, recipes, files):
  """Returns what one of PPT's jobs is given besides, by name."""
  name = recipe.split("/")[-1]
  keys: tuple[str, ...] = ()
  if name == "pretrain.gin":
    keys = ("CORPUS_FILES", "CORPUS_CACHE")
  elif name.startswith("pretrain"):
    keys = ("LABELLED_FILES", "VERBALIZER", "THRESHOLDS")
  elif recipe in ENGLISH:
    keys = ("TASK_FILES",)
  elif "prompts/pretrained.gin" in recipes:
    keys = (
      *("prompts.of_format.folder", "prompts.of_format.labelled_folder"),
      "from_file.allow_missing_card",
    )
  own = {key: files[key] for key in keys}
  if name.startswith("pretrain"):
    return own | {"held_out.HeldOutLoss.num_batches": 1, "PROMPT_LENGTH": 20}
  own["tasks.TaskEvaluation.num_examples"] = 8
  own["TASK_FEATURE_LENGTHS"] = {"inputs": 56, "targets": 2}
  # Of one name there is one task, and patterns differ between jobs.
  own["TASK_NAME"] = name.removesuffix(".gin") + f"_{number}"
  return own if "model_tuning" in name else own | {"PROMPT_LENGTH": 20}


@pytest.mark.slow
# A prompt of one token has no room for five labels.
@pytest.mark.filterwarnings("ignore:class_labels")
@pytest.mark.parametrize(
  ("recipe", "number", "member"),
  [
    pytest.param(r, n, m, id=f"{r}-{n}-{m.name}")
    for r in RECIPES
    for n in covering(r)
    for m in members_of(jobs(r)[n].commands[0])
  ],
)
def test_its_first_steps(
  recipe, number, member, checkpoint, target_files, files, tmp_path
):
  command = jobs(recipe)[number].commands[0]
  recipes, bindings = run_of(command, member)
  is_evaluation = command[0] == "prompt_tuning.eval"
  own = {**SHAPE, **SMALL, "VOCABULARY_PATH": str(WORDS)}
  size = 1024
  if recipe in ENGLISH:
    own["VOCABULARY_PATH"] = str(shared.data_path("t5_vocab/spiece.model"))
    size = 32128
  own |= {"NUM_EMBEDDINGS": size, "INITIAL_CHECKPOINT_PATH": checkpoint(size)}
  if "ppt2022" in recipe:
    for key in ("TASK_FEATURE_LENGTHS", "tasks.TaskEvaluation.num_examples"):
      del own[key]
    own |= ppt_bindings(recipe, number, recipes, files)
  if not is_evaluation:
    own["TRAIN_STEPS"] = 3
  if "runs/transfer.gin" in recipes:
    own["TARGET_FILES"] = target_files
    own["TASK_FEATURE_LENGTHS"] = {"inputs": 40, "targets": 16}
  place = "EVAL_OUTPUT_DIR" if is_evaluation else "MODEL_DIR"
  own[place] = str(tmp_path / "run")
  entry = evaluate.evaluate if is_evaluation else train.train
  given = [*bindings, *(f"{name}={value!r}" for name, value in own.items())]
  config.parse(recipes, given, entry=entry)
  result = config.call(entry)
  if is_evaluation:
    assert 0 <= result["small_world_topic/accuracy"] <= 100
    return
  assert result.step == 3
  is_pretraining = recipe.startswith("papers/ppt2022/pretrain")
  metric = "mean/loss" if is_pretraining else "mean/score"
  assert metric in result.metrics
  if "runs/transfer.gin" in recipes:
    assert "target_mrpc_from_qqp/accuracy" in result.final


@pytest.fixture(scope="module")
def reading_files(tmp_path_factory):
  folder = tmp_path_factory.mktemp("reading")
  question = {"question": "which film ?", "answers": ["the film", "a film"]}
  rows = [{**question, "context": f"the film was good . {n}"} for n in range(8)]
  squad = folder / "squad.jsonl"
  squad.write_text("".join(json.dumps(row) + "\n" for row in rows))
  passages = [
    {"header": {"dataset": "BioASQ"}},
    {"context": "the book was bad .", "qas": [{"qid": "1", **question}] * 3},
  ]
  bio_asq = folder / "BioASQ.jsonl"
  bio_asq.write_text("".join(json.dumps(row) + "\n" for row in passages))
  return {
    "TASK_FILES": dict.fromkeys(("train", "validation"), str(squad)),
    "TARGET_FILES": {"bio_asq": {"validation": str(bio_asq)}},
  }


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1])
def test_the_first_steps_of_squad_to_mrqa(
  number, checkpoint, reading_files, tmp_path
):
  """Answers are generated, and measured on a set as MRQA publishes it."""
  config.parse(["papers/lester2021/domain_shift.gin"], entry=Grid)
  settings = sweep_jobs.Settings(
    folder="sweep",
    backbone=["models/t5_1_1.gin"],
    gin_files=["tasks/squad.gin"],
  )
  job = sweep_jobs.plan(config.call(Grid), settings)[number]
  recipes, bindings = run_of(job.commands[0], members.Member(""))
  own = {
    **SHAPE,
    **SMALL,
    "NUM_EMBEDDINGS": 1024,
    "VOCABULARY_PATH": str(WORDS),
    "INITIAL_CHECKPOINT_PATH": checkpoint(1024),
    **reading_files,
    "TRAIN_STEPS": 3,
    "selection.Selection.metric": "squad/f1",
    # Another test has a mixture of the usual name, of other files.
    "target/mixtures.of_files.name": "mrqa",
    "MODEL_DIR": str(tmp_path / "run"),
  }
  given = [*bindings, *(f"{name}={value!r}" for name, value in own.items())]
  config.parse(recipes, given, entry=train.train)
  result = config.call(train.train)
  assert result.step == 3
  assert {"squad/em", "squad/f1"} <= set(result.metrics)
  assert {"mrqa_bio_asq/em", "mrqa_bio_asq/f1"} <= set(result.final)


@pytest.fixture
def prompts(tmp_path):
  """Returns files of five prompts."""
  rng = np.random.default_rng(0)
  files = [str(tmp_path / f"{n}.npy") for n in range(5)]
  for file in files:
    shape = (20, SHAPE["EMBED_DIM"])
    np.save(file, rng.normal(size=shape).astype(np.float32))
  return files


def on_the_tiny_model(recipes, checkpoint, entry, **settings):
  own = {**SHAPE, "ACTIVATION_DTYPE": "float32", "NUM_EMBEDDINGS": 1024}
  own |= {"VOCABULARY_PATH": str(WORDS)}
  own |= {"INITIAL_CHECKPOINT_PATH": checkpoint(1024), **settings}
  given = [f"{name}={value!r}" for name, value in own.items()]
  config.parse(["models/t5_1_1.gin", *recipes], given, entry=entry)
  return config.call(entry)


@pytest.mark.slow
def test_five_prompts_vote(checkpoint, prompts, tmp_path):
  result = on_the_tiny_model(
    [
      *("papers/lester2021/ensemble.gin", "tasks/small_world_topic.gin"),
      "decoding/rank.gin",
    ],
    checkpoint,
    evaluate.evaluate,
    PROMPT_FILES=prompts,
    EVAL_OUTPUT_DIR=str(tmp_path / "out"),
    **{
      "evaluate.allow_missing_card": True,
      "tasks.TaskEvaluation.num_examples": 8,
    },
  )
  who = ["ensemble", *(f"prompt_{number}" for number in range(5))]
  for name in who:
    assert 0 <= result[f"{name}/small_world_topic/accuracy"] <= 100


@pytest.mark.slow
def test_a_prompt_is_interpreted(checkpoint, prompts):
  text = on_the_tiny_model(
    ["papers/lester2021/interpretability.gin"],
    checkpoint,
    neighbors.neighbors,
    PROMPT_FILE=prompts[0],
    CLASS_LABELS=("good", "bad"),
    **{"neighbors.allow_missing_card": True},
  )
  assert "good" in text
