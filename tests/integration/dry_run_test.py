"""Dry runs: what they print, what they refuse, and that they write nothing."""

import dataclasses
import functools
import json
import re

import jax
import numpy as np
import pytest

from prompt_tuning import config
from prompt_tuning.backbone import Backbone
from prompt_tuning.data import text_tasks
from prompt_tuning.data.file_task import file_task
from prompt_tuning.data.inputs import CorpusInputs, FileInputs, TaskInputs
from prompt_tuning.data.vocabularies import ByteVocabulary
from prompt_tuning.evaluate.generation import BeamSearch
from prompt_tuning.evaluate.predictors import Generation, RankClassification
from prompt_tuning.evaluate.tasks import TaskEvaluation
from prompt_tuning.model import quantization, t5
from prompt_tuning.prompts import artifact, initializers
from prompt_tuning.prompts.spec import PromptSpec
from prompt_tuning.runs import dry_run, evaluate, infer, train
from prompt_tuning.runs import main as main_lib
from prompt_tuning.testing import fakes
from prompt_tuning.train import held_out, mesh, optimizers, plan

LABELS = ("no", "yes")
LENGTHS = {"inputs": 12, "targets": 4}
VOCABULARY = ByteVocabulary(extra_ids=125)
RANK = RankClassification(labels=LABELS)
TASK = "dry_run_toy"
# Only shapes of it are asked for.
BACKBONE = Backbone(
  config=fakes.tiny_config(vocab_size=384),
  vocabulary=VOCABULARY,
  checkpoint="/no/such/checkpoint",
)


@pytest.fixture(scope="module", autouse=True)
def files(tmp_path_factory):
  folder = tmp_path_factory.mktemp("data")
  for split in ("train", "validation"):
    lines = [json.dumps({"text": "ab", "label": i % 2}) for i in range(9)]
    (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
  file_task(
    name=TASK,
    files={
      "train": str(folder / "train.jsonl"),
      "validation": str(folder / "validation.jsonl"),
      "test": str(folder / "no_such_file.jsonl"),
    },
    inputs="{text}",
    targets="label",
    vocabulary=VOCABULARY,
    verbalizers=LABELS,
  )
  unmeasured = text_tasks.in_memory(
    {"validation": [{"inputs": "a", "targets": "no"}]}
  )
  text_tasks.add(f"{TASK}_unmeasured", unmeasured, vocabulary=VOCABULARY)
  return folder


def evaluation(**changes):
  settings = {"task": TASK, "predictor": RANK, "batch_size": 8}
  return TaskEvaluation(**(settings | changes))


def training(folder, **changes):
  arguments = {
    "model_dir": str(folder / "out"),
    "backbone": BACKBONE,
    "inputs": TaskInputs(task=TASK, labels=LABELS),
    "feature_lengths": LENGTHS,
    "batch_size": 8,
    "trainable": ("prompt/.*",),
    "optimizer": optimizers.adafactor(
      learning_rate=optimizers.constant(learning_rate=0.3)
    ),
    "plan": plan.Plan(total_steps=1),
    "prompt": PromptSpec(length=3, initializer=initializers.uniform),
    "evaluations": [evaluation()],
  }
  return arguments | changes


def evaluating(folder, **changes):
  arguments = {
    "output_dir": str(folder / "out"),
    "backbone": BACKBONE,
    "feature_lengths": LENGTHS,
    "evaluations": [evaluation()],
  }
  return arguments | changes


def inferring(folder, files, **changes):
  arguments = {
    "output_file": str(folder / "out" / "answers.jsonl"),
    "backbone": BACKBONE,
    "inputs": FileInputs(file=str(files / "train.jsonl"), inputs="{text}"),
    "feature_lengths": LENGTHS,
    "batch_size": 8,
    "predictor": Generation(),
  }
  return arguments | changes


def number(text, before):
  """Returns the first number after some words."""
  found = re.search(re.escape(before) + r"\D*?([\d,]+)", text)
  assert found, f"{before!r} is not in:\n{text}"
  return int(found[1].replace(",", ""))


def size_of(params):
  return sum(x.size for x in jax.tree.leaves(params))


def bytes_of(params):
  return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(params))


PARAMETERS = size_of(fakes.tiny_params(fakes.tiny_model(vocab_size=384)))


class TestTrain:
  def test_counts_without_weights(self, tmp_path):
    text = dry_run.train(**training(tmp_path))
    assert "encoder_input_tokens: int32[8, 15]" in text
    assert number(text, "trainable parameters:") == 3 * 16 * 4
    assert number(text, "frozen parameters:") == PARAMETERS * 4

  def test_what_is_frozen_has_the_type_it_is_kept_in(self, tmp_path):
    backbone = dataclasses.replace(BACKBONE, dtype="bfloat16")
    text = dry_run.train(**training(tmp_path, backbone=backbone))
    assert number(text, "trainable parameters:") == 3 * 16 * 4
    assert number(text, "frozen parameters:") == PARAMETERS * 2
    scratch = dataclasses.replace(backbone, checkpoint=None)
    text = dry_run.train(
      **training(tmp_path, backbone=scratch, from_scratch=True)
    )
    assert number(text, "frozen parameters:") == PARAMETERS * 4

  def test_a_mesh_larger_than_this_machine(self, tmp_path):
    hardware = train.Hardware(data=8, model=4)
    text = dry_run.train(**training(tmp_path, hardware=hardware))
    assert "on each of 32 devices (data=8 x model=4)" in text
    assert "only 8 of the 32 devices: here the run would be refused" in text
    asked = train.Hardware(data=16, model="auto")
    text_16 = dry_run.train(**training(tmp_path, batch_size=16, hardware=asked))
    assert "on each of 16 devices (data=16 x model=1)" in text_16
    one = dry_run.train(
      **training(
        tmp_path,
        hardware=train.Hardware(axis_rules=mesh.DEFAULT_RULES),
      )
    )
    assert "refused" not in one
    whole, part = (number(t, "):") for t in (one, text))
    # Everything but the norms, biases, the prompt and its state is cut.
    assert whole / 4 < part < whole / 3
    with pytest.raises(ValueError, match="does not use the 8 devices"):
      train.train(**training(tmp_path, hardware=hardware))

  @pytest.mark.parametrize(
    ("changes", "message"),
    [
      ({"batch_size": 12}, "12 examples does not divide over the 8 devices"),
      ({"hardware": train.Hardware(data=16)}, "8 examples does not divide"),
      ({"hardware": train.Hardware(model=3)}, "does not use the 8 devices"),
      ({"hardware": train.Hardware(data=0)}, "positive number"),
      ({"hardware": train.Hardware(sequence=3)}, "does not use the 8 devices"),
      (
        {"hardware": train.Hardware(data=2, sequence=4)},
        "12 tokens and 3 of slots and template do not divide over the 4",
      ),
      (
        {"hardware": train.Hardware(data=3, model="auto")},
        "No mesh with data=3",
      ),
      ({"hardware": train.Hardware(model=16)}, "does not divide by the 16"),
      ({"batch_size": 0}, "BATCH_SIZE 0"),
      ({"trainable": ("prompts/.*",)}, "matches none of"),
      ({"from_scratch": True}, "drop one of the two"),
      (
        {"backbone": dataclasses.replace(BACKBONE, checkpoint=None)},
        "set INITIAL_CHECKPOINT_PATH",
      ),
      ({"inputs": TaskInputs(task="dry_run_toi")}, f"near names: {TASK}"),
      ({"inputs": TaskInputs(task=TASK, split="dev")}, "no split 'dev'"),
      ({"inputs": TaskInputs(task=TASK, split="test")}, "no_such_file.jsonl"),
      (
        {"inputs": TaskInputs(task=TASK, use_cached=True)},
        "name its folder in SEQIO_CACHE_DIRS",
      ),
      (
        {"inputs": TaskInputs(task=TASK, labels=("no", "perhaps"))},
        "class label 'perhaps' has 8 tokens.*allows targets of 4",
      ),
      (
        {"evaluations": [evaluation(predictor=RankClassification(labels="a"))]},
        "verbalizers",
      ),
      (
        {
          "prompt": PromptSpec(
            length=3,
            initializer=functools.partial(initializers.class_labels, labels=()),
          )
        },
        "labels must be a non-empty list",
      ),
    ],
  )
  def test_refuses_what_the_run_would(self, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
      dry_run.train(**training(tmp_path, **changes))
    assert not list(tmp_path.iterdir())

  def test_a_prompt_of_another_length_to_start_from(self, tmp_path):
    card = artifact.PromptCard(length=5, width=16, backbone="", step=0)
    artifact.save_prompt(tmp_path / "five.npy", np.zeros((5, 16)), card)
    start = functools.partial(
      initializers.from_file, path=tmp_path / "five.npy"
    )
    prompt = PromptSpec(length=3, initializer=start)
    with pytest.raises(ValueError, match=r"has shape \[5, 16\]"):
      dry_run.train(**training(tmp_path, prompt=prompt))

  @pytest.mark.parametrize("place", ["inputs", "evaluations"])
  @pytest.mark.parametrize(
    ("changes", "lengths", "message"),
    [
      ({}, {"inputs": 32, "targets": 4}, "needs targets of"),
      (
        {"files": ["/no/such/*.jsonl"]},
        {"inputs": 32, "targets": 16},
        "nothing matches '/no/such",
      ),
    ],
  )
  def test_running_text(
    self, files, tmp_path, place, changes, lengths, message
  ):
    inputs = CorpusInputs(
      **{
        "files": [str(files / "*.jsonl")],
        "cache": str(tmp_path / "cache"),
        "objective": "span_corruption",
      }
      | changes
    )
    value = inputs
    if place == "evaluations":
      value = [held_out.HeldOutLoss(inputs=inputs, batch_size=8)]
    arguments = training(tmp_path, **{place: value, "feature_lengths": lengths})
    with pytest.raises(ValueError, match=message):
      dry_run.train(**arguments)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def prompt_file(tmp_path):
  card = artifact.PromptCard(
    length=5, width=16, backbone="0123", step=70, task="another"
  )
  artifact.save_prompt(tmp_path / "prompt.npy", np.zeros((5, 16)), card)
  return str(tmp_path / "prompt.npy")


class TestEvaluate:
  def test_everything_is_frozen_and_one_batch_is_answered(self, tmp_path):
    text = dry_run.evaluate(**evaluating(tmp_path))
    assert number(text, "total") == PARAMETERS
    assert f"{PARAMETERS * 4:,}" in text
    assert "trainable: nothing" in text
    assert f"one batch of task {TASK}: {8 * (12 + 3 * 4) * 4} bytes" in text
    # Verbalizers have four tokens at most: "yes" and the end of sequence.
    assert "predictions: int32[8, 4], 128 bytes" in text

  @pytest.mark.parametrize("decoder", [None, BeamSearch(num_decodes=2)])
  def test_decoding(self, tmp_path, decoder):
    options = {} if decoder is None else {"decoder": decoder}
    predictor = Generation(**options)
    arguments = evaluating(
      tmp_path, evaluations=[evaluation(predictor=predictor)]
    )
    arguments["feature_lengths"] = {"inputs": 12, "targets": 6}
    text = dry_run.evaluate(**arguments)
    assert "predictions: int32[8, 6], 192 bytes" in text

  def test_a_prompt_is_listed(self, tmp_path, prompt_file):
    text = dry_run.evaluate(**evaluating(tmp_path, prompt_file=prompt_file))
    assert re.search(r"^prompt +80 +320$", text, re.MULTILINE)
    assert number(text, "total") == PARAMETERS + 80
    assert f"prompt: float32[5, 16] from {prompt_file}" in text
    assert "tuned on another, step 70, with the backbone 0123" in text
    assert "encoder_input_tokens: int32[8, 17]" in text

  def test_a_loss_on_text_and_what_is_not_known(self, files, tmp_path):
    inputs = CorpusInputs(
      files=[str(files / "*.jsonl")], cache="cache", objective="prefix_lm"
    )

    class Unknown:
      def prepare(self, model, **unused):
        raise AssertionError("a dry run prepares nothing")

    measures = [held_out.HeldOutLoss(inputs=inputs, batch_size=3), Unknown()]
    text = dry_run.evaluate(**evaluating(tmp_path, evaluations=measures))
    assert "one batch of prefix_lm:" in text
    assert "int32[3, 12]" in text
    assert "not known by its shapes: Unknown" in text

  @pytest.mark.parametrize(
    ("changes", "message"),
    [
      ({"evaluations": []}, "nothing to evaluate"),
      (
        {"feature_lengths": {"input": 8, "targets": 4}},
        "did you mean 'inputs'",
      ),
      (
        {"evaluations": [evaluation(task="dry_run_toi")]},
        "near names: dry_run",
      ),
      ({"evaluations": [evaluation(split="test")]}, "no_such_file.jsonl"),
      (
        {"evaluations": [evaluation(split="dev")]},
        "no split 'dev'; its splits are",
      ),
      (
        {"evaluations": [evaluation(task=f"{TASK}_unmeasured")]},
        "task 'dry_run_toy_unmeasured' has no metrics",
      ),
      ({"prompt_file": "/no/such/prompt.npy"}, "/no/such/prompt.npy"),
    ],
  )
  def test_refuses_what_the_run_would(self, tmp_path, changes, message):
    with pytest.raises((ValueError, OSError), match=message):
      dry_run.evaluate(**evaluating(tmp_path, **changes))
    assert not list(tmp_path.iterdir())

  def test_no_batch_is_refused_where_it_is_said(self):
    with pytest.raises(ValueError, match="BATCH_SIZE 0"):
      evaluation(batch_size=0)

  def test_a_prompt_of_another_width(self, tmp_path, prompt_file):
    wide = dataclasses.replace(
      BACKBONE, config=fakes.tiny_config(vocab_size=384, embed_dim=32)
    )
    arguments = evaluating(tmp_path, backbone=wide, prompt_file=prompt_file)
    with pytest.raises(ValueError, match="prompt of width 16"):
      dry_run.evaluate(**arguments)


class TestInfer:
  def test_predictions(self, tmp_path, files, prompt_file):
    arguments = inferring(tmp_path, files, prompt_file=prompt_file)
    text = dry_run.infer(**arguments)
    assert number(text, "total") == PARAMETERS + 80
    assert "encoder_input_tokens: int32[8, 17]" in text
    assert "predictions: int32[8, 4], 128 bytes" in text

  def test_scores(self, tmp_path, files):
    inputs = FileInputs(
      file=str(files / "train.jsonl"), inputs="{text}", targets="{label}"
    )
    text = dry_run.infer(
      **inferring(tmp_path, files, inputs=inputs, mode="score")
    )
    assert "scores: float32[8], 32 bytes" in text

  @pytest.mark.parametrize(
    ("changes", "message"),
    [
      ({"mode": "score"}, "set TARGETS_TEXT"),
      ({"mode": "predikt"}, "INFER_MODE must be one of 'predict', 'score'"),
      ({"batch_size": 0}, "BATCH_SIZE 0"),
      ({"feature_lengths": {"inputs": 8}}, r"lacks \['targets'\]"),
      (
        {"inputs": FileInputs(file="/no/such/file.jsonl")},
        "/no/such/file.jsonl",
      ),
      ({"inputs": TaskInputs(task="dry_run_toi")}, "near names: dry_run_toy"),
    ],
  )
  def test_refuses_what_the_run_would(self, tmp_path, files, changes, message):
    with pytest.raises(ValueError, match=message):
      dry_run.infer(**inferring(tmp_path, files, **changes))
    assert not list(tmp_path.iterdir())

  def test_a_text_that_names_no_field(self, tmp_path, files):
    inputs = FileInputs(file=str(files / "train.jsonl"), inputs="{txt}")
    with pytest.raises(ValueError, match="field 'txt' is missing"):
      dry_run.infer(**inferring(tmp_path, files, inputs=inputs))


def test_runs_refuse_it_too_before_they_look_for_weights(tmp_path, files):
  nowhere = TaskInputs(task="dry_run_toi")
  measures = [evaluation(task="dry_run_toi")]
  runs = [
    lambda: train.train(**training(tmp_path, inputs=nowhere)),
    lambda: evaluate.evaluate(**evaluating(tmp_path, evaluations=measures)),
    lambda: infer.infer(**inferring(tmp_path, files, inputs=nowhere)),
  ]
  for run in runs:
    with pytest.raises(ValueError, match=f"near names: {TASK}"):
      run()
  assert not list(tmp_path.iterdir())


def test_an_unknown_type_is_refused():
  with pytest.raises(ValueError, match=r"BACKBONE_DTYPE.*got 'float23'"):
    dataclasses.replace(BACKBONE, dtype="float23")
  with pytest.raises(ValueError, match=r"T5Config\.dtype"):
    fakes.tiny_config(dtype="float23")


def test_an_int8_backbone_is_counted_as_it_is_kept(tmp_path):
  backbone = dataclasses.replace(BACKBONE, dtype="int8")
  text = dry_run.train(**training(tmp_path, backbone=backbone))
  shapes = t5.abstract_params(t5.T5(BACKBONE.config))
  expected = bytes_of(quantization.abstract_params(shapes, "int8"))
  assert number(text, "frozen parameters:") == expected
  assert expected < bytes_of(shapes) / 2


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"trainable": (".*",)}, r"'\.\*' matches .* kept as int8"),
    ({"from_scratch": True}, "FROM_SCRATCH is set, but BACKBONE_DTYPE"),
  ],
)
def test_int8_weights_are_not_trained(tmp_path, changes, message):
  checkpoint = None if "from_scratch" in changes else BACKBONE.checkpoint
  backbone = dataclasses.replace(BACKBONE, dtype="int8", checkpoint=checkpoint)
  with pytest.raises(ValueError, match=message):
    dry_run.train(**training(tmp_path, backbone=backbone, **changes))


_MODEL = (
  "INITIAL_CHECKPOINT_PATH='/no/such/checkpoint'",
  "TASK_FEATURE_LENGTHS={'inputs': 12, 'targets': 4}",
  "BATCH_SIZE=8",
)


@pytest.mark.parametrize(
  ("recipe", "entry", "settings", "expected"),
  [
    (
      "runs/prompt_tune.gin",
      train.train,
      (f"MIXTURE_OR_TASK_NAME='{TASK}'", "MODEL_DIR='out'", "TRAIN_STEPS=1"),
      "optimizer state:",
    ),
    (
      "runs/eval.gin",
      evaluate.evaluate,
      (f"MIXTURE_OR_TASK_NAME='{TASK}'", "EVAL_OUTPUT_DIR='out'"),
      f"one batch of task {TASK}:",
    ),
    (
      "runs/infer.gin",
      infer.infer,
      ("INFER_INPUT_FILE='train.jsonl'", "INFER_OUTPUT_FILE='out/a.jsonl'"),
      "one batch:",
    ),
  ],
)
def test_the_mains_print_all_of_it_and_write_nothing(
  files, monkeypatch, capsys, recipe, entry, settings, expected
):
  monkeypatch.chdir(files)
  (files / "train.jsonl").write_text('{"inputs": "a", "text": "a", "label": 0}')
  before = sorted(files.iterdir())
  model = ["models/byt5.gin", "sizes/byt5_small.gin", recipe]
  config.parse(model, [*_MODEL, *settings], entry=entry)
  main_lib.dry_run(entry)
  text = capsys.readouterr().out
  assert "prompt_tuning.backbone.Backbone.checkpoint = '/no/such/che" in text
  assert "encoder_input_tokens: int32[8, " in text
  assert expected in text
  # ByT5-small has 300 million parameters.
  assert re.search(r"^total .* 299,\d{3},\d{3} ", text, re.MULTILINE)
  assert sorted(files.iterdir()) == before
