"""Runs that train a method: evaluate, save, resume, and refuse another's."""

import dataclasses
import functools
import json

import jax
import numpy as np
import optax
import pytest

from prompt_tuning.data.file_task import file_task
from prompt_tuning.data.inputs import TaskInputs
from prompt_tuning.data.vocabularies import ByteVocabulary
from prompt_tuning.evaluate.predictors import RankClassification
from prompt_tuning.evaluate.tasks import TaskEvaluation
from prompt_tuning.methods.adapters import Adapters
from prompt_tuning.methods.ia3 import IA3
from prompt_tuning.methods.layer_prompts import LayerPrompts
from prompt_tuning.methods.lora import LoRA
from prompt_tuning.methods.prefix_tuning import PrefixTuning
from prompt_tuning.model.stack import unstack_layers
from prompt_tuning.prompts import initializers
from prompt_tuning.prompts.spec import PromptSpec
from prompt_tuning.runs import (
  convert,
  dry_run,
  evaluate,
  export,
  inspection,
  train,
)
from prompt_tuning.runs.hardware import Hardware
from prompt_tuning.train import optimizers, partition, plan, selection

LABELS = ("no", "yes")
LENGTHS = {"inputs": 12, "targets": 4}


@pytest.fixture(scope="module")
def task(tmp_path_factory):
  folder = tmp_path_factory.mktemp("task")
  rng = np.random.default_rng(0)
  files = {}
  for split in ("train", "validation"):
    rows = [
      {"text": "ab"[label] * int(rng.integers(3, 20)), "label": int(label)}
      for label in rng.integers(0, 2, size=16)
    ]
    files[split] = str(folder / f"{split}.jsonl")
    with open(files[split], "w") as file:
      file.writelines(json.dumps(row) + "\n" for row in rows)
  return file_task(
    name="integration_methods_toy",
    files=files,
    inputs="{text}",
    targets="label",
    vocabulary=ByteVocabulary(extra_ids=125),
    verbalizers=LABELS,
    metrics=("accuracy",),
  )


def measure(task):
  return TaskEvaluation(
    task=task,
    predictor=RankClassification(labels=LABELS),
    batch_size=8,
    labels=LABELS,
  )


@pytest.fixture
def run(backbone, task, tmp_path):
  """Trains some steps in a folder, by a name."""

  def train_it(name, steps, **changes):
    settings = {
      "model_dir": str(tmp_path / name),
      "backbone": backbone,
      "inputs": TaskInputs(task=task, labels=LABELS),
      "feature_lengths": LENGTHS,
      "batch_size": 8,
      "trainable": (".*/lora/.*",),
      "method": LoRA(rank=2),
      "optimizer": optimizers.adamw(
        learning_rate=optimizers.constant(learning_rate=0.01)
      ),
      "plan": plan.Plan(
        total_steps=steps, eval_every=2, save_every=2, log_every=1
      ),
      "evaluations": [measure(task)],
      "selection": selection.Selection(metric="mean/score"),
    }
    return train.train(**(settings | changes)), tmp_path / name

  return train_it


@pytest.mark.slow
def test_a_resumed_run_equals_one_in_one_go(run):
  whole, _ = run("whole", 4)
  run("parts", 2)
  resumed, folder = run("parts", 4)
  jax.tree.map(
    np.testing.assert_array_equal,
    whole.state.trainable,
    resumed.state.trainable,
  )
  assert whole.metrics == resumed.metrics
  assert "integration_methods_toy/accuracy" in whole.metrics
  # A method is no prompt, and none is exported.
  assert not (folder / "prompts").exists()
  with pytest.raises(ValueError, match=r"method.*LoRA.*'rank': 2"):
    run("parts", 4, method=LoRA(rank=4))


@pytest.mark.multidevice
@pytest.mark.slow_after(1)
@pytest.mark.parametrize(
  ("method", "trainable"),
  [
    (PrefixTuning(length=2, hidden=3), "prefix/.*"),
    (LoRA(rank=2), ".*/lora/.*"),
    (IA3(), ".*/ia3/.*"),
    (Adapters(width=2), ".*/adapter/.*"),
  ],
)
def test_a_method_on_a_cut_model_is_the_same(run, method, trainable):
  settings = {"method": method, "trainable": (trainable,)}
  # Steps of plain gradients, which rounding does not turn round.
  settings["optimizer"] = optimizers.Optimizer(
    *optax.sgd(0.01), learning_rate=optax.constant_schedule(0.01)
  )
  whole, _ = run("whole", 2, hardware=Hardware(data=8), **settings)
  cut = Hardware(data=2, sequence=2, model=2)
  parts, _ = run("parts", 2, hardware=cut, **settings)
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6),
    parts.state.trainable,
    whole.state.trainable,
  )


@pytest.mark.slow_after(1)
@pytest.mark.parametrize(
  ("method", "trainable", "prompt"),
  [
    (LoRA(rank=2), ".*/lora/.*", None),
    (PrefixTuning(length=2, hidden=3), "prefix/.*", None),
    (
      LayerPrompts(num_slots=3, combination="replace"),
      ".*/prompt/.*",
      PromptSpec(length=3, initializer=initializers.uniform),
    ),
    (None, ".*norm/scale", None),
  ],
)
def test_what_was_tuned_is_evaluated_again(
  run, backbone, task, tmp_path, method, trainable, prompt
):
  result, folder = run(
    "tuned", 2, method=method, trainable=(trainable,), prompt=prompt
  )
  scanned = dataclasses.replace(
    backbone, config=dataclasses.replace(backbone.config, scan_layers=True)
  )
  settings = {
    "backbone": scanned,
    "feature_lengths": LENGTHS,
    "evaluations": [measure(task)],
    "tuned_dir": str(folder),
  }
  again = evaluate.evaluate(output_dir=str(tmp_path / "again"), **settings)
  assert again["mean/score"] == result.best.value
  network, step = evaluate.load_network(scanned, None, tuned_dir=str(folder))
  assert step == result.best.step
  before = partition.flatten(unstack_layers(network.params))
  trained = partition.flatten(result.state.trainable)
  if step == result.step:
    for path, leaf in trained.items():
      np.testing.assert_array_equal(before[path], leaf)
  text = dry_run.evaluate(**settings)
  assert f"tuned: {folder}" in text
  other = dataclasses.replace(backbone, dtype="bfloat16")
  with pytest.raises(ValueError, match="was tuned on the backbone"):
    evaluate.load_network(other, None, tuned_dir=str(folder))


def test_a_run_to_evaluate_says_whose_it_is(run, backbone):
  _, folder = run("tuned", 2)
  with pytest.raises(ValueError, match=r"Both TUNED_DIR .* and PROMPT_FILE"):
    evaluate.load_network(backbone, "prompt.npy", tuned_dir=str(folder))
  (folder / "run.json").unlink()
  with pytest.raises(ValueError, match=r"holds no run\.json"):
    evaluate.load_network(backbone, None, tuned_dir=str(folder))


def test_layer_prompts_train_beside_the_prompt(run):
  prompt = PromptSpec(length=3, initializer=initializers.uniform)
  result, folder = run(
    "layers",
    2,
    prompt=prompt,
    method=LayerPrompts(num_slots=3),
    trainable=("(.*/)?prompt/.*",),
  )
  assert set(result.state.trainable) == {"prompt", "encoder"}
  # Without the layers' prompts it would be another one.
  assert not (folder / "prompts").exists()


def test_norm_scales_need_no_method(run):
  result, _ = run("norms", 2, method=None, trainable=(".*norm/scale",))
  # 2 a layer of the encoder, 3 of the decoder, 1 behind either stack.
  assert len(jax.tree.leaves(result.state.trainable)) == 2 * 2 + 2 * 3 + 2


@pytest.mark.parametrize(
  ("method", "trainable"), [(LoRA(rank=2), ".*/lora/.*"), (IA3(), ".*/ia3/.*")]
)
def test_what_was_tuned_goes_to_peft_and_into_the_weights(
  run, backbone, task, tmp_path, method, trainable
):
  pytest.importorskip("safetensors", reason="the format of PEFT needs it")
  result, folder = run("tuned", 2, method=method, trainable=(trainable,))
  adapter, whole = str(tmp_path / "adapter"), str(tmp_path / "whole")
  convert.convert(
    backbone=backbone,
    source=str(folder),
    output=adapter,
    format="peft",
    licence="CC0-1.0",
  )
  export.export(backbone=backbone, output_dir=whole, tuned_dir=adapter)
  for path, what in (
    (folder, "no backbone"),
    (adapter, "TUNED_DIR"),
    (adapter, "licence: CC0-1.0"),
  ):
    assert what in inspection.describe(str(path))
  settings = {"feature_lengths": LENGTHS, "evaluations": [measure(task)]}
  again = evaluate.evaluate(
    backbone=backbone,
    output_dir=str(tmp_path / "again"),
    tuned_dir=adapter,
    **settings,
  )
  assert again["mean/score"] == result.best.value
  merged = dataclasses.replace(backbone, checkpoint=whole)
  alone = evaluate.evaluate(
    backbone=merged, output_dir=str(tmp_path / "alone"), **settings
  )
  assert alone["mean/score"] == pytest.approx(result.best.value, abs=1e-6)
  assert "on the backbone" in dry_run.evaluate(
    backbone=backbone,
    output_dir=str(tmp_path / "dry"),
    tuned_dir=adapter,
    **settings,
  )
  other = dataclasses.replace(backbone, dtype="bfloat16")
  with pytest.raises(ValueError, match="was tuned on the backbone"):
    evaluate.load_network(other, None, tuned_dir=adapter)
  with pytest.raises(ValueError, match=r"PROMPT_INDEX is 1, but .* MODEL_DIR"):
    convert.convert(
      backbone=backbone,
      source=str(folder),
      output="p",
      format="peft",
      prompt_index=1,
    )
  with pytest.raises(ValueError, match="PROMPT_FORMAT 'peft' is what it can"):
    convert.convert(
      backbone=backbone, source=str(folder), output="p.npy", format="prompt"
    )
