"""Packed batches hold the examples of unpacked ones and give their loss."""

import jax
import numpy as np
import pytest

from prompt_tuning.data.features import FeatureBuilder, FeatureLengths
from prompt_tuning.data.packing import PackedFeatureBuilder, Packing
from prompt_tuning.prompts import layout
from prompt_tuning.prompts.module import Prompt, PromptAttention, PromptBank
from prompt_tuning.testing import fakes
from prompt_tuning.train.step import batch_loss
from prompt_tuning.train.throughput import count_examples, count_tokens

_EOS = 1
_LENGTHS = FeatureLengths(inputs=9, targets=4)
_PROMPT_LENGTH = 3
_LAYOUTS = {
  "prefix": layout.prefix(_PROMPT_LENGTH),
  "after_bos": layout.after_bos(_PROMPT_LENGTH),
  "suffix_after_eos": layout.suffix_after_eos(_PROMPT_LENGTH),
  "template": layout.template(
    "{soft:2} {inputs} x {soft:1} .",
    encode=lambda text: [7] * len(text.split()),
  ),
}


def _examples(count=7, num_prompts=1):
  rng = np.random.default_rng(4)

  def words(longest):
    size = int(rng.integers(1, longest))
    return [*rng.integers(3, fakes.VOCAB_SIZE, size).tolist(), _EOS]

  return [
    {
      "inputs": words(9),
      "targets": words(4),
      "prompt_index": index % num_prompts,
    }
    for index in range(count)
  ]


def _builders(slots, *, num_prompts=1, **packing):
  settings = {
    "vocab_size": fakes.VOCAB_SIZE,
    "layout": slots,
    "num_prompts": num_prompts,
  }
  packed = PackedFeatureBuilder(
    _LENGTHS, packing=Packing(**{"row_length": 32} | packing), **settings
  )
  return packed, FeatureBuilder(_LENGTHS, **settings)


def test_a_batch_written_out():
  packed, _ = _builders(layout.prefix(2), row_length=12, targets_multiple=4)
  batch = packed.batch(
    [
      {"inputs": [7, 8, _EOS], "targets": [9, _EOS]},
      {"inputs": [5, 6, 7, 8, 9, 10, _EOS], "targets": [4, 5, _EOS]},
      {"inputs": [6, _EOS], "targets": [8, _EOS]},
    ]
  )
  # 9 tokens, which leave no room for another example, then 5 and 4.
  expected = {
    "encoder_input_tokens": [
      [64, 65, 5, 6, 7, 8, 9, 10, 1, 0, 0, 0],
      [64, 65, 7, 8, 1, 64, 65, 6, 1, 0, 0, 0],
    ],
    "encoder_segment_ids": [
      [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
      [1, 1, 1, 1, 1, 2, 2, 2, 2, 0, 0, 0],
    ],
    "encoder_positions": [
      [0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0],
      [0, 1, 2, 3, 4, 0, 1, 2, 3, 0, 0, 0],
    ],
    "decoder_input_tokens": [[0, 4, 5, 0], [0, 9, 0, 8]],
    "decoder_target_tokens": [[4, 5, 1, 0], [9, 1, 8, 1]],
    "decoder_loss_weights": [[1, 1, 1, 0], [1, 1, 1, 1]],
    "decoder_segment_ids": [[1, 1, 1, 0], [1, 1, 2, 2]],
    "decoder_positions": [[0, 1, 2, 0], [0, 1, 0, 1]],
  }
  assert list(batch) == list(expected)
  for name, values in expected.items():
    np.testing.assert_array_equal(batch[name], values)
    is_weight = name == "decoder_loss_weights"
    assert batch[name].dtype == (np.float32 if is_weight else np.int32)


def _prompt(attention, num_prompts):
  settings = {
    "length": _PROMPT_LENGTH,
    "features": fakes.EMBED_DIM,
    "initializer": jax.nn.initializers.normal(1.0),
    "attention": attention,
  }
  if num_prompts == 1:
    return Prompt(**settings)
  return PromptBank(num_prompts=num_prompts, **settings)


@pytest.mark.slow_after(3)
@pytest.mark.parametrize(
  ("slots", "attention", "num_prompts"),
  [
    *[(name, PromptAttention.FULL, 1) for name in _LAYOUTS],
    ("prefix", PromptAttention.FULL, 3),
    (None, PromptAttention.PREFIX, 1),
    (None, PromptAttention.PREFIX, 3),
  ],
)
def test_loss_and_gradient_are_those_of_unpacked_rows(
  slots, attention, num_prompts
):
  model = fakes.tiny_model(_prompt(attention, num_prompts))
  params = fakes.tiny_params(model)
  slots = layout.prefix(0) if slots is None else _LAYOUTS[slots]
  examples = _examples(num_prompts=num_prompts)
  batches = [
    builder.batch(examples)
    for builder in _builders(slots, num_prompts=num_prompts)
  ]
  packed, plain = batches
  assert len(packed["encoder_input_tokens"]) < len(examples)

  @jax.jit
  def loss_and_gradient(prompt, batch):
    return jax.value_and_grad(
      lambda p: batch_loss(model, params | {"prompt": p}, batch).loss
    )(prompt)

  found, expected = (
    loss_and_gradient(params["prompt"], batch) for batch in (packed, plain)
  )
  np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
  np.testing.assert_allclose(
    found[1]["embedding"],
    expected[1]["embedding"],
    rtol=1e-3,
    atol=1e-5 * np.max(np.abs(expected[1]["embedding"])),
  )


@pytest.mark.parametrize("num_prompts", [1, 3])
def test_each_example_gets_its_own_logits(num_prompts):
  model = fakes.tiny_model(_prompt(PromptAttention.PREFIX, num_prompts))
  params = fakes.tiny_params(model)
  examples = _examples(num_prompts=num_prompts)
  packed, plain = (
    builder.batch(examples)
    for builder in _builders(layout.prefix(0), num_prompts=num_prompts)
  )

  def logits(batch):
    weights = batch["decoder_loss_weights"]
    inputs = {
      name: value
      for name, value in batch.items()
      if name not in ("decoder_target_tokens", "decoder_loss_weights")
    }
    found = jax.jit(model.apply)({"params": params}, **inputs)
    return np.asarray(found)[weights > 0]

  # Rows hold the examples in another order: compare as sets of logits.
  ours, expected = (
    found[np.lexsort(found.T.round(3))]
    for found in map(logits, (packed, plain))
  )
  np.testing.assert_allclose(ours, expected, rtol=1e-3, atol=1e-4)


def test_rows_of_a_bank_without_slots_hold_one_prompt():
  packed, _ = _builders(layout.prefix(0), num_prompts=3)
  batch = packed.batch(_examples(num_prompts=3))
  assert batch["prompt_index"].tolist() != [0] * len(batch["prompt_index"])
  lengths = {}
  for example in _examples(num_prompts=3):
    index = example["prompt_index"]
    lengths[index] = lengths.get(index, 0) + len(example["inputs"])
  for index, total in lengths.items():
    rows = batch["encoder_input_tokens"][batch["prompt_index"] == index]
    assert np.count_nonzero(rows) == total


def test_numbers_of_rows_and_targets_are_rounded_up():
  packed, _ = _builders(
    layout.prefix(0), row_length=9, rows_multiple=4, targets_multiple=8
  )
  batch = packed.batch(_examples(2))
  assert batch["encoder_input_tokens"].shape == (4, 9)
  assert batch["decoder_target_tokens"].shape == (4, 8)
  assert packed.batch([])["encoder_input_tokens"].shape == (4, 9)


def test_nothing_is_lost_and_everything_is_counted():
  packed, plain = _builders(layout.prefix(_PROMPT_LENGTH))
  examples = _examples(20)
  batches = packed.batch(examples), plain.batch(examples)
  assert count_examples(batches[0]) == count_examples(batches[1]) == 20
  assert count_tokens(batches[0]) == count_tokens(batches[1])
  assert packed.summary() == plain.summary()


def test_a_row_that_is_too_short_for_one_example():
  with pytest.raises(ValueError, match=r"PACKED_LENGTH is 11 .* have 12"):
    _builders(layout.prefix(_PROMPT_LENGTH), row_length=11)


def test_an_empty_example_is_named_as_without_packing():
  packed, _ = _builders(layout.prefix(0))
  with pytest.raises(ValueError, match="example 12"):
    packed.batch([{"inputs": [5, _EOS], "targets": []}], indices=[12])
