"""A prompt pre-trained on running text, and a task that starts from it."""

import json

import numpy as np

from prompt_tuning import config, paths
from prompt_tuning.checkpoints import t5x
from prompt_tuning.runs import train
from prompt_tuning.testing import fakes

WORDS = paths.embedded_dir() / "sentencepiece.model"
SHAPE = fakes.tiny_config(vocab_size=1024)
TEXTS = ("the film was good .", "which one is the first ?", "it is the music")


def run(folder, name, recipes, **settings):
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
    "TRAIN_STEPS": 2,
    "BATCH_SIZE": 4,
    "PROMPT_LENGTH": 3,
    "MODEL_DIR": str(folder / name),
    **settings,
  }
  config.parse(
    ["models/t5_1_1.gin", *recipes],
    [f"{key}={value!r}" for key, value in macros.items()],
    entry=train.train,
  )
  return config.call(train.train)


def test_from_running_text_to_a_task(tmp_path):
  rows = [
    {"text": [f"{TEXTS[(d + n) % 3]} {'yes ' * n}" for n in range(6)]}
    for d in range(400)
  ]
  corpus = tmp_path / "corpus.jsonl"
  corpus.write_text("".join(json.dumps(row) + "\n" for row in rows))
  labelled = tmp_path / "train.jsonl"
  rows = [{"sentence": TEXTS[n % 2], "label": n % 2} for n in range(8)]
  labelled.write_text("".join(json.dumps(row) + "\n" for row in rows))
  model = fakes.tiny_model(vocab_size=1024)
  t5x.save(fakes.tiny_params(model), tmp_path / "backbone", step=0)
  pretrained = run(
    tmp_path,
    "pretrained",
    ["runs/prompt_pretrain.gin"],
    CORPUS_FILES=[str(corpus)],
    CORPUS_CACHE=str(tmp_path / "sentences"),
    TASK_FEATURE_LENGTHS={"inputs": 64, "targets": 3},
    **{"held_out.HeldOutLoss.num_batches": 1},
  )
  assert pretrained.step == 2
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
