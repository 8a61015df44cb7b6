"""Where slots stand, what is cut and what never is."""

import numpy as np
import pytest

from prompt_tuning.prompts import layout as layout_lib
from prompt_tuning.prompts.layout import Hard, Layout, Place, Soft
from prompt_tuning.testing import shared

_VOCAB_SIZE = 1000
_EOS = 1
# Three slots.
_S0, _S1, _S2 = 1000, 1001, 1002
_WORDS = {" It was ": [41, 42], " .": [43], "Review:": [44], "{": [45]}


def _encode(text):
  return _WORDS[text]


def _place(layout, ids, max_length=20, **kwargs):
  row = layout.place(
    ids, max_length=max_length, vocab_size=_VOCAB_SIZE, **kwargs
  )
  return row.tokens.tolist(), row.tokens_cut


_TEMPLATE = layout_lib.template(
  "{soft:2} {inputs} It was {soft:1} .", encode=_encode
)


@pytest.mark.parametrize(
  ("layout", "expected"),
  [
    (layout_lib.prefix(3), [_S0, _S1, _S2, 7, 8, 9, _EOS]),
    (layout_lib.after_bos(3), [7, _S0, _S1, _S2, 8, 9, _EOS]),
    (layout_lib.suffix_before_eos(3), [7, 8, 9, _S0, _S1, _S2, _EOS]),
    (layout_lib.suffix_after_eos(3), [7, 8, 9, _EOS, _S0, _S1, _S2]),
    (_TEMPLATE, [_S0, _S1, 7, 8, 9, 41, 42, _S2, 43, _EOS]),
  ],
)
def test_where_slots_stand(layout, expected):
  assert layout.num_slots == 3
  assert _place(layout, [7, 8, 9, _EOS]) == (expected, 0)
  without_eos = [token for token in expected if token != _EOS]
  assert _place(layout, [7, 8, 9]) == (without_eos, 0)


@pytest.mark.parametrize(
  ("layout", "max_length", "expected", "tokens_cut"),
  [
    (layout_lib.prefix(3), 6, [_S0, _S1, _S2, 7, 8, _EOS], 1),
    (layout_lib.prefix(3), 5, [_S0, _S1, _S2, 7, _EOS], 2),
    (layout_lib.after_bos(3), 6, [7, _S0, _S1, _S2, 8, _EOS], 1),
    (layout_lib.after_bos(3), 5, [7, _S0, _S1, _S2, _EOS], 2),
    (layout_lib.suffix_before_eos(3), 5, [7, _S0, _S1, _S2, _EOS], 2),
    (layout_lib.suffix_after_eos(3), 5, [7, _EOS, _S0, _S1, _S2], 2),
    (_TEMPLATE, 8, [_S0, _S1, 7, 41, 42, _S2, 43, _EOS], 2),
  ],
)
def test_only_input_text_is_cut(layout, max_length, expected, tokens_cut):
  assert _place(layout, [7, 8, 9, _EOS], max_length) == (expected, tokens_cut)


@pytest.mark.parametrize(
  "make",
  [
    layout_lib.prefix,
    layout_lib.after_bos,
    layout_lib.suffix_before_eos,
    layout_lib.suffix_after_eos,
  ],
)
@pytest.mark.parametrize("length", [1, 2, 3, 9])
def test_no_slots_is_the_plain_input(make, length):
  ids = [*range(5, 5 + length), _EOS]
  assert _place(make(0), ids) == (ids, 0)
  assert make(0).num_added == 0


def test_numpy_ids_give_int32():
  row = layout_lib.prefix(1).place(
    np.array([5, 1], np.uint16), max_length=9, vocab_size=_VOCAB_SIZE
  )
  assert row.tokens.dtype == np.int32


@pytest.mark.parametrize("prompt_index", [0, 1, 4])
def test_prompt_index_moves_the_slots_by_whole_prompts(prompt_index):
  tokens, _ = _place(_TEMPLATE, [7, _EOS], prompt_index=prompt_index)
  slots = [token for token in tokens if token >= _VOCAB_SIZE]
  assert slots == [_VOCAB_SIZE + prompt_index * 3 + p for p in range(3)]


@pytest.mark.parametrize(
  ("layout", "max_length"), [(layout_lib.prefix(3), 4), (_TEMPLATE, 7)]
)
def test_no_room_for_a_single_token(layout, max_length):
  message = rf"example 5: a row of {max_length} tokens cannot hold 3 slots"
  with pytest.raises(ValueError, match=message):
    _place(layout, [7, 8, _EOS], max_length, name="example 5")


def test_room_without_eos():
  assert _place(layout_lib.prefix(3), [7, 8], 4) == ([_S0, _S1, _S2, 7], 1)


@pytest.mark.parametrize("ids", [[], [_EOS]])
def test_empty_input_is_named(ids):
  with pytest.raises(ValueError, match="example 12: the input has no tokens"):
    _place(layout_lib.prefix(3), ids, name="example 12")


@pytest.mark.parametrize(("ids", "bad"), [([5, 1000, 1], 1000), ([-2, 5], -2)])
def test_input_that_would_be_read_as_a_slot(ids, bad):
  with pytest.raises(ValueError, match=f"token id {bad}, outside the model's"):
    _place(layout_lib.prefix(3), ids)


class TestMarked:
  layout = layout_lib.marked(3)
  ids = (-1, 7, -1, -1, 8, 9, _EOS)

  def test_slots_stand_where_the_input_marks_them(self):
    assert self.layout.num_slots == 3
    expected = [_S0, 7, _S1, _S2, 8, 9, _EOS]
    assert _place(self.layout, self.ids) == (expected, 0)
    row = _place(self.layout, self.ids, 6, prompt_index=2)
    assert row == ([1006, 7, 1007, 1008, 8, _EOS], 1)

  def test_a_row_has_as_many_tokens_as_is_said(self):
    for most in (2, 3, 5):
      tokens, _ = _place(self.layout, self.ids[:-1], most + 3)
      assert len(tokens) == self.layout.row_tokens(6, max_inputs=most)

  @pytest.mark.parametrize(
    ("layout", "ids", "max_length", "message"),
    [
      (layout, (7, -1, 8, -1), 9, "marks 2 slots, and the prompt has 3 soft"),
      (layout, (7, 8, 9, -1, -1, -1), 5, "row of 5 tokens cuts slots"),
      (layout, (7, -2, -1, -1, -1), 9, "token id -2, outside"),
      (layout_lib.prefix(3), (7, -1), 9, "position to 'marked'"),
    ],
  )
  def test_what_does_not_fit(self, layout, ids, max_length, message):
    with pytest.raises(ValueError, match=f"example 5: .*{message}"):
      _place(layout, ids, max_length, name="example 5")


class TestTemplate:
  def test_parts(self):
    assert _TEMPLATE.parts == (
      Soft(2),
      Place.INPUTS,
      Hard((41, 42)),
      Soft(1),
      Hard((43,)),
      Place.EOS,
    )
    assert _TEMPLATE.num_added == 6

  def test_words_without_slots(self):
    layout = layout_lib.template("Review:{inputs}", encode=_encode)
    assert layout.num_slots == 0
    assert _place(layout, [7, _EOS]) == ([44, 7, _EOS], 0)

  def test_braces_can_be_written(self):
    layout = layout_lib.template("{{{inputs}", encode=_encode)
    assert layout.parts[0] == Hard((45,))

  @pytest.mark.parametrize(
    ("text", "message"),
    [
      ("{soft:3}", r"must have {inputs} exactly once, it has 0"),
      ("{inputs}{inputs}", r"must have {inputs} exactly once, it has 2"),
      ("{input} {soft:3}", r"unknown field {input}; a template knows"),
      ("{} {inputs}", r"unknown field {}"),
      ("{inputs:4}", r"unknown field {inputs}"),
      ("{soft} {inputs}", r"positive number of slots, got {soft:}"),
      ("{soft:0} {inputs}", r"positive number of slots, got {soft:0}"),
      ("{soft:-1} {inputs}", r"positive number of slots, got {soft:-1}"),
      ("{soft:ten} {inputs}", r"positive number of slots, got {soft:ten}"),
      ("{inputs} {soft:3", r"is malformed"),
    ],
  )
  def test_malformed(self, text, message):
    with pytest.raises(ValueError, match=message):
      layout_lib.template(text, encode=_encode)


@pytest.mark.parametrize("length", [-1, 2.0, "100", True, None])
def test_length_is_a_count(length):
  with pytest.raises(ValueError, match="prompt length must be an integer"):
    layout_lib.prefix(length)


@pytest.mark.parametrize(
  "parts",
  [
    (),
    (Place.INPUTS,),
    (Place.EOS, Soft(3)),
    (Place.INPUTS, Place.INPUTS, Place.EOS),
    (Soft(1), Place.FIRST, Place.INPUTS, Place.EOS),
    (Place.FIRST, Place.FIRST, Place.INPUTS, Place.EOS),
  ],
)
def test_impossible_parts(parts):
  with pytest.raises(ValueError, match="got parts"):
    Layout(parts)


@pytest.mark.parametrize(
  ("name", "make"),
  [
    ("prefix", layout_lib.prefix),
    ("after_bos", layout_lib.after_bos),
    ("suffix_before_eos", layout_lib.suffix_before_eos),
    ("suffix_after_eos", layout_lib.suffix_after_eos),
  ],
)
def test_embedded_row_equals_the_reference(name, make):
  # The reference joins embeddings where we join ids: look ours up and compare.
  fixture = np.load(shared.fixture_path("extended.npz"))
  rows, prompts = fixture["combine/x"], fixture["combine/prompt"]
  for row, embedded, prompt, expected in zip(
    rows,
    fixture["combine/x_embed"],
    prompts,
    fixture[f"combine/{name}"],
    strict=True,
  ):
    ids = row[row > 0]
    table = dict(zip(ids.tolist(), embedded, strict=False))
    slots = range(_VOCAB_SIZE, _VOCAB_SIZE + len(prompt))
    table |= dict(zip(slots, prompt, strict=True))
    tokens, _ = _place(make(len(prompt)), ids)
    looked_up = [table[token] for token in tokens]
    np.testing.assert_array_equal(looked_up, expected[: len(tokens)])
