"""The committed rung of the ladder is a language model of real English."""

import pathlib

import jax
import numpy as np
import pytest

from prompt_tuning import config
from prompt_tuning.data.features import FeatureBuilder, FeatureLengths
from prompt_tuning.model import t5
from prompt_tuning.runs import export
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
