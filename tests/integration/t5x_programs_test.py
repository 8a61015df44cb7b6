"""T5X's programs, started by the recipes of gin/t5x, beside this project's own.

Needs T5X, which is on no package registry: docs/t5x.md says how to install it.
"""

import json
import os
import pathlib
import subprocess
import sys
import warnings

import numpy as np
import pytest

from prompt_tuning import paths
from prompt_tuning.checkpoints import orbax_tree, t5x, tree
from prompt_tuning.prompts import artifact

with warnings.catch_warnings():
  # Of T5X's own imports.
  warnings.simplefilter("ignore")
  try:
    import gin
    from t5x import eval as t5x_eval
    from t5x import infer as t5x_infer
    from t5x import train as t5x_train
  except ImportError as missing:
    pytest.skip(
      f"T5X cannot be imported ({missing}); docs/t5x.md says how to install it",
      allow_module_level=True,
    )

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

ROOT = pathlib.Path(__file__).resolve().parents[2]
RECIPES = paths.recipe_roots()[0]
PROGRAMS = {"train": t5x_train, "eval": t5x_eval, "infer": t5x_infer}
TASK = "small_world_sentiment"

T5_MACROS = (
  "INITIAL_CHECKPOINT_PATH='backbone'",
  "VOCABULARY_PATH='sentencepiece.model'",
)
TASK_MACROS = (
  "MIXTURE_OR_TASK_NAME='task'",
  "TASK_FEATURE_LENGTHS={'inputs': 64, 'targets': 8}",
)
TRAIN = ("MODEL_DIR='model_dir'", "TRAIN_STEPS=30000", *TASK_MACROS)
SIZED = {
  "t5x/models/checkpoint.gin": "",
  "t5x/models/embedded.gin": "",
  "t5x/models/byt5.gin": "sizes/byt5_small.gin",
  "t5x/models/t5_1_0.gin": "sizes/t5_1_0_small.gin",
}
RUNS = {
  "prompt_tune": ("train", TRAIN),
  "eval": ("eval", ("EVAL_OUTPUT_DIR='out'", *TASK_MACROS)),
  "infer": ("infer", ("INFER_OUTPUT_DIR='out'", *TASK_MACROS)),
}


def recipe_setting(recipe):
  """Returns (program, files, bindings) for a recipe of gin/t5x."""
  small, tune = "t5x/sizes/t5_1_1_small.gin", "t5x/runs/prompt_tune.gin"
  _, folder, name = recipe.removesuffix(".gin").split("/")
  if folder == "runs":
    program, bindings = RUNS[name]
    return program, [small, recipe], [*T5_MACROS, *bindings]
  if folder == "prompts":
    extra = {
      "class_labels": ["CLASS_LABELS=('no', 'yes')"],
      "from_file": ["START_PROMPT_FILE='prompt.npy'"],
    }.get(name, [])
    return "train", [small, tune, recipe], [*T5_MACROS, *TRAIN, *extra]
  sizes = SIZED.get(recipe, "sizes/small.gin") if folder == "models" else ""
  if name == "prompted":
    recipe, sizes = small, ""
  files = [recipe, *([sizes] if sizes else []), tune]
  bindings = [] if name == "embedded" else [*T5_MACROS]
  if name == "byt5":
    bindings = [T5_MACROS[0]]
  return "train", files, [*bindings, *TRAIN]


@pytest.mark.parametrize(
  "recipe",
  sorted(str(p.relative_to(RECIPES)) for p in RECIPES.glob("t5x/*/*.gin")),
)
def test_every_recipe_parses_as_t5x_parses_it(recipe, monkeypatch):
  program, files, bindings = recipe_setting(recipe)
  # Recipes call the program what it is when it is started.
  monkeypatch.setitem(sys.modules, "__main__", PROGRAMS[program])
  monkeypatch.setattr(gin.config, "_LOCATION_PREFIXES", [""])
  gin.add_config_file_search_path(str(RECIPES))
  gin.parse_config_files_and_bindings(files, bindings)
  assert "prompted_model" in gin.config_str()


# --- Programs


def run(program, *arguments, **macros):
  """Runs a program, on two devices; one of T5X cuts the network over both."""
  bindings = [f"--gin.{name}={value!r}" for name, value in macros.items()]
  environment = os.environ | {
    "JAX_PLATFORMS": "cpu",
    "PYTHONPATH": str(ROOT),
    "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
  }
  result = subprocess.run(
    [
      *(sys.executable, "-m", program, f"--gin_search_paths={RECIPES}"),
      *(f"--gin_file={file}" for file in arguments),
      *bindings,
    ],
    env=environment,
    capture_output=True,
    text=True,
  )
  assert result.returncode == 0, result.stderr[-4000:]


DECODED = ("decoding/rank.gin", f"tasks/{TASK}.gin")
T5X_TRAIN = (
  *("t5x/models/embedded.gin", "t5x/runs/prompt_tune.gin"),
  *("t5x/prompts/class_labels.gin", *DECODED),
)
OUR_TRAIN = (
  *("models/embedded.gin", "runs/prompt_tune.gin"),
  *("prompts/class_labels.gin", *DECODED),
)
SHORT = {"PROMPT_LENGTH": 10, "CHECKPOINT_PERIOD": 4, "EVAL_PERIOD": 8}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  """MODEL_DIRs of runs of eight steps: T5X's in one, in two, and ours."""
  folder = tmp_path_factory.mktemp("t5x_programs")
  whole, parts, ours = folder / "whole", folder / "parts", folder / "ours"
  run("t5x.train", *T5X_TRAIN, MODEL_DIR=str(whole), TRAIN_STEPS=8, **SHORT)
  for steps in (4, 8):
    settings = {**SHORT, "EVAL_PERIOD": 4}
    run(
      "t5x.train",
      *T5X_TRAIN,
      **{"MODEL_DIR": str(parts), "TRAIN_STEPS": steps, **settings},
    )
  run(
    "prompt_tuning.train",
    *OUR_TRAIN,
    **{"MODEL_DIR": str(ours), "TRAIN_STEPS": 8, **SHORT},
  )
  return {"t5x": whole, "parts": parts, "ours": ours}


def prompt_of(model_dir, step=8):
  return model_dir / "prompts" / f"prompt_{step}.npy"


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_t5x_trains_the_prompt_and_nothing_else(trained):
  whole = trained["t5x"]
  names = {path.name for path in (whole / "prompts").iterdir()}
  steps = (0, 4, 8)
  assert names == {f"prompt_{s}.{e}" for s in steps for e in ("npy", "json")}
  base = paths.embedded_path("checkpoint") + "/checkpoint_11000"
  expected = tree.flatten(t5x.read(base).params)
  saved = dict(
    orbax_tree.leaves(whole / "checkpoint_8/state", subtree="target")
  )
  prompt = saved.pop("prompt/embedding")
  assert saved.keys() == expected.keys()
  for path, array in expected.items():
    np.testing.assert_array_equal(saved[path], array, err_msg=path)
  written = artifact.load_prompt(prompt_of(whole))
  np.testing.assert_array_equal(written.array, prompt)
  assert np.abs(prompt - np.load(prompt_of(whole, step=0))).max() > 0.1


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_run_of_t5x_resumes_bit_for_bit(trained):
  whole, parts = trained["t5x"], trained["parts"]
  np.testing.assert_array_equal(
    np.load(prompt_of(whole)), np.load(prompt_of(parts))
  )


def lines(folder, pattern):
  (file,) = folder.glob(pattern)
  return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("engine", ["t5x", "ours"])
@pytest.mark.parametrize("decoding", ["rank", "greedy"])
def test_a_prompt_has_the_same_metrics_under_both_engines(
  trained, tmp_path, engine, decoding
):
  files = (f"decoding/{decoding}.gin", f"tasks/{TASK}.gin")
  settings = {"PROMPT_FILE": str(prompt_of(trained[engine]))}
  run(
    "t5x.eval",
    *("t5x/models/embedded.gin", "t5x/runs/eval.gin", *files),
    EVAL_OUTPUT_DIR=str(tmp_path / "t5x"),
    **settings,
  )
  run(
    "prompt_tuning.eval",
    *("models/embedded.gin", "runs/eval.gin", *files),
    EVAL_OUTPUT_DIR=str(tmp_path / "ours"),
    **settings,
  )
  theirs, ours = (
    lines(tmp_path / name / "inference_eval", f"{TASK}-0*.jsonl")
    for name in ("t5x", "ours")
  )
  assert [line["prediction"] for line in theirs] == [
    line["prediction"] for line in ours
  ]
  (metrics,) = lines(tmp_path / "t5x/inference_eval", "*-metrics.jsonl")
  found = json.loads((tmp_path / "ours/metrics.json").read_text())
  assert metrics["accuracy"] == found[f"{TASK}/accuracy"]
  # Not the same because there is nothing to tell apart.
  assert len({line["prediction"] for line in ours}) > 1


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_t5x_infers_what_it_evaluates(trained, tmp_path):
  run(
    "t5x.infer",
    *("t5x/models/embedded.gin", "t5x/runs/infer.gin", *DECODED),
    INFER_OUTPUT_DIR=str(tmp_path),
    PROMPT_FILE=str(prompt_of(trained["t5x"])),
  )
  inferred = lines(tmp_path, f"{TASK}-predict.jsonl-00000-of-00001")
  evaluated = lines(trained["t5x"] / "inference_eval", f"{TASK}-000008.jsonl")
  assert [line["prediction"] for line in inferred] == [
    line["prediction"] for line in evaluated
  ]
