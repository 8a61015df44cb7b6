"""A prompt pre-trained on running text, and a task that starts from it."""

import json

import numpy as np
import pytest

from prompt_tuning import config, paths
from prompt_tuning.checkpoints import t5x
from prompt_tuning.runs import infer, train
from prompt_tuning.testing import fakes

WORDS = paths.embedded_dir() / "sentencepiece.model"
SHAPE = fakes.tiny_config(vocab_size=1024)
TEXTS = ("the film was good .", "which one is the first ?", "it is the music")


def run(folder, name, recipes, *, entry=train.train, **settings):
  shape = {
    field.upper(): getattr(SHAPE, field)
    for field in (
      *("embed_dim", "num_heads", "head_dim", "mlp_dim"),
      *("num_encoder_layers", "num_decoder_layers"),
    )
  }
  macros = shape | {
    "NUM_EMBEDDINGS": 1024,
    "ACTIVATION_DTYPE": "float32",
    "INITIAL_CHECKPOINT_PATH": str(folder / "backbone"),
    "VOCABULARY_PATH": str(WORDS),
    "BATCH_SIZE": 4,
    **settings,
  }
  if entry is train.train:
    own = {"TRAIN_STEPS": 2, "PROMPT_LENGTH": 3}
    macros = own | macros | {"MODEL_DIR": str(folder / name)}
  config.parse(
    ["models/t5_1_1.gin", *recipes],
    [f"{key}={value!r}" for key, value in macros.items()],
    entry=entry,
  )
  return config.call(entry)


@pytest.fixture
def corpus(tmp_path):
  model = fakes.tiny_model(vocab_size=1024)
  t5x.save(fakes.tiny_params(model), tmp_path / "backbone", step=0)
  rows = [
    {"text": [f"{TEXTS[(d + n) % 3]} {'yes ' * n}" for n in range(6)]}
    for d in range(400)
  ]
  corpus = tmp_path / "corpus.jsonl"
  corpus.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return {
    "CORPUS_FILES": [str(corpus)],
    "CORPUS_CACHE": str(tmp_path / "sentences"),
  }


def test_from_running_text_to_a_task(corpus, tmp_path):
  labelled = tmp_path / "train.jsonl"
  rows = [{"sentence": TEXTS[n % 2], "label": n % 2} for n in range(8)]
  labelled.write_text("".join(json.dumps(row) + "\n" for row in rows))
  # The second run goes on where the first has ended.
  for steps in (2, 4):
    pretrained = run(
      tmp_path,
      "pretrained",
      ["runs/prompt_pretrain.gin"],
      TASK_FEATURE_LENGTHS={"inputs": 64, "targets": 3},
      TRAIN_STEPS=steps,
      **corpus,
      **{"held_out.HeldOutLoss.num_batches": 1},
    )
    assert pretrained.step == steps
  assert "next_sentence_prediction/loss" in pretrained.metrics
  prompt = tmp_path / "pretrained" / "prompts" / "best.npy"
  tuned = run(
    tmp_path,
    "tuned",
    [
      *("runs/prompt_tune.gin", "prompts/from_file.gin", "tasks/ppt.gin"),
      "decoding/answer_token.gin",
    ],
    PPT_TASK="sst2",
    TASK_NAME="from_running_text",
    TASK_FILES={"train": str(labelled), "validation": str(labelled)},
    PROMPT_FILE=str(prompt),
  )
  assert tuned.step == 2
  start = np.load(tmp_path / "tuned" / "prompts" / "prompt_0.npy")
  np.testing.assert_array_equal(start, np.load(prompt))


def test_from_a_labeller_to_a_prompt_of_several_formats(corpus, tmp_path):
  labelled = tmp_path / "labelled.jsonl"
  run(
    tmp_path,
    "labels",
    ["runs/label_sentences.gin"],
    entry=infer.infer,
    ANSWERS=("<extra_id_0> bad", "<extra_id_0> good"),
    INFER_OUTPUT_FILE=str(labelled),
    NUM_SENTENCES=200,
    TASK_FEATURE_LENGTHS={"inputs": 40, "targets": 2},
    BATCH_SIZE=32,
    **corpus,
  )
  rows = [json.loads(line) for line in labelled.read_text().splitlines()]
  assert len(rows) == 200
  assert {row["label"] for row in rows} <= {
    *("<extra_id_0> bad", "<extra_id_0> good")
  }
  # A model that knows nothing may find all of them the same.
  for number, row in enumerate(rows):
    row["label"] = ("bad", "good")[number % 2]
  labelled.write_text("".join(json.dumps(row) + "\n" for row in rows))
  labels = {
    "LABELLED_FILES": [str(labelled)],
    "VERBALIZER": {"bad": "bad", "good": "good"},
    "THRESHOLDS": {"bad": 0.0, "good": 0.0},
  }
  held_out = {"held_out.HeldOutLoss.num_batches": 1}
  alone = run(
    tmp_path,
    "sentences",
    ["runs/prompt_pretrain_sentences.gin"],
    **labels,
    **held_out,
  )
  loss = alone.metrics["sentence_classification/loss"]
  assert alone.metrics["mean/loss"] == loss
  # Its question, and the letters from E on, are no pieces of this vocabulary.
  words = {
    "wording.Wording.choice": "{query}[?]{options}[?]which one<X>",
    "wording.Wording.item": "{letter}{option}",
    "wording.Wording.letter": "{letter}",
    "PretrainingInputs.num_options": (2, 4),
  }
  mixed = run(
    tmp_path,
    "mixed",
    ["runs/prompt_pretrain_mixture.gin"],
    TASK_FEATURE_LENGTHS={"inputs": 96, "targets": 3},
    **corpus,
    **labels,
    **held_out,
    **words,
  )
  formats = (
    *("next_sentence_prediction", "next_sentence_selection", "unified"),
    "sentence_classification",
  )
  losses = [mixed.metrics[f"{name}/loss"] for name in formats]
  assert mixed.metrics["mean/loss"] == pytest.approx(np.mean(losses))
