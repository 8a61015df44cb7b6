"""The committed rung of the ladder is a language model of real English."""

import json
import pathlib

import jax
import numpy as np
import pytest

from prompt_tuning import config
from prompt_tuning.data.features import FeatureBuilder, FeatureLengths
from prompt_tuning.model import t5
from prompt_tuning.runs import export, train
from prompt_tuning.testing import fakes
from prompt_tuning.train.step import batch_loss
from prompt_tuning.types import EOS_ID

ROOT = pathlib.Path(__file__).resolve().parents[2]
LADDER = ROOT / "docs" / "results" / "ladder"
PREFIX = "The committee met in the town hall on Monday evening, and"
CONTINUATION = (
  "the members of the council agreed that the road should be built."
)


@pytest.fixture(scope="module")
def backbone():
  config.parse(
    ["papers/ladder/5m.gin", "runs/export.gin"],
    [
      f"INITIAL_CHECKPOINT_PATH={str(LADDER / '5m')!r}",
      f"VOCABULARY_PATH={str(LADDER / 'sentencepiece.model')!r}",
      "ACTIVATION_DTYPE='float32'",
      "EXPORT_DIR='out'",
    ],
    entry=export.export,
  )
  return config.arguments(export.export)["backbone"]


def loss(backbone, continuation):
  """Returns nats a token of a continuation, its end of sequence included."""
  model = t5.T5(backbone.config)
  vocabulary = backbone.vocabulary
  example = {
    name: np.asarray([*vocabulary.encode(text), EOS_ID])
    for name, text in (("inputs", PREFIX), ("targets", continuation))
  }
  builder = FeatureBuilder(
    FeatureLengths(40, 40), vocab_size=model.config.vocab_size
  )
  params = jax.device_put(backbone.load().params)
  sums = jax.jit(batch_loss, static_argnums=0)(
    model, params, builder.batch([example])
  )
  return float(sums.loss) / float(sums.num_tokens)


def test_english_is_likelier_than_its_words_in_another_order(backbone):
  words = CONTINUATION.split()
  shuffled = " ".join(np.random.default_rng(0).permutation(words).tolist())
  fluent = loss(backbone, CONTINUATION)
  assert fluent < loss(backbone, shuffled)
  # Of 8,192 pieces at random each would cost 9.0.
  assert fluent < 4.0


def test_it_is_the_rung_of_its_recipe(backbone):
  sizes = jax.tree.map(np.size, backbone.load().params)
  assert sum(jax.tree.leaves(sizes)) == 9_507_328


@pytest.mark.slow
def test_the_first_steps_of_a_rung(tmp_path):
  """Span corruption, then LM adaptation of what came of it, on its tokens."""
  rng = np.random.default_rng(0)
  words = ("the", "film", "was", "good", "council", "road", "of", "town")
  corpus = tmp_path / "corpus.jsonl"
  corpus.write_text(
    "".join(
      json.dumps({"text": " ".join(rng.choice(words, 400))}) + "\n"
      for _ in range(40)
    )
  )
  shape = fakes.tiny_config()
  own = {
    name.upper(): getattr(shape, name)
    for name in (
      *("embed_dim", "num_heads", "head_dim", "mlp_dim"),
      *("num_encoder_layers", "num_decoder_layers"),
    )
  }
  own |= {
    "VOCABULARY_PATH": str(LADDER / "sentencepiece.model"),
    "CORPUS_FILES": [str(corpus)],
    "HELD_OUT_FILES": [str(corpus)],
    "CORPUS_CACHE": str(tmp_path / "train"),
    "HELD_OUT_CACHE": str(tmp_path / "held_out"),
    "ACTIVATION_DTYPE": "float32",
    "BATCH_SIZE": 4,
    "STEPS_PER_DISPATCH": 1,
    "TRAIN_STEPS": 3,
    "WARMUP_STEPS": 1,
    "COOLDOWN_STEPS": 1,
    "held_out.HeldOutLoss.num_batches": 1,
  }
  stages = {
    "pretrain": {"TASK_FEATURE_LENGTHS": {"inputs": 32, "targets": 9}},
    "lm_adapt": {
      "TASK_FEATURE_LENGTHS": {"inputs": 16, "targets": 16},
      "INITIAL_CHECKPOINT_PATH": str(tmp_path / "pretrain"),
      "CORPUS_FILES": None,
      "HELD_OUT_FILES": None,
    },
  }
  for name, settings in stages.items():
    given = own | settings | {"MODEL_DIR": str(tmp_path / name)}
    config.parse(
      ["papers/ladder/1m.gin", f"papers/ladder/{name}.gin"],
      [f"{key}={value!r}" for key, value in given.items()],
      entry=train.train,
    )
    result = config.call(train.train)
    assert result.step == 3
    assert np.isfinite(result.metrics["mean/loss"])
