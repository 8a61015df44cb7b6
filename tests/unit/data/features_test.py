"""Features of a batch: layout, cutting, weights and clear errors."""

import numpy as np
import pytest

from prompt_tuning.data import features
from prompt_tuning.data.features import FeatureBuilder, FeatureLengths
from prompt_tuning.prompts import layout

_VOCAB_SIZE = 100
_EOS = 1


def _example(inputs=(7, 8, _EOS), targets=(9, _EOS), **extra):
  return {"inputs": list(inputs), "targets": list(targets), **extra}


def _builder(inputs=4, targets=3, **options):
  return FeatureBuilder(
    FeatureLengths(inputs, targets), vocab_size=_VOCAB_SIZE, **options
  )


def test_a_batch_written_out():
  batch = _builder(layout=layout.prefix(2)).batch(
    [_example(), _example((5, 6, 7, 8, 9, _EOS), (3, 4, _EOS))], num_rows=3
  )
  expected = {
    "encoder_input_tokens": [
      [100, 101, 7, 8, 1, 0],
      [100, 101, 5, 6, 7, 1],
      [0, 0, 0, 0, 0, 0],
    ],
    "decoder_input_tokens": [[0, 9, 1], [0, 3, 4], [0, 0, 0]],
    "decoder_target_tokens": [[9, 1, 0], [3, 4, 1], [0, 0, 0]],
    "decoder_loss_weights": [[1, 1, 0], [1, 1, 1], [0, 0, 0]],
  }
  assert list(batch) == list(expected)
  for name, values in expected.items():
    np.testing.assert_array_equal(batch[name], values)
    is_weight = name == "decoder_loss_weights"
    assert batch[name].dtype == (np.float32 if is_weight else np.int32)


def test_slots_come_on_top_of_the_inputs_length():
  longest = _example((5, 6, 7, _EOS))
  for length in (0, 1, 20):
    builder = _builder(layout=layout.prefix(length))
    assert builder.encoder_length == 4 + length
    tokens = builder.batch([longest])["encoder_input_tokens"]
    assert tokens[0, length:].tolist() == [5, 6, 7, _EOS]
    assert builder.input_cuts.tokens_cut == 0


def test_no_layout_is_the_plain_input():
  tokens = _builder().batch([_example()])["encoder_input_tokens"]
  assert tokens.tolist() == [[7, 8, 1, 0]]


def test_prompt_index_names_the_slots_of_each_example():
  builder = _builder(layout=layout.prefix(2), num_prompts=3)
  batch = builder.batch([_example(prompt_index=i) for i in (2, 0, 1)])
  slots = batch["encoder_input_tokens"][:, :2]
  assert slots.tolist() == [[104, 105], [100, 101], [102, 103]]


def test_a_bank_without_slots_is_named_beside_the_rows():
  builder = _builder(num_prompts=3)
  batch = builder.batch(
    [_example(prompt_index=i) for i in (2, 0, 1)], num_rows=4
  )
  assert batch["prompt_index"].tolist() == [2, 0, 1, 0]
  assert batch["prompt_index"].dtype == np.int32
  assert batch["encoder_input_tokens"].max() < _VOCAB_SIZE


@pytest.mark.parametrize("index", [3, -1])
def test_prompt_index_outside_the_bank(index):
  builder = _builder(layout=layout.prefix(2), num_prompts=3)
  with pytest.raises(ValueError, match=r"outside the bank of 3 prompts"):
    builder.batch([_example(prompt_index=index)])


def test_a_bank_takes_no_example_that_names_no_prompt():
  builder = _builder(layout=layout.prefix(2), num_prompts=3)
  message = "example 1 does not say which of the bank's 3 prompts"
  with pytest.raises(ValueError, match=message):
    builder.batch([_example(prompt_index=0), _example()])


@pytest.mark.parametrize("text", ["naïve", "naïve".encode()])
def test_an_example_is_named_by_its_text(text):
  with pytest.raises(
    ValueError, match=r"example 0 \('naïve'\): the target has"
  ):
    _builder(targets=1).batch([_example(inputs_pretokenized=text)])


class TestCutting:
  def test_long_target_is_an_error_by_default(self):
    message = (
      r"example 1: the target has 4 tokens and TASK_FEATURE_LENGTHS allows 3"
    )
    with pytest.raises(ValueError, match=message):
      _builder().batch([_example(), _example(targets=(3, 4, 5, _EOS))])

  @pytest.mark.parametrize(
    ("targets", "kept"),
    [((3, 4, 5, 6, _EOS), [3, 4, _EOS]), ((3, 4, 5, 6), [3, 4, 5])],
  )
  def test_allowed_cutting_keeps_the_end_of_sequence(self, targets, kept):
    builder = _builder(truncate_targets=True)
    batch = builder.batch([_example(targets=targets)])
    assert batch["decoder_target_tokens"].tolist() == [kept]
    assert builder.target_cuts.tokens_cut == len(targets) - 3

  def test_cutting_leaves_the_example_alone(self):
    targets = np.array([3, 4, 5, 6, _EOS], np.int32)
    _builder(truncate_targets=True).batch(
      [{"inputs": np.array([5, 1]), "targets": targets}]
    )
    assert targets.tolist() == [3, 4, 5, 6, _EOS]

  def test_what_was_cut_is_counted(self):
    builder = _builder(inputs=4)
    for length in (2, 4, 5, 9):
      builder.batch([_example([*range(2, 1 + length), _EOS])])
    cuts = builder.input_cuts
    assert (cuts.examples, cuts.examples_cut) == (4, 2)
    assert (cuts.tokens_cut, cuts.longest) == (1 + 5, 9)
    assert builder.summary() == (
      "inputs: longest of 4 examples 9 tokens where 4 fit; cut 2 examples "
      "(50.0 %) by 6 tokens in all; targets: longest of 4 examples 2 tokens "
      "where 3 fit; nothing cut"
    )

  def test_check_ahead_of_a_run_counts_apart(self):
    builder = _builder()
    summary = builder.check([_example(range(2, 9))])
    assert "cut 1 examples (100.0 %) by 3 tokens" in summary
    assert builder.input_cuts.examples == 0
    with pytest.raises(ValueError, match="example 1: the target has 4 tokens"):
      builder.check([_example(), _example(targets=(3, 4, 5, _EOS))])


class TestBadExamples:
  @pytest.mark.parametrize("inputs", [(), (_EOS,)])
  def test_empty_input(self, inputs):
    with pytest.raises(ValueError, match=r"example 17: the input has no token"):
      _builder().batch([_example(inputs)], indices=[17])

  def test_the_text_is_shown_where_there_is_one(self):
    example = _example(targets=(), inputs_pretokenized="so long")
    with pytest.raises(ValueError, match=r"example 0 \('so long'\): targets"):
      _builder().batch([example])

  @pytest.mark.parametrize("targets", [(), (-1,), (_VOCAB_SIZE, _EOS)])
  def test_impossible_targets(self, targets):
    with pytest.raises(ValueError, match="at least one token id below"):
      _builder().batch([_example(targets=targets)])

  def test_missing_feature(self):
    with pytest.raises(ValueError, match=r"no feature 'targets'.*\['inputs'\]"):
      _builder().batch([{"inputs": [5, 1]}])

  @pytest.mark.parametrize("inputs", ["text", [[5, 1]], [0.5, 1.0], ["a"]])
  def test_input_that_is_no_token_ids(self, inputs):
    with pytest.raises(ValueError, match="inputs must be a list of token ids"):
      _builder().batch([{"inputs": inputs, "targets": [5]}])

  def test_more_examples_than_rows(self):
    with pytest.raises(ValueError, match="2 examples exceed 1 rows"):
      _builder().batch([_example()] * 2, num_rows=1)


class TestLengths:
  def test_from_mapping(self):
    lengths = FeatureLengths.from_mapping({"targets": 8, "inputs": 512})
    assert lengths == FeatureLengths(inputs=512, targets=8)

  @pytest.mark.parametrize(
    ("lengths", "message"),
    [
      ({"inputs": 5}, r"lacks \['targets'\]"),
      ({}, r"lacks \['inputs', 'targets'\]"),
      ({"input": 5, "targets": 2}, r"\['input'\].*did you mean 'inputs'"),
      ({"inputs": 5, "targets": 2, "label": 1}, r"unknown keys \['label'\]"),
      (512, r"TASK_FEATURE_LENGTHS is 512; expected"),
      (None, r"TASK_FEATURE_LENGTHS is None"),
    ],
  )
  def test_malformed_mapping(self, lengths, message):
    with pytest.raises(ValueError, match=message):
      FeatureLengths.from_mapping(lengths)

  @pytest.mark.parametrize("length", [0, -1, "512", 5.0, True, None])
  def test_length_is_a_positive_integer(self, length):
    with pytest.raises(ValueError, match=r"\['inputs'\] must be a positive"):
      FeatureLengths(inputs=length, targets=3)

  def test_fitting_leaves_out_padding_of_all_rows(self):
    examples = [_example(range(2, 9)), _example(targets=range(2, 7))]
    given = FeatureLengths(inputs=20, targets=8)
    fitting = given.fitting(examples)
    assert fitting == FeatureLengths(inputs=7, targets=5)
    # 7 + 4 tokens fill two tiles of 8 when there are 12 inputs.
    fitting = given.fitting(examples, num_added=4, multiple=8)
    assert fitting == FeatureLengths(inputs=12, targets=5)

  def test_fitting_adds_no_length(self):
    examples = [_example(range(2, 9)), _example(targets=range(2, 7))]
    given = FeatureLengths(inputs=6, targets=3)
    assert given.fitting(examples) == given
    assert given.fitting(examples, num_added=4, multiple=8) == given
    given = FeatureLengths(inputs=8, targets=3)
    assert given.fitting(examples, num_added=4, multiple=8) == given

  def test_fitting_needs_examples(self):
    given = FeatureLengths(inputs=6, targets=3)
    with pytest.raises(ValueError, match="there are no examples"):
      given.fitting([])
    empty = [{"inputs": [], "targets": []}]
    assert given.fitting(empty) == FeatureLengths(inputs=1, targets=1)


def test_shift_right():
  shifted = features.shift_right(np.array([[3, 4, 1], [5, 1, 0]]))
  assert shifted.tolist() == [[0, 3, 4], [0, 5, 1]]
