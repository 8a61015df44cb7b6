"""Every recipe, with all of its effective settings, as committed text.

A recipe that no longer parses, or whose settings change unnoticed, fails here.
`UPDATE_GOLDEN=1` rewrites the texts; read the difference before committing.
"""

import pathlib

import pytest

from prompt_tuning import config, paths
from prompt_tuning.runs import evaluate, export, infer, train
from prompt_tuning.testing.golden import assert_matches

RECIPES = paths.recipe_roots()[0]
GOLDEN = pathlib.Path(__file__).parent / "recipes"

T5 = ("models/t5_1_1.gin", "sizes/small.gin")
EMBEDDED = ("models/embedded.gin",)
TUNE = "runs/prompt_tune.gin"
WEIGHTS = (
  "INITIAL_CHECKPOINT_PATH='backbone'",
  "VOCABULARY_PATH='sentencepiece.model'",
)
RUN = (
  "MODEL_DIR='model_dir'",
  "MIXTURE_OR_TASK_NAME='task'",
  "TASK_FEATURE_LENGTHS={'inputs': 64, 'targets': 8}",
  "TRAIN_STEPS=30000",
)
CORPUS = (
  "MODEL_DIR='model_dir'",
  "TASK_FEATURE_LENGTHS={'inputs': 512, 'targets': 114}",
  "TRAIN_STEPS=100000",
  "CORPUS_FILES=['corpus.jsonl']",
  "CORPUS_CACHE='corpus'",
  "HELD_OUT_FILES=['held_out.jsonl']",
  "HELD_OUT_CACHE='held_out'",
)
# What a recipe needs beside what its folder needs.
EXTRA = {
  "prompts/class_labels.gin": ("CLASS_LABELS=('no', 'yes')",),
  "prompts/embedded_text.gin": ("PROMPT_TEXT='Is it good?'",),
  "prompts/from_file.gin": ("PROMPT_FILE='prompt.npy'",),
  "methods/soft_words.gin": ("PROMPT_TEXT='Is it good?'",),
  "methods/warp.gin": ("CLASS_LABELS=('no', 'yes')",),
  "decoding/rank.gin": ("CLASS_LABELS=('no', 'yes')",),
  "tasks/file.gin": (
    "TASK_FILES={'train': 'train.jsonl'}",
    "INPUTS_TEXT='{sentence}'",
    "TARGETS_FIELD='label'",
    "CLASS_LABELS=('no', 'yes')",
  ),
  "tasks/sst2.gin": ("TASK_FILES={'train': 'train.jsonl'}",),
  **{
    f"tasks/{name}.gin": ("TASK_FILES={'train': 'train.jsonl'}",)
    for name in ("ag_news", "boolq", "cb", "mrpc", "rte", "sst5")
  },
}


def _run(name):
  """Returns (files, bindings, entry) of a run's recipe."""
  evaluation = ("EVAL_OUTPUT_DIR='out'", *RUN[1:3])
  inference = (
    "INFER_INPUT_FILE='in.jsonl'",
    "INFER_OUTPUT_FILE='out.jsonl'",
    RUN[2],
  )
  return {
    "prompt_tune": ([*T5, TUNE], [*WEIGHTS, *RUN], train.train),
    "plan": ([*T5, TUNE, "runs/plan.gin"], [RUN[2]], train.train),
    "model_tune": ([*T5, "runs/model_tune.gin"], [*WEIGHTS, *RUN], train.train),
    "pretrain": (
      [*T5, "runs/pretrain.gin"],
      [WEIGHTS[1], *CORPUS],
      train.train,
    ),
    "lm_adapt": ([*T5, "runs/lm_adapt.gin"], [*WEIGHTS, *CORPUS], train.train),
    "eval": (
      [*T5, "runs/eval.gin"],
      [*WEIGHTS, *evaluation],
      evaluate.evaluate,
    ),
    "infer": ([*T5, "runs/infer.gin"], [*WEIGHTS, *inference], infer.infer),
    "export": (
      [*T5, "runs/export.gin"],
      [*WEIGHTS, "EXPORT_DIR='out'"],
      export.export,
    ),
    "demo": (
      [*EMBEDDED, TUNE, "tasks/small_world_sentiment.gin", "runs/demo.gin"],
      [RUN[0]],
      train.train,
    ),
  }[name]


def _setting(recipe):
  """Returns (files, bindings, entry) of a whole run that uses the recipe."""
  folder, name = recipe.removesuffix(".gin").split("/")
  extra = list(EXTRA.get(recipe, ()))
  if folder == "runs":
    return _run(name)
  if recipe == "models/embedded.gin":
    return [recipe, TUNE], [*RUN], train.train
  if recipe == "models/byt5.gin":
    size = "sizes/byt5_small.gin"
    return [recipe, size, TUNE], [WEIGHTS[0], *RUN], train.train
  if folder == "embedded":
    bindings = [RUN[0], *(WEIGHTS[:1] if name == "lm_adapt" else [])]
    return [recipe], bindings, train.train
  if recipe == "models/t5_1_0.gin":
    size = "sizes/t5_1_0_small.gin"
    return [recipe, size, TUNE], [*WEIGHTS, *RUN], train.train
  if folder == "models":
    return [recipe, T5[1], TUNE], [*WEIGHTS, *RUN], train.train
  if folder == "sizes":
    model = "models/byt5.gin" if name.startswith("byt5") else T5[0]
    model = "models/t5_1_0.gin" if name.startswith("t5_1_0") else model
    weights = WEIGHTS[:1] if name.startswith("byt5") else WEIGHTS
    return [model, recipe, TUNE], [*weights, *RUN], train.train
  if folder == "tasks":
    run = [RUN[0], RUN[3], *([RUN[2]] if name == "file" else [])]
    return [*EMBEDDED, TUNE, recipe], [*run, *extra], train.train
  return [*T5, TUNE, recipe], [*WEIGHTS, *RUN, *extra], train.train


def _recipes():
  return sorted(str(p.relative_to(RECIPES)) for p in RECIPES.rglob("*.gin"))


@pytest.mark.golden
@pytest.mark.parametrize("recipe", _recipes())
def test_every_effective_setting(recipe):
  files, bindings, entry = _setting(recipe)
  config.parse(files, bindings, entry=entry)
  assert_matches(
    config.resolved_text(entry), GOLDEN / recipe.replace(".gin", ".txt")
  )


@pytest.mark.parametrize("recipe", _recipes())
def test_a_recipe_says_what_it_is(recipe):
  text = (RECIPES / recipe).read_text()
  assert text.startswith("# "), "the first line says what the recipe is"
  if recipe.startswith("runs/") and recipe != "runs/demo.gin":
    head = text.split("\ninclude ")[0]
    for word in ("Required macro", "Command", "Expect", "python -m"):
      assert word in head, f"the head of {recipe} lacks {word!r}"


def test_no_golden_text_outlives_its_recipe():
  texts = {str(p.relative_to(GOLDEN)) for p in GOLDEN.rglob("*.txt")}
  assert texts <= {recipe.replace(".gin", ".txt") for recipe in _recipes()}


@pytest.mark.parametrize("last", ["pretrain", "model_tuning", "adamw"])
@pytest.mark.parametrize(
  "first", ["prompt_tuning_reference", "pretrain", "adamw_pretrain"]
)
def test_an_optimizer_recipe_replaces_all_of_another(first, last):
  def optimizer(*recipes):
    files = [f"optimizers/{recipe}.gin" for recipe in recipes]
    config.parse([*T5, TUNE, *files], [*WEIGHTS, *RUN], entry=train.train)
    text = config.resolved_text(train.train)
    return [line for line in text.splitlines() if ".optimizers." in line]

  assert optimizer(first, last) == optimizer(last)
