"""Every recipe, with all of its effective settings, as committed text.

A recipe that no longer parses, or whose settings change unnoticed, fails here.
`UPDATE_GOLDEN=1` rewrites the texts; read the difference before committing.
"""

import pathlib

import pytest
from absl import flags

from prompt_tuning import config, paths
from prompt_tuning.config import members
from prompt_tuning.runs import (
  convert,
  evaluate,
  export,
  infer,
  neighbors,
  train,
)
from prompt_tuning.sweeps import jobs as sweep_jobs
from prompt_tuning.sweeps.grid import Grid
from prompt_tuning.testing.golden import assert_matches

RECIPES = paths.recipe_roots()[0]
GOLDEN = pathlib.Path(__file__).parent / "recipes"

T5 = ("models/t5_1_1.gin", "sizes/small.gin")
EMBEDDED = ("models/embedded.gin",)
TOPIC = "tasks/small_world_topic.gin"
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
  "tasks/data_set.gin": (
    "TASK_FILES={'train': 'train.jsonl'}",
    "DATA_SET='boolq'",
    "CLASS_LABELS=('False', 'True')",
  ),
  "tasks/pattern.gin": (
    "TASK_FILES={'train': 'train.jsonl'}",
    "PATTERN='{sentence} It was<X>[.]'",
    "VERBALIZER={'0': 'bad', '1': 'good'}",
  ),
  "tasks/ppt.gin": (
    "TASK_FILES={'train': 'train.jsonl'}",
    "PPT_TASK='sst2'",
  ),
  "tasks/mixture_of_files.gin": (
    "MIXTURE_FILES={'cb': {'train': 'train.jsonl'}}",
  ),
  "tasks/small_world_ppt.gin": ("PPT_TASK='sentiment'",),
  "decoding/answer_token.gin": ("ANSWERS=('<extra_id_0> bad',)",),
  "prompts/pretrained.gin": ("of_format.wanted='unified'",),
  "prompts/sampled_words.gin": ("PROMPT_WORDS=('bad', 'good')",),
  "prompts/words.gin": ("PROMPT_WORDS=('commonsense', 'reading')",),
  **{
    f"tasks/{name}.gin": ("TASK_FILES={'train': 'train.jsonl'}",)
    for name in (
      *("ag_news", "boolq", "cb", "cola", "copa", "mnli", "mrpc", "multirc"),
      *("qnli", "qqp", "record", "rte", "squad", "sst2", "sst5", "stsb"),
      *("wic", "wsc", "mrpc_from_qqp", "qqp_from_mrpc"),
    )
  },
}


# Of papers, and no experiments for prompt_tuning.sweep.
PARTS = (
  "papers/ppt2022/few_shot_steps.gin",
  "papers/lester2021/ensemble.gin",
  "papers/lester2021/interpretability.gin",
)


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
    "prompt_pretrain": (
      [*T5, "runs/prompt_pretrain.gin"],
      [*WEIGHTS, RUN[0], RUN[3], *CORPUS[3:5]],
      train.train,
    ),
    "prompt_pretrain_sentences": (
      [*T5, "runs/prompt_pretrain_sentences.gin"],
      [*WEIGHTS, RUN[0], RUN[3], "LABELLED_FILES=['labelled.jsonl']"],
      train.train,
    ),
    "prompt_pretrain_mixture": (
      [*T5, "runs/prompt_pretrain_mixture.gin"],
      [
        *(*WEIGHTS, RUN[0], RUN[3], *CORPUS[3:5]),
        "LABELLED_FILES=['labelled.jsonl']",
      ],
      train.train,
    ),
    "label_sentences": (
      [*T5, "runs/label_sentences.gin"],
      [
        *(*WEIGHTS, *CORPUS[3:5], "INFER_OUTPUT_FILE='labelled.jsonl'"),
        "ANSWERS=['<extra_id_0> bad', '<extra_id_0> good']",
        RUN[2],
      ],
      infer.infer,
    ),
    "mixed_corpora": (
      [*T5, "runs/lm_adapt.gin", "runs/mixed_corpora.gin"],
      [*WEIGHTS, *CORPUS, "CORPUS_FILES={'a': ['a.jsonl'], 'b': ['b.jsonl']}"],
      train.train,
    ),
    "prompt_design": (
      [*T5, "runs/prompt_design.gin"],
      [*WEIGHTS, *evaluation],
      evaluate.evaluate,
    ),
    "transfer": (
      [*T5, TUNE, "tasks/qqp.gin", "runs/transfer.gin"],
      [
        *(*WEIGHTS, RUN[0], RUN[3]),
        "TASK_FILES={'train': 'train.jsonl'}",
        "TARGET_FILES={'mrpc_from_qqp': {'validation': 'mrpc.jsonl'}}",
      ],
      train.train,
    ),
    "final_evaluation": (
      [*EMBEDDED, TUNE, TOPIC, "runs/final_evaluation.gin"],
      [RUN[0], RUN[3]],
      train.train,
    ),
    "neighbors": (
      [*T5, "runs/neighbors.gin"],
      [*WEIGHTS, "PROMPT_FILE='prompt.npy'"],
      neighbors.neighbors,
    ),
    "ensemble": (
      [*T5, "runs/ensemble.gin"],
      [*WEIGHTS, *evaluation, "PROMPT_FILES=['a.npy', 'b.npy']"],
      evaluate.evaluate,
    ),
    "eval": (
      [*T5, "runs/eval.gin"],
      [*WEIGHTS, *evaluation],
      evaluate.evaluate,
    ),
    "infer": ([*T5, "runs/infer.gin"], [*WEIGHTS, *inference], infer.infer),
    "convert": (
      [*T5, "runs/convert.gin"],
      [
        *(*WEIGHTS, "PROMPT_SOURCE='a.npy'", "PROMPT_OUTPUT='a'"),
        "PROMPT_FORMAT='peft'",
      ],
      convert.convert,
    ),
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


def _ladder(recipe):
  """Returns (files, bindings, entry) of the training of a rung."""
  stage = recipe if "m.gin" not in recipe else "papers/ladder/pretrain.gin"
  rung = recipe if "m.gin" in recipe else "papers/ladder/5m.gin"
  given = [each for each in CORPUS if "LENGTHS" not in each]
  given = [each for each in given if "TRAIN_STEPS" not in each]
  start = WEIGHTS if stage.endswith("lm_adapt.gin") else WEIGHTS[1:]
  return [rung, stage], [*start, *given], train.train


def _caching(recipe):
  """Returns (files, bindings, entry) of a task that is cached."""
  # It runs on TensorFlow, whose import takes seconds.
  from prompt_tuning.data import seqio_cache

  files, given = ["runs/cache_task.gin"], ["CACHE_DIR='cached'"]
  if recipe.startswith("tasks/"):
    files.append(recipe)
    is_labelled = "labelled" in recipe
    labelled = ["LABELLED_FILES=['labelled.jsonl']"]
    given += [WEIGHTS[1], *(labelled if is_labelled else CORPUS[3:5])]
  else:
    given.append("MIXTURE_OR_TASK_NAME='task'")
  return files, given, seqio_cache.cache_task


def _setting(recipe):
  """Returns (files, bindings, entry) of a whole run that uses the recipe."""
  if recipe.startswith("papers/ladder/"):
    return _ladder(recipe)
  if "questions.gin" in recipe or recipe == "runs/cache_task.gin":
    return _caching(recipe)
  if "/full_data/" in recipe:
    files = [*T5, TUNE, "tasks/ppt.gin", recipe]
    given = [*WEIGHTS, RUN[0], EXTRA["tasks/ppt.gin"][0]]
    return files, given, train.train
  if recipe == PARTS[1]:
    files = [*EMBEDDED, recipe, TOPIC, "decoding/rank.gin"]
    return files, ["EVAL_OUTPUT_DIR='out'"], evaluate.evaluate
  if recipe == PARTS[2]:
    return [*EMBEDDED, recipe], [], neighbors.neighbors
  if recipe in PARTS:
    return [*EMBEDDED, TUNE, recipe, TOPIC], [RUN[0]], train.train
  folder, name = recipe.removesuffix(".gin").split("/")
  extra = list(EXTRA.get(recipe, ()))
  if folder == "runs":
    return _run(name)
  if recipe == "models/embedded.gin":
    return [recipe, TUNE], [*RUN], train.train
  if recipe == "models/checkpoint.gin":
    return [recipe, TUNE], [WEIGHTS[0], *RUN], train.train
  if recipe == "models/byt5.gin":
    size = "sizes/byt5_small.gin"
    return [recipe, size, TUNE], [WEIGHTS[0], *RUN], train.train
  if recipe == "embedded/prompt_pretrain.gin":
    return [*EMBEDDED, recipe], [RUN[0], *CORPUS[3:5]], train.train
  if recipe == "embedded/prompt_pretrain_sentences.gin":
    labelled = "LABELLED_FILES=['labelled.jsonl']"
    return [*EMBEDDED, recipe], [RUN[0], labelled], train.train
  if folder == "embedded":
    bindings = [RUN[0], *(WEIGHTS[:1] if name.startswith("lm_adapt") else [])]
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
    if name == "small_world_ppt":
      recipes = [*EMBEDDED, TUNE, recipe, "prompts/pretrained.gin"]
      return recipes, [RUN[0], RUN[3], *extra], train.train
    is_bare = name in ("file", "data_set", "mixture_of_files")
    run = [RUN[0], RUN[3], *([RUN[2]] if is_bare else [])]
    of_files = ["tasks/boolq.gin"] if name == "tfds" else []
    if name in ("few_shot", "sentinel"):
      of_files = [TOPIC, "decoding/rank.gin"]
    return [*EMBEDDED, TUNE, *of_files, recipe], [*run, *extra], train.train
  return [*T5, TUNE, recipe], [*WEIGHTS, *RUN, *extra], train.train


def _experiments():
  """Returns the recipes of prompt_tuning.sweep."""
  folders = [RECIPES / "papers" / name for name in ("lester2021", "ppt2022")]
  paths_ = [path for folder in folders for path in folder.rglob("*.gin")]
  found = (str(path.relative_to(RECIPES)) for path in paths_)
  return sorted(
    each for each in found if each not in PARTS and "/full_data/" not in each
  )


def _recipes():
  found = {str(p.relative_to(RECIPES)) for p in RECIPES.rglob("*.gin")}
  return sorted(found - set(_experiments()) - set(_t5x_recipes()))


def _t5x_recipes():
  """Returns those that T5X's programs parse, see t5x_bridge_test.py."""
  return sorted(
    str(p.relative_to(RECIPES)) for p in RECIPES.rglob("t5x/**/*.gin")
  )


def _sweep_jobs(recipe):
  """Returns the jobs of an experiment, on the embedded model if it can be."""
  config.parse([recipe], entry=Grid)
  text = (RECIPES / recipe).read_text()
  if "ppt2022" in recipe:
    return sweep_jobs.plan(config.call(Grid), _ppt_settings(recipe))
  backbone, bindings = EMBEDDED, ["TRAIN_STEPS=3"]
  if "transfer.gin" in text:
    bindings.append("TARGET_FILES={'mrpc_from_qqp': {'validation': 'a.jsonl'}}")
  if 'program = "eval"' in text:
    bindings.remove("TRAIN_STEPS=3")
  if "runs/ladder" in text:
    backbone = ["papers/ladder/5m.gin"] if "--backbone" in text else []
    bindings.append(WEIGHTS[1])
  settings = sweep_jobs.Settings(
    folder="sweep_dir",
    backbone=backbone,
    gin_files=["tasks/small_world_topic.gin"],
    bindings=bindings,
  )
  return sweep_jobs.plan(config.call(Grid), settings)


def _ppt_settings(recipe):
  """Returns what the head of one of PPT's experiments gives with it."""
  name = pathlib.Path(recipe).stem
  files, bindings = ["tasks/small_world_ppt.gin"], ["PROMPT_LENGTH=20"]
  if name.startswith("pretrain"):
    labelled = "LABELLED_FILES=['labelled.jsonl']"
    bindings = [labelled] if "sentences" in name else [*CORPUS[3:5]]
    files = []
  elif name == "pilot_patterns":
    files = ["tasks/pattern.gin", "tasks/few_shot.gin"]
    bindings += EXTRA["tasks/pattern.gin"][:1]
  elif not name.startswith(("full_data", "pilot_initializers_boolq")):
    files += ["tasks/few_shot.gin"]
  if name.startswith(("pretrain", "full_data")):
    bindings.append("TRAIN_STEPS=3")
  if "model_tuning" in name:
    bindings.remove("PROMPT_LENGTH=20")
  if files and "pattern.gin" not in files[0]:
    bindings.append("PPT_TASK='sentiment'")
  return sweep_jobs.Settings(
    folder="sweep_dir", backbone=EMBEDDED, gin_files=files, bindings=bindings
  )


@pytest.mark.golden
@pytest.mark.parametrize("recipe", _experiments())
def test_every_job_of_an_experiment(recipe):
  text = "\n".join(f"# {job.name}\n{job.text}\n" for job in _sweep_jobs(recipe))
  assert_matches(text, GOLDEN / recipe.replace(".gin", ".txt"))


@pytest.mark.parametrize("recipe", _experiments())
def test_every_run_of_an_experiment_resolves(recipe):
  assert (RECIPES / recipe).read_text().startswith("# ")
  for job in _sweep_jobs(recipe):
    for command in job.commands:
      values = flags.FlagValues()
      config.define_flags(values)
      members.define_flags(values)
      values(config.rewrite_gin_args(command))
      # Of those that differ in numbers alone, such as seeds, one.
      distinct = {
        member.gin_files: member
        for member in map(members.read_member, values.member or ["alone"])
      }
      for member in distinct.values():
        files = [*values.gin_file, *member.gin_files]
        bindings = [*values.gin_bindings, *member.bindings]
        is_evaluation = command[0] == "prompt_tuning.eval"
        entry = evaluate.evaluate if is_evaluation else train.train
        config.parse(files, bindings, entry=entry)


@pytest.mark.golden
@pytest.mark.parametrize("recipe", _recipes())
def test_every_effective_setting(recipe):
  files, bindings, entry = _setting(recipe)
  config.parse(files, bindings, entry=entry)
  assert_matches(
    config.resolved_text(entry), GOLDEN / recipe.replace(".gin", ".txt")
  )


@pytest.mark.parametrize("recipe", [*_recipes(), *_t5x_recipes()])
def test_a_recipe_says_what_it_is(recipe):
  text = (RECIPES / recipe).read_text()
  assert text.startswith("# "), "the first line says what the recipe is"
  if recipe.startswith(("runs/", "t5x/runs/")) and recipe != "runs/demo.gin":
    head = text.split("\ninclude ")[0]
    for word in ("Required macro", "Command", "Expect", "python -m"):
      assert word in head, f"the head of {recipe} lacks {word!r}"


def test_no_golden_text_outlives_its_recipe():
  texts = {str(p.relative_to(GOLDEN)) for p in GOLDEN.rglob("*.txt")}
  recipes = [*_recipes(), *_experiments()]
  assert texts <= {recipe.replace(".gin", ".txt") for recipe in recipes}


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
