"""Answers by example: whatever the batches, and at what cost."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from prompt_tuning.data.batches import evaluation_batches
from prompt_tuning.data.features import FeatureBuilder, FeatureLengths
from prompt_tuning.data.vocabularies import ByteVocabulary
from prompt_tuning.evaluate import generation, over_devices, rank_classification
from prompt_tuning.evaluate.generation import BeamSearch, Greedy, Sampling
from prompt_tuning.evaluate.predictors import Generation, RankClassification
from prompt_tuning.evaluate.rank_classification import (
  LengthNormalization,
  Verbalizers,
)
from prompt_tuning.model import t5
from prompt_tuning.prompts import layout as layout_lib
from prompt_tuning.prompts.module import Prompt, PromptAttention, PromptBank
from prompt_tuning.runs.infer import Mode, answer_fn
from prompt_tuning.testing import fakes
from prompt_tuning.train import mesh as mesh_lib

VOCABULARY = ByteVocabulary(extra_ids=125)
LENGTHS = FeatureLengths(inputs=40, targets=4)
RANK = RankClassification(labels=("no", "yes"))
_PROMPT = {
  "length": 3,
  "features": fakes.EMBED_DIM,
  "initializer": jax.nn.initializers.normal(1.0),
}
FULL = Prompt(**_PROMPT)
BANK = PromptBank(num_prompts=2, **_PROMPT)
APART = PromptBank(num_prompts=2, attention=PromptAttention.PREFIX, **_PROMPT)


def _model(prompt, **sizes):
  settings = {"num_encoder_layers": 1, "num_decoder_layers": 1} | sizes
  return fakes.tiny_model(prompt, **settings)


def _examples(num_prompts):
  rng = np.random.default_rng(0)
  return [
    {
      "inputs": [*rng.integers(3, 259, size=size).tolist(), 1],
      "targets": [int(rng.integers(3, 259)), 1],
      "prompt_index": int(rng.integers(num_prompts)),
    }
    for size in rng.permutation(np.arange(2, 38, 4))
  ]


def _by_example(answer, params, builder, length_buckets):
  """Returns what was answered for each example, and the batches' lengths."""
  batches = evaluation_batches(
    _examples(builder.num_prompts),
    builder,
    batch_size=4,
    length_buckets=length_buckets,
  )
  found, lengths = {}, []
  for batch, answers in over_devices.answers(answer, params, batches, seed=3):
    lengths.append(batch.features["encoder_input_tokens"].shape[1])
    found.update(batch.by_example(answers))
  return np.stack([found[number] for number in range(len(found))]), lengths


def _answer_fn(model, predictor):
  return answer_fn(
    model,
    vocabulary=VOCABULARY,
    lengths=LENGTHS,
    predictor=predictor or RANK,
    mode=Mode.PREDICT if predictor else Mode.SCORE,
  )


@pytest.mark.slow_after(3)
@pytest.mark.parametrize(
  ("predictor", "prompt", "layout"),
  [
    (RANK, FULL, layout_lib.prefix(3)),
    (RANK, APART, None),
    (Generation(decoder=Greedy()), FULL, layout_lib.suffix_before_eos(3)),
    (Generation(decoder=BeamSearch(num_decodes=2)), APART, None),
    (Generation(decoder=Sampling(top_p=0.9)), BANK, layout_lib.prefix(3)),
    (
      None,
      BANK,
      layout_lib.template(
        "{soft:2} so {inputs} is {soft:1}", encode=VOCABULARY.encode
      ),
    ),
    (None, APART, None),
  ],
  ids=[
    *("rank", "rank-prefix_bank", "greedy-suffix", "beam-prefix_bank"),
    *("sample-bank", "score-bank_template", "score-prefix_bank"),
  ],
)
def test_batches_of_like_length_change_no_answer(predictor, prompt, layout):
  model = _model(prompt, vocab_size=384)
  params = fakes.tiny_params(model)
  builder = FeatureBuilder(
    LENGTHS, vocab_size=384, layout=layout, num_prompts=prompt.num_prompts
  )
  answer = _answer_fn(model, predictor)
  plain, (length, *_) = _by_example(answer, params, builder, 1)
  grouped, lengths = _by_example(answer, params, builder, 2)
  assert len(set(lengths)) == 2
  assert sum(lengths) < 3 * length
  if predictor is None:
    np.testing.assert_allclose(grouped, plain, rtol=1e-5)
  else:
    np.testing.assert_array_equal(grouped, plain)
  if predictor is not RANK:
    assert len(np.unique(plain, axis=0)) > 2


@pytest.mark.multidevice
def test_several_devices_draw_and_answer_alike():
  """The batch of four does not divide over eight devices."""
  model = _model(BANK, vocab_size=384)
  params = fakes.tiny_params(model)
  builder = FeatureBuilder(
    LENGTHS, vocab_size=384, layout=layout_lib.prefix(3), num_prompts=2
  )
  answer = _answer_fn(model, Generation(decoder=Sampling()))
  alone, _ = _by_example(answer, params, builder, 2)
  mesh = mesh_lib.make_mesh(8, 1)
  spread = jax.device_put(params, mesh_lib.replicated(mesh))
  np.testing.assert_array_equal(
    _by_example(answer, spread, builder, 2)[0], alone
  )


def _small(prompt):
  """As wide as T5 1.1 small, without most of its layers and vocabulary.

  Both cost the same with a prompt and without, so that they would only hide it.
  """
  sizes = {"embed_dim": 512, "num_heads": 6, "head_dim": 64, "mlp_dim": 1024}
  return _model(prompt, **sizes)


def _lower_rank(model, params, prompt, tokens):
  return rank_classification._rank_tokens.lower(
    params,
    prompt,
    tokens,
    None,
    model=model,
    verbalizers=Verbalizers(texts=("a", "b"), tokens=((7,), (8,))),
    normalization=LengthNormalization.NONE,
    candidates_per_pass=None,
  )


def _lower_greedy(model, params, prompt, tokens):
  # XLA counts the body of its loop, the writing of a token, once.
  return generation._generate_tokens.lower(
    params,
    prompt,
    tokens,
    None,
    None,
    model=model,
    decoder=Greedy(),
    max_decode_length=8,
  )


@pytest.mark.parametrize("length", [8, 128])
@pytest.mark.parametrize("lower", [_lower_rank, _lower_greedy])
def test_a_prompt_of_100_costs_a_twentieth_at_most(lower, length):
  """Compiled FLOPs with the prompt computed before, against the bare model.

  A query of any layer attends to P more keys, 2 P H K multiply-adds; it costs
  4 D H K + 3 D F without attention: 3.3 % here, whatever the input's length.
  """

  def flops(model):
    params = t5.abstract_params(model)
    prompt = jax.eval_shape(
      lambda p: model.apply({"params": p}, method="compile_prompt"), params
    )
    tokens = jax.ShapeDtypeStruct((2, length), jnp.int32)
    lowered = lower(model, params, prompt, tokens)
    return lowered.compile().cost_analysis()["flops"]

  prompt = Prompt(
    length=100,
    features=512,
    initializer=jax.nn.initializers.zeros,
    attention=PromptAttention.PREFIX,
  )
  assert 1.0 < flops(_small(prompt)) / flops(_small(None)) < 1.05
