"""Whole runs in one process: train, resume, evaluate, predict, bad input."""

import dataclasses
import functools
import json
import shutil

import jax
import numpy as np
import pytest

from prompt_tuning.backbone import Backbone
from prompt_tuning.checkpoints import t5x
from prompt_tuning.data import few_shot, text_tasks
from prompt_tuning.data.file_task import file_task
from prompt_tuning.data.inputs import CorpusInputs, FileInputs, TaskInputs
from prompt_tuning.data.vocabularies import ByteVocabulary
from prompt_tuning.evaluate.predictors import Generation, RankClassification
from prompt_tuning.evaluate.tasks import TaskEvaluation
from prompt_tuning.metrics.classification import accuracy
from prompt_tuning.prompts import initializers
from prompt_tuning.prompts.artifact import load_prompt
from prompt_tuning.prompts.spec import PromptSpec
from prompt_tuning.runs import (
  answer_parts,
  evaluate,
  final_export,
  infer,
  prepare,
  train,
)
from prompt_tuning.testing import fakes
from prompt_tuning.train import held_out, optimizers, plan, selection

LABELS = ("no", "yes")
LENGTHS = {"inputs": 12, "targets": 4}
VOCABULARY = ByteVocabulary(extra_ids=125)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def task(folder):
  rng = np.random.default_rng(0)
  for split in ("train", "validation"):
    rows = [
      {"text": "ab"[label] * int(rng.integers(3, 20)), "label": int(label)}
      for label in rng.integers(0, 2, size=20)
    ]
    path = folder / f"{split}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return file_task(
    name="integration_runs_toy",
    files={s: str(folder / f"{s}.jsonl") for s in ("train", "validation")},
    inputs="{text}",
    targets="label",
    vocabulary=VOCABULARY,
    verbalizers=LABELS,
    metrics=("accuracy", "macro_f1"),
  )


def prompt_run(backbone, task, model_dir, **changes):
  """Returns the arguments of a short prompt-tuning run."""
  return {
    "model_dir": str(model_dir),
    "backbone": backbone,
    "inputs": TaskInputs(task=task, labels=LABELS),
    "feature_lengths": LENGTHS,
    "batch_size": 8,
    "trainable": ("prompt/.*",),
    "optimizer": optimizers.adafactor(
      learning_rate=optimizers.constant(learning_rate=0.3),
      multiply_by_parameter_scale=False,
    ),
    "plan": plan.Plan(total_steps=4, eval_every=2, save_every=2, log_every=1),
    "prompt": PromptSpec(
      length=3,
      initializer=functools.partial(initializers.class_labels, labels=LABELS),
    ),
    "evaluations": [
      TaskEvaluation(
        task=task,
        predictor=RankClassification(labels=LABELS),
        batch_size=8,
        labels=LABELS,
      )
    ],
    "selection": selection.Selection(metric="mean/score"),
  } | changes


@pytest.fixture(scope="module")
def tuned(backbone, task, folder):
  """The MODEL_DIR of a finished run."""
  model_dir = folder / "tuned"
  train.train(
    **prompt_run(backbone, task, model_dir),
    config_text="# recipe\n",
    recipe="a.gin",
    licence="CC0-1.0",
  )
  return model_dir


@pytest.fixture(scope="module")
def tuned_int8(backbone, task, folder):
  """The MODEL_DIR of a finished run on the same backbone in int8."""
  int8 = dataclasses.replace(
    backbone,
    dtype="int8",
    config=dataclasses.replace(backbone.config, scan_layers=True),
  )
  train.train(**prompt_run(int8, task, folder / "tuned_int8"))
  return folder / "tuned_int8"


@pytest.mark.slow
def test_a_prompt_of_an_int8_backbone_is_of_the_same_backbone(
  tuned, tuned_int8, backbone, tmp_path, caplog
):
  full, less = (
    load_prompt(run / "prompts" / "best.npy").card
    for run in (tuned, tuned_int8)
  )
  assert less.backbone == full.backbone
  assert (full.backbone_dtype, less.backbone_dtype) == ("float32", "int8")
  text = (tuned_int8 / "model-info.txt").read_text()
  assert "prompt/.*" in text
  file = str(tuned_int8 / "prompts" / "best.npy")
  with caplog.at_level("WARNING", logger="absl"):
    evaluate.load_network(backbone, file)
  assert "tuned on this backbone in int8; here it is in float32" in caplog.text


def test_another_type_of_the_backbone_is_another_run(
  tuned_int8, backbone, task
):
  with pytest.raises(ValueError, match=r"fingerprint: '\w+ in int8' -> '\w+'"):
    train.train(**prompt_run(backbone, task, tuned_int8))


def test_a_model_dir_holds_what_the_readme_says(tuned, backbone):
  assert (tuned / "config.gin").read_text() == "# recipe\n"
  assert "prompt/.*" in (tuned / "model-info.txt").read_text()
  assert (tuned / "checkpoint_4").is_dir()
  assert list((tuned / "training_eval").rglob("events.out.tfevents.*"))
  scopes = {
    json.loads(line)["scope"]
    for line in (tuned / "metrics.jsonl").read_text().splitlines()
  }
  assert {"train", "training_eval/integration_runs_toy"} <= scopes
  saved = load_prompt(tuned / "prompts" / "best.npy", expected_width=16)
  assert saved.card.task == "integration_runs_toy"
  assert saved.card.metric_name == "mean/score"
  assert saved.card.initialiser == "class_labels"
  assert saved.card.base_model == backbone.checkpoint
  assert (saved.card.recipe, saved.card.licence) == ("a.gin", "CC0-1.0")
  predictions = tuned / "inference_eval" / "integration_runs_toy-000004.jsonl"
  assert len(predictions.read_text().splitlines()) == 20


def test_resumed_equals_uninterrupted(tuned, backbone, task, folder):
  again = folder / "again"
  arguments = prompt_run(backbone, task, again)
  short = plan.Plan(total_steps=2, eval_every=2, save_every=2, log_every=1)
  train.train(**arguments | {"plan": short})
  train.train(**arguments)
  np.testing.assert_array_equal(
    np.load(again / "prompts" / "prompt_4.npy"),
    np.load(tuned / "prompts" / "prompt_4.npy"),
  )


def test_packed_rows_train_the_same_prompt(tuned, backbone, task, tmp_path):
  train.train(**prompt_run(backbone, task, tmp_path, packed_length=64))
  packed, plain = (
    np.load(folder / "prompts" / "prompt_4.npy") for folder in (tmp_path, tuned)
  )
  np.testing.assert_allclose(packed, plain, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_rows_are_no_longer_than_the_data(
  backbone, task, tmp_path, monkeypatch, caplog
):
  lengths = {"inputs": 60, "targets": 16}
  config = dataclasses.replace(backbone.config, dropout_rate=0.2)
  dropping = dataclasses.replace(backbone, config=config)
  fitting = prompt_run(
    dropping, task, tmp_path / "fitting", feature_lengths=lengths
  )
  with caplog.at_level("INFO"):
    train.train(**fitting)
  # 19 bytes and an end; 24 with 3 slots and one byte of padding.
  needed = "no example needs more than FeatureLengths(inputs=21, targets=4)"
  assert needed in caplog.text
  monkeypatch.setattr(
    prepare, "_fitting", lambda e, builder, m: builder.lengths
  )
  train.train(**fitting | {"model_dir": str(tmp_path / "padded")})
  ours, padded = (
    load_prompt(tmp_path / name / "prompts" / "prompt_4.npy").array
    for name in ("fitting", "padded")
  )
  np.testing.assert_allclose(ours, padded, rtol=1e-4, atol=1e-5)


def test_packed_rows_hold_an_example(backbone, task, tmp_path):
  arguments = prompt_run(backbone, task, tmp_path / "run", packed_length=14)
  with pytest.raises(ValueError, match="PACKED_LENGTH is 14 tokens, but one"):
    train.train(**arguments)
  assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_model_dir_may_be_relative(backbone, task, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  arguments = prompt_run(backbone, task, "relative/run")
  for steps in (1, 2):
    train.train(**arguments | {"plan": plan.Plan(total_steps=steps)})
  assert (tmp_path / "relative" / "run" / "checkpoint_2").is_dir()


def evaluated(backbone, task, output, **changes):
  arguments = {
    "output_dir": str(output),
    "backbone": backbone,
    "feature_lengths": LENGTHS,
    "evaluations": [
      TaskEvaluation(
        task=task, predictor=RankClassification(labels=LABELS), batch_size=8
      )
    ],
  }
  return evaluate.evaluate(**arguments | changes)


def test_evaluating_the_file_gives_the_metric_of_the_run(
  tuned, backbone, task, tmp_path
):
  prompt = tuned / "prompts" / "best.npy"
  results = evaluated(backbone, task, tmp_path, prompt_file=str(prompt))
  assert results["mean/score"] == load_prompt(prompt).card.metric_value
  assert json.loads((tmp_path / "metrics.json").read_text()) == results


@pytest.mark.parametrize("batch_size", [4, 32])
def test_infer_answers_every_line_in_order(
  tuned, backbone, folder, tmp_path, batch_size
):
  output = tmp_path / "answers.jsonl"
  infer.infer(
    output_file=str(output),
    backbone=backbone,
    inputs=FileInputs(file=str(folder / "validation.jsonl"), inputs="{text}"),
    feature_lengths=LENGTHS,
    batch_size=batch_size,
    predictor=RankClassification(labels=LABELS),
    prompt_file=str(tuned / "prompts" / "prompt_4.npy"),
  )
  answers = [json.loads(line) for line in output.read_text().splitlines()]
  known = tuned / "inference_eval" / "integration_runs_toy-000004.jsonl"
  expected = [json.loads(line) for line in known.read_text().splitlines()]
  assert [a["predict"] for a in answers] == [e["prediction"] for e in expected]


@pytest.mark.parametrize("length_buckets", [1, 3])
def test_infer_goes_on_where_it_was_interrupted(
  tuned, backbone, folder, tmp_path, monkeypatch, caplog, length_buckets
):
  monkeypatch.setattr(infer, "_LINES_OF_PART", 8)
  arguments = {
    "backbone": backbone,
    "inputs": FileInputs(
      file=str(folder / "validation.jsonl"), inputs="{text}"
    ),
    "feature_lengths": LENGTHS,
    "batch_size": 4,
    "length_buckets": length_buckets,
    "predictor": RankClassification(labels=LABELS),
    "prompt_file": str(tuned / "prompts" / "prompt_4.npy"),
  }
  whole, cut = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
  infer.infer(output_file=str(whole), **arguments)
  add, added = answer_parts.AnswerParts.add, []

  def interrupted(self, lines):
    if len(added) == 2:
      raise KeyboardInterrupt
    added.append(lines)
    add(self, lines)

  monkeypatch.setattr(answer_parts.AnswerParts, "add", interrupted)
  with pytest.raises(KeyboardInterrupt):
    infer.infer(output_file=str(cut), **arguments)
  assert not cut.exists()
  monkeypatch.setattr(answer_parts.AnswerParts, "add", add)
  with pytest.raises(ValueError, match=r"parts of another run .*\n  seed: 0"):
    infer.infer(output_file=str(cut), **arguments, seed=1)
  with caplog.at_level("INFO", logger="absl"):
    infer.infer(output_file=str(cut), **arguments)
  assert f"16 of {len(whole.read_text().splitlines())} lines" in caplog.text
  assert cut.read_bytes() == whole.read_bytes()
  assert {path.name for path in tmp_path.iterdir()} == {cut.name, whole.name}


def test_infer_scores_targets(tuned, backbone, folder, tmp_path):
  scores = []
  rows = (folder / "validation.jsonl").read_text().splitlines()
  for target in LABELS:
    asked = tmp_path / f"{target}_asked.jsonl"
    asked.write_text(
      "".join(
        json.dumps(json.loads(row) | {"answer": target}) + "\n" for row in rows
      )
    )
    output = tmp_path / f"{target}.jsonl"
    infer.infer(
      output_file=str(output),
      backbone=backbone,
      inputs=FileInputs(file=str(asked), inputs="{text}", targets="{answer}"),
      feature_lengths=LENGTHS,
      batch_size=8,
      predictor=Generation(),
      mode=infer.Mode.SCORE,
      prompt_file=str(tuned / "prompts" / "prompt_4.npy"),
    )
    lines = output.read_text().splitlines()
    scores.append([json.loads(line)["score"] for line in lines])
  # The better score is the verdict of rank classification.
  known = tuned / "inference_eval" / "integration_runs_toy-000004.jsonl"
  expected = [json.loads(line) for line in known.read_text().splitlines()]
  assert [LABELS[i] for i in np.argmax(scores, axis=0)] == [
    e["prediction"] for e in expected
  ]


def test_infer_tells_how_likely_each_label_is(
  tuned, backbone, folder, tmp_path
):
  output = tmp_path / "classes.jsonl"
  arguments = {
    "output_file": str(output),
    "backbone": backbone,
    "inputs": FileInputs(
      file=str(folder / "validation.jsonl"), inputs="{text}"
    ),
    "feature_lengths": LENGTHS,
    "batch_size": 3,
    "mode": "classify",
    "prompt_file": str(tuned / "prompts" / "prompt_4.npy"),
  }
  with pytest.raises(ValueError, match=r"the predictor Generation.* ranks no"):
    infer.infer(**arguments, predictor=Generation())
  infer.infer(**arguments, predictor=RankClassification(labels=LABELS))
  found = [json.loads(line) for line in output.read_text().splitlines()]
  known = tuned / "inference_eval" / "integration_runs_toy-000004.jsonl"
  expected = [json.loads(line) for line in known.read_text().splitlines()]
  assert [f["label"] for f in found] == [e["prediction"] for e in expected]
  for each in found:
    likely = each["probabilities"]
    assert list(likely) == list(LABELS)
    assert sum(likely.values()) == pytest.approx(1)
    assert each["confidence"] == max(likely.values()) == likely[each["label"]]


def test_a_model_is_tuned_by_another_pattern(backbone, task, tmp_path):
  arguments = prompt_run(
    backbone,
    task,
    tmp_path,
    trainable=(".*",),
    prompt=None,
    optimizer=optimizers.adafactor(
      learning_rate=optimizers.constant(learning_rate=0.01)
    ),
    selection=None,
  )
  result = train.train(**arguments)
  assert set(result.state.trainable) == {
    "encoder",
    "decoder",
    "token_embedder",
  }
  tuned = Backbone(
    config=backbone.config, vocabulary=VOCABULARY, checkpoint=str(tmp_path)
  )
  before, after = backbone.load().params, tuned.load().params
  changed = jax.tree.map(lambda a, b: np.any(a != b), before, after)
  assert all(jax.tree.leaves(changed))


class BestAtTwo:
  """An evaluation that finds the checkpoint of step 2 the best."""

  def prepare(self, model, **unused):
    return lambda params, step: {"toy/score": -abs(step - 2.0)}


def test_a_tuned_model_is_its_best_checkpoint(backbone, task, tmp_path):
  arguments = prompt_run(
    backbone,
    task,
    tmp_path / "long",
    trainable=(".*",),
    prompt=None,
    evaluations=[BestAtTwo()],
    selection=selection.Selection(metric="toy/score"),
  )
  train.train(**arguments)
  short = arguments | {
    "model_dir": str(tmp_path / "short"),
    "plan": plan.Plan(total_steps=2),
    "evaluations": (),
    "selection": None,
  }
  train.train(**short)

  def tuned(name):
    checkpoint = str(tmp_path / name)
    return dataclasses.replace(backbone, checkpoint=checkpoint).load().params

  best, latest = tuned("long"), tuned("long/checkpoint_4")
  jax.tree.map(np.testing.assert_array_equal, best, tuned("short"))
  changed = jax.tree.map(lambda a, b: np.any(a != b), best, latest)
  assert all(jax.tree.leaves(changed))


@pytest.fixture(scope="module")
def corpus(folder):
  path = folder / "corpus.jsonl"
  rng = np.random.default_rng(1)
  rows = ["".join(rng.choice(list("abc "), size=200)) for _ in range(8)]
  path.write_text("".join(json.dumps({"text": row}) + "\n" for row in rows))
  return path


def test_pretrained_from_scratch_then_adapted(corpus, tmp_path):
  def arguments(objective, model_dir, lengths, **changes):
    inputs = CorpusInputs(
      files=[str(corpus)], cache=str(tmp_path / "tokens"), objective=objective
    )
    return {
      "model_dir": str(tmp_path / model_dir),
      "backbone": Backbone(
        config=fakes.tiny_config(vocab_size=384),
        vocabulary=VOCABULARY,
        checkpoint=changes.pop("checkpoint", None),
      ),
      "inputs": inputs,
      "feature_lengths": lengths,
      "batch_size": 8,
      "trainable": (".*",),
      "optimizer": optimizers.adafactor(
        learning_rate=optimizers.inverse_square_root(
          learning_rate=1.0, warmup_steps=100
        )
      ),
      "plan": plan.Plan(total_steps=12, eval_every=6, save_every=12),
      "evaluations": [
        held_out.HeldOutLoss(inputs=inputs, batch_size=8, num_batches=1)
      ],
    } | changes

  result = train.train(
    **arguments(
      "span_corruption",
      "spans",
      {"inputs": 32, "targets": 16},
      from_scratch=True,
    )
  )
  assert result.metrics["span_corruption/loss"] < 5.5  # log 384 is 5.95.
  adaptation = arguments(
    "prefix_lm",
    "adapted",
    {"inputs": 16, "targets": 16},
    checkpoint=str(tmp_path / "spans"),
    final_evaluations=[final_export.FinalExport()],
  )
  adapted = train.train(**adaptation)
  assert adapted.metrics["prefix_lm/loss"] < 5.5
  written = tmp_path / "adapted" / "t5x" / "checkpoint_12"
  wanted = jax.device_get(adapted.state.trainable)
  assert t5x.read(written).step == 12
  jax.tree.map(np.testing.assert_array_equal, t5x.read(written).params, wanted)
  # Given again, the command leaves it as it is.
  before = (written / "checkpoint").stat().st_mtime_ns
  train.train(**adaptation)
  assert (written / "checkpoint").stat().st_mtime_ns == before
  # Another model there is neither overwritten nor taken for this one.
  shutil.rmtree(written)
  t5x.save(jax.tree.map(np.zeros_like, wanted), written.parent, step=12)
  with pytest.raises(FileExistsError, match="holds other weights"):
    train.train(**adaptation)
  assert not t5x.read(written).params["token_embedder"]["embedding"].any()


def test_a_prompt_has_no_place_in_an_exported_model(backbone, task, tmp_path):
  arguments = prompt_run(backbone, task, tmp_path / "run")
  arguments["final_evaluations"] = [final_export.FinalExport()]
  with pytest.raises(ValueError, match="writes a T5 alone"):
    train.train(**arguments)
  assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_few_examples_train_and_others_select(backbone, task, tmp_path):
  def few(part):
    return few_shot.FewShot(part=part, num_train=4, num_validation=6, seed=3)

  arguments = prompt_run(backbone, task, tmp_path)
  [whole] = arguments["evaluations"]
  dev = dataclasses.replace(whole, split="train", view=few("validation"))
  test = dataclasses.replace(whole, folder="final_eval")
  inputs = dataclasses.replace(arguments["inputs"], view=few("train"))
  result = train.train(
    **arguments
    | {"inputs": inputs, "evaluations": [dev], "final_evaluations": [test]}
  )
  config = json.loads((tmp_path / "run.json").read_text())["config"]
  trained = config["data/numbers"]
  name = "integration_runs_toy"
  assert len(trained) == 4
  judged = {
    folder: (tmp_path / folder / f"{name}-{step:06}.jsonl").read_text()
    for folder, step in (
      ("inference_eval", result.step),
      ("final_eval", result.best.step),
    )
  }
  rows = [json.loads(x)["input"] for x in judged["inference_eval"].splitlines()]
  selected = [row["number"] for row in rows]
  assert len(selected) == 6
  assert not set(selected) & set(trained)
  assert len(judged["final_eval"].splitlines()) == 20
  assert set(result.final) == {
    *(f"{name}/accuracy", f"{name}/mean_2class_f1", "mean/score")
  }


def test_no_checkpoint_and_not_from_scratch_is_an_error(
  backbone, task, tmp_path
):
  nameless = Backbone(config=backbone.config, vocabulary=VOCABULARY)
  with pytest.raises(ValueError, match="set INITIAL_CHECKPOINT_PATH"):
    train.train(**prompt_run(nameless, task, tmp_path))
  assert not list(tmp_path.iterdir())


def test_roles_for_heads_that_are_read_are_an_error(backbone, task, tmp_path):
  given = dataclasses.replace(backbone, initialization="head_roles")
  with pytest.raises(ValueError, match="INITIALIZATION is 'head_roles'"):
    train.train(**prompt_run(given, task, tmp_path / "run"))
  assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_checkpoint_and_from_scratch_is_an_error(backbone, task, tmp_path):
  with pytest.raises(ValueError, match="drop one of the two"):
    train.train(**prompt_run(backbone, task, tmp_path, from_scratch=True))


def test_another_runs_model_dir_is_refused_and_left_alone(
  tuned, backbone, task
):
  before = sorted(p.name for p in tuned.iterdir())
  arguments = prompt_run(backbone, task, tuned, batch_size=16)
  with pytest.raises(ValueError, match=r"another run(.|\n)*batch_size"):
    train.train(**arguments)
  assert sorted(p.name for p in tuned.iterdir()) == before


def test_labels_that_are_not_the_tasks_are_an_error(backbone, task, tmp_path):
  inputs = TaskInputs(task=task, labels=("no", "nah"))
  with pytest.raises(ValueError, match="'yes' is not among the class labels"):
    train.train(**prompt_run(backbone, task, tmp_path, inputs=inputs))


def test_another_run_is_refused_even_without_its_checkpoints(
  tuned, backbone, task, tmp_path
):
  left = tmp_path / "left"
  shutil.copytree(tuned, left, ignore=shutil.ignore_patterns("checkpoint_*"))
  before = (left / "metrics.jsonl").read_text()
  with pytest.raises(ValueError, match=r"another run(.|\n)*batch_size"):
    train.train(**prompt_run(backbone, task, left, batch_size=16))
  assert (left / "metrics.jsonl").read_text() == before


def test_a_prompt_trained_with_its_backbone_is_not_exported(
  backbone, task, tmp_path
):
  train.train(**prompt_run(backbone, task, tmp_path, trainable=(".*",)))
  assert not (tmp_path / "prompts").exists()


def test_every_example_of_a_bank_trains_the_prompt_it_names(backbone, tmp_path):
  rows = [
    {"inputs": "aaa", "targets": "no", "prompt_index": index}
    for index in (0, 2)
  ]
  name = "integration_runs_bank"
  splits = text_tasks.in_memory({"train": rows, "validation": rows})
  text_tasks.add(name, splits, vocabulary=VOCABULARY, metric_fns=[accuracy])
  prompt = PromptSpec(length=3, num_prompts=3, initializer=initializers.uniform)
  evaluation = TaskEvaluation(
    task=name, predictor=RankClassification(labels=LABELS), batch_size=8
  )
  train.train(
    **prompt_run(
      backbone,
      name,
      tmp_path,
      prompt=prompt,
      evaluations=[evaluation],
      inputs=TaskInputs(task=name),
    )
  )
  first, last = (
    np.load(tmp_path / "prompts" / f"prompt_{step}.npy") for step in (0, 4)
  )
  changed = np.any(first != last, axis=(1, 2))
  assert changed.tolist() == [True, False, True]


@pytest.mark.parametrize(
  ("inputs", "message"),
  [
    ({"inputs": "text"}, "did you mean '{text}'"),
    ({"inputs": "{text:3}"}, "format or conversion"),
    ({"inputs": "{text"}, "malformed"),
    ({"inputs": "{txt}"}, "field 'txt' is missing"),
  ],
)
def test_a_text_that_names_no_field_is_refused(
  backbone, folder, tmp_path, inputs, message
):
  with pytest.raises(ValueError, match=message):
    infer.infer(
      output_file=str(tmp_path / "out.jsonl"),
      backbone=backbone,
      inputs=FileInputs(file=str(folder / "validation.jsonl"), **inputs),
      feature_lengths=LENGTHS,
      batch_size=8,
      predictor=Generation(),
    )
  assert not list(tmp_path.iterdir())


def test_scores_need_targets(backbone, folder, tmp_path):
  with pytest.raises(ValueError, match="set TARGETS_TEXT"):
    infer.infer(
      output_file=str(tmp_path / "out.jsonl"),
      backbone=backbone,
      inputs=FileInputs(file=str(folder / "train.jsonl"), inputs="{text}"),
      feature_lengths=LENGTHS,
      batch_size=8,
      predictor=Generation(),
      mode="score",
    )


@pytest.fixture
def no_weights(monkeypatch):
  """Fails where the backbone is read."""

  def load(self):
    raise AssertionError(f"{self.checkpoint} was read first")

  monkeypatch.setattr(Backbone, "load", load)


@pytest.mark.usefixtures("no_weights")
def test_a_folder_that_cannot_be_is_refused_before_weights_are_read(
  backbone, task, folder, tmp_path
):
  (tmp_path / "file").write_text("in the way")
  with pytest.raises(OSError, match="choose another folder"):
    train.train(**prompt_run(backbone, task, tmp_path / "file" / "run"))
  with pytest.raises(OSError, match="choose another folder"):
    infer.infer(
      output_file=str(tmp_path / "file" / "out.jsonl"),
      backbone=backbone,
      inputs=FileInputs(file=str(folder / "train.jsonl"), inputs="{text}"),
      feature_lengths=LENGTHS,
      batch_size=8,
      predictor=Generation(),
    )
  assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_bare_model_is_evaluated_at_the_step_of_its_checkpoint(
  backbone, task, tmp_path
):
  evaluated(backbone, task, tmp_path)
  assert (tmp_path / "inference_eval" / f"{task}-000007.jsonl").exists()


@pytest.mark.parametrize("prefetch", [0, 3])
def test_prefetching_changes_nothing(tuned, backbone, task, tmp_path, prefetch):
  arguments = prompt_run(backbone, task, tmp_path)
  train.train(**arguments, prefetch_batches=prefetch)
  np.testing.assert_array_equal(
    np.load(tmp_path / "prompts" / "prompt_4.npy"),
    np.load(tuned / "prompts" / "prompt_4.npy"),
  )


def test_a_prompt_of_another_backbone_is_refused(
  tuned, backbone, task, folder, tmp_path
):
  model = fakes.tiny_model(vocab_size=384)
  other = t5x.save(fakes.tiny_params(model, seed=1), folder / "other", step=0)
  changed = Backbone(
    config=model.config, vocabulary=VOCABULARY, checkpoint=str(other)
  )
  prompt = str(tuned / "prompts" / "best.npy")
  with pytest.raises(ValueError, match="was tuned on the backbone"):
    evaluated(changed, task, tmp_path, prompt_file=prompt)


def test_a_vocabulary_larger_than_the_model_is_refused(backbone):
  with pytest.raises(ValueError, match="64 rows"):
    Backbone(config=fakes.tiny_config(), vocabulary=VOCABULARY)


def test_a_task_of_another_vocabulary_is_refused(backbone, task, tmp_path):
  other = Backbone(
    config=backbone.config,
    vocabulary=ByteVocabulary(extra_ids=100),
    checkpoint=backbone.checkpoint,
  )
  with pytest.raises(ValueError, match="their ids differ"):
    train.train(**prompt_run(other, task, tmp_path))


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"feature_lengths": {"inputs": 8}}, r"lacks \['targets'\]"),
    ({"feature_lengths": {"input": 8, "targets": 4}}, "did you mean 'inputs'"),
    ({"trainable": ("prompts/.*",)}, "matches none of"),
    ({"batch_size": 0}, "BATCH_SIZE 0"),
    ({"inputs": TaskInputs(task="integration_run_toy")}, "near names: integ"),
  ],
)
def test_bad_settings_are_named_and_nothing_is_written(
  backbone, task, tmp_path, changes, message
):
  with pytest.raises(ValueError, match=message):
    train.train(**prompt_run(backbone, task, tmp_path / "new", **changes))
  assert not (tmp_path / "new").exists()
