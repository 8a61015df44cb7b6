import functools
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from prompt_tuning.prompts import artifact, initializers
from prompt_tuning.prompts.module import PromptBank
from prompt_tuning.prompts.spec import PromptSpec
from prompt_tuning.testing.shared import fixture_path

_WORDS = {"yes": [10], "no": [11], "not yes": [12, 10], "": []}


def _encode(text):
  return _WORDS[text]


def _table(rows=100, width=4):
  return np.random.default_rng(0).normal(size=(rows, width)).astype(np.float32)


def _key(seed=0):
  return jax.random.key(seed)


def _constant(rng, shape, dtype=jnp.float32):
  del rng
  return jnp.full(shape, 7, dtype)


# Against google's prompt tuning, PRNGKey(42).


@pytest.fixture(name="reference", scope="module")
def _reference():
  return np.load(fixture_path("extended.npz"))


@pytest.fixture(name="reference_table", scope="module")
def _reference_table(reference):
  table = np.random.default_rng(5).normal(size=(32000, 4)).astype(np.float32)
  np.testing.assert_array_equal(
    table[:8], reference["init/embeddings_seed5_32000x4_first8rows"]
  )
  return table


def _reference_encode(text):
  meta = json.loads(fixture_path("extended_meta.json").read_text())
  return meta["labels_ids"][text]


_LABELS = ["positive", "negative", "not_equivalent"]


def _call(initialize, shape):
  return np.asarray(initialize(jax.random.PRNGKey(42), shape, jnp.float32))


def test_reference_sampled_vocabulary(reference, reference_table):
  initialize = initializers.sampled_vocabulary(reference_table)
  np.testing.assert_array_equal(
    _call(initialize, (20, 4)), reference["init/sample_pop5000"]
  )


def test_reference_sampling_with_replacement(reference, reference_table):
  initialize = initializers.sampled_vocabulary(
    reference_table, population_size=8
  )
  with pytest.warns(UserWarning, match="drawn repeatedly"):
    prompt = _call(initialize, (20, 4))
  np.testing.assert_array_equal(prompt, reference["init/sample_pop8_replace"])


def test_reference_class_labels(reference, reference_table):
  initialize = initializers.class_labels(
    reference_table, _reference_encode, _LABELS
  )
  # The mean of five pieces may round differently.
  np.testing.assert_allclose(
    _call(initialize, (20, 4)), reference["init/class_labels"], atol=1e-7
  )


def test_reference_class_labels_with_another_rest(reference, reference_table):
  initialize = initializers.class_labels(
    reference_table,
    _reference_encode,
    _LABELS[:2],
    rest=initializers.reference_uniform(0.01),
  )
  np.testing.assert_array_equal(
    _call(initialize, (6, 4)), reference["init/class_labels_default_init"]
  )


def test_reference_embedded_text(reference, reference_table):
  initialize = initializers.embedded_text(
    reference_table,
    _reference_encode,
    "Classify this movie review .",
    rest=initializers.reference_uniform(0.01),
  )
  np.testing.assert_array_equal(
    _call(initialize, (20, 4)), reference["init/string"]
  )


def test_reference_uniform(reference):
  initialize = initializers.reference_uniform()
  np.testing.assert_array_equal(
    _call(initialize, (20, 4)), reference["init/uniform_scale0.5"]
  )


# What each promises.


def test_uniform_covers_the_papers_range():
  values = np.asarray(initializers.uniform()(_key(), (1000, 10)))
  assert -0.5 <= values.min() < -0.49
  assert 0.49 < values.max() < 0.5
  assert abs(values.mean()) < 0.02


def test_uniform_needs_a_range():
  with pytest.raises(ValueError, match="must be below high"):
    initializers.uniform(0.5, -0.5)


def test_reference_uniform_is_not_symmetric():
  values = np.asarray(initializers.reference_uniform()(_key(), (1000, 10)))
  assert 0.0 <= values.min() < 0.01
  assert 0.49 < values.max() < 0.5


def _rows_of(table, prompt):
  """Returns which rows of the table a prompt consists of."""
  equal = (np.asarray(prompt)[:, None] == table[None]).all(axis=-1)
  assert (equal.sum(axis=1) == 1).all()
  return equal.argmax(axis=1)


def test_sampled_rows_are_different_rows_of_the_population():
  table = _table()
  initialize = initializers.sampled_vocabulary(table, population_size=30)
  rows = _rows_of(table, initialize(_key(), (30, 4)))
  assert sorted(rows) == list(range(30))  # Ids 0 to 2 are in it, too.


def test_sampled_rows_depend_on_the_key():
  initialize = initializers.sampled_vocabulary(_table(), population_size=100)
  first, second = (initialize(_key(seed), (10, 4)) for seed in (0, 1))
  assert not np.array_equal(first, second)


def test_a_smaller_table_is_drawn_from_as_a_whole():
  initialize = initializers.sampled_vocabulary(_table())
  rows = _rows_of(_table(), initialize(_key(), (100, 4)))
  assert sorted(rows) == list(range(100))


def test_empty_population():
  with pytest.raises(ValueError, match="at least 1, got 0"):
    initializers.sampled_vocabulary(_table(), population_size=0)


def test_class_labels_are_means_and_not_repeated():
  table = _table()
  initialize = initializers.class_labels(
    table, _encode, ["no", "not yes"], rest=_constant
  )
  prompt = np.asarray(initialize(_key(), (6, 4)))
  np.testing.assert_array_equal(prompt[0], table[11])
  np.testing.assert_allclose(prompt[1], (table[10] + table[12]) / 2, rtol=1e-6)
  np.testing.assert_array_equal(prompt[2:], 7)


@pytest.mark.parametrize(
  "make",
  [
    lambda **more: initializers.class_labels(_table(), _encode, ["no"], **more),
    lambda **more: initializers.embedded_text(_table(), _encode, "no", **more),
  ],
)
def test_the_rest_is_sampled_from_the_population(make):
  rows = _rows_of(_table(), make(population_size=9)(_key(), (9, 4)))
  assert rows[0] == 11
  assert len(set(rows[1:])) == 8
  assert rows[1:].max() < 9


def test_labels_without_room_are_named():
  initialize = initializers.class_labels(
    _table(), _encode, ["no", "yes", "not yes"], rest=_constant
  )
  with pytest.warns(UserWarning, match="no room for yes, not yes"):
    prompt = initialize(_key(), (1, 4))
  np.testing.assert_array_equal(prompt, _table()[11:12])


@pytest.mark.parametrize("labels", ["yes", [], ()])
def test_labels_are_a_list(labels):
  with pytest.raises(ValueError, match="a non-empty list of strings"):
    initializers.class_labels(_table(), _encode, labels)


def test_a_label_without_pieces():
  with pytest.raises(ValueError, match="finds no piece in ''"):
    initializers.class_labels(_table(), _encode, ["yes", ""])


def test_a_vocabulary_of_another_model():
  with pytest.raises(ValueError, match=r"ids \[10\], but .* has 10 rows"):
    initializers.class_labels(_table(rows=10), _encode, ["yes"])


def test_embedded_text_has_a_row_a_piece():
  initialize = initializers.embedded_text(
    _table(), _encode, "not yes", rest=_constant
  )
  prompt = np.asarray(initialize(_key(), (4, 4)))
  np.testing.assert_array_equal(prompt[:2], _table()[[12, 10]])
  np.testing.assert_array_equal(prompt[2:], 7)


def test_a_text_without_room_is_cut_and_said():
  initialize = initializers.embedded_text(
    _table(), _encode, "not yes", rest=_constant
  )
  with pytest.warns(UserWarning, match="no room for piece 1"):
    prompt = initialize(_key(), (1, 4))
  np.testing.assert_array_equal(prompt, _table()[12:13])


def test_from_array():
  prompt = initializers.from_array(_table(5))(_key(), (5, 4))
  np.testing.assert_array_equal(prompt, _table(5))


def test_from_array_of_another_shape():
  with pytest.raises(ValueError, match=r"\[5, 4\].*\[6, 4\].*length to 5"):
    initializers.from_array(_table(5))(_key(), (6, 4))


def test_from_file(tmp_path):
  path = tmp_path / "prompt.npy"
  card = artifact.PromptCard(length=5, width=4, backbone="x", step=1)
  artifact.save_prompt(path, _table(5), card)
  prompt = initializers.from_file(path)(_key(), (5, 4))
  np.testing.assert_array_equal(prompt, _table(5))
  with pytest.raises(ValueError, match="on the backbone x"):
    initializers.from_file(path, backbone_fingerprint="y")
  with pytest.raises(ValueError, match=r"prompt\.npy has shape \[5, 4\]"):
    initializers.from_file(path)(_key(), (6, 4))


def _saved(path, array, **card):
  bank = array.shape[0] if array.ndim == 3 else 1
  described = artifact.PromptCard(
    length=5, width=4, backbone="x", step=1, num_prompts=bank, **card
  )
  artifact.save_prompt(path, array, described)
  return path


def _bank(init, num_prompts=3):
  bank = PromptBank(
    num_prompts=num_prompts, length=5, features=4, initializer=init
  )
  slots = jnp.zeros((1,), jnp.int32)
  params = nn.init(lambda module: module(slots), bank)(_key())["params"]
  return np.asarray(params["embedding"].unbox())


def test_a_bank_starts_from_the_file_of_a_bank(tmp_path):
  prompts = _table(15).reshape(3, 5, 4)
  path = _saved(tmp_path / "bank.npy", prompts)
  np.testing.assert_array_equal(_bank(initializers.from_file(path)), prompts)


def test_all_of_a_bank_start_from_the_file_of_one_prompt(tmp_path):
  path = _saved(tmp_path / "one.npy", _table(5))
  prompts = _bank(initializers.from_file(path), num_prompts=2)
  np.testing.assert_array_equal(prompts, [_table(5), _table(5)])


def test_one_prompt_starts_from_a_bank_of_one(tmp_path):
  path = _saved(tmp_path / "bank.npy", _table(5)[None])
  prompt = initializers.from_file(path)(_key(), (5, 4))
  np.testing.assert_array_equal(prompt, _table(5))


@pytest.mark.parametrize("num_prompts", [1, 2])
def test_a_bank_of_another_size(tmp_path, num_prompts):
  path = _saved(tmp_path / "bank.npy", _table(15).reshape(3, 5, 4))
  spec = PromptSpec(
    length=5,
    num_prompts=num_prompts,
    initializer=functools.partial(initializers.from_file, path=path),
  )
  module = spec.module(embeddings=_table(), encode=_encode)
  with pytest.raises(ValueError, match=r"set the number of prompts to 3, the"):
    module.init(_key(), jnp.zeros((1,), jnp.int32))


_TEMPLATE = "{soft:3} {inputs} It was {soft:2} ."


@pytest.mark.parametrize(
  ("tuned", "recipe"),
  [
    ("suffix_before_eos", {}),
    ("prefix", {"position": "suffix_before_eos"}),
    (_TEMPLATE, {}),
    (_TEMPLATE, {"template": _TEMPLATE.replace("It", "This")}),
  ],
)
def test_a_prompt_of_another_layout(tmp_path, tuned, recipe):
  path = _saved(tmp_path / "prompt.npy", _table(5), layout=tuned)

  def module(**options):
    initializer = functools.partial(
      initializers.from_file, path=path, **options
    )
    spec = PromptSpec(length=5, initializer=initializer, **recipe)
    return spec.module(embeddings=_table(), encode=_encode)

  here = recipe.get("template") or recipe.get("position", "prefix")
  message = f"{re.escape(repr(tuned))}.*{re.escape(repr(here))}.*Set PromptSpec"
  with pytest.raises(ValueError, match=message):
    module()
  module(allow_other_layout=True)


@pytest.mark.parametrize(
  "recipe", [{"position": "suffix_before_eos"}, {"template": _TEMPLATE}]
)
def test_a_prompt_of_the_same_layout(tmp_path, recipe):
  (tuned,) = recipe.values()
  path = _saved(tmp_path / "prompt.npy", _table(5), layout=tuned)
  initializer = functools.partial(initializers.from_file, path=path)
  spec = PromptSpec(length=5, initializer=initializer, **recipe)
  module = spec.module(embeddings=_table(), encode=_encode)
  np.testing.assert_array_equal(module.initializer(_key(), (5, 4)), _table(5))


def test_a_position_that_does_not_exist():
  message = r"PromptSpec\.position must be one of 'prefix', .* got 'infix'"
  with pytest.raises(ValueError, match=message):
    PromptSpec(length=5, initializer=initializers.uniform, position="infix")


@pytest.mark.parametrize(
  "layout",
  [{"position": "suffix_before_eos"}, {"template": "{soft:5} {inputs}"}],
)
def test_a_prompt_that_sees_itself_alone_stands_in_front(layout):
  with pytest.raises(ValueError, match=r"can only stand in front of it, but"):
    PromptSpec(
      length=5, initializer=initializers.uniform, attention="prefix", **layout
    )


def test_an_attention_that_does_not_exist():
  message = r"PromptSpec\.attention must be one of 'full', 'prefix'.*got 'none'"
  with pytest.raises(ValueError, match=message):
    PromptSpec(length=5, initializer=initializers.uniform, attention="none")


def _every_initializer():
  table = _table()
  sampled = initializers.sampled_vocabulary(table, population_size=50)
  return {
    "uniform": initializers.uniform(),
    "reference_uniform": initializers.reference_uniform(),
    "sampled_vocabulary": sampled,
    "class_labels": initializers.class_labels(
      table, _encode, ["no", "yes"], rest=sampled
    ),
    "embedded_text": initializers.embedded_text(
      table, _encode, "not yes", rest=sampled
    ),
    "from_array": initializers.from_array(table[:5]),
  }


@pytest.mark.parametrize("name", _every_initializer())
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_works_traced_and_in_any_type(name, dtype):
  initialize = _every_initializer()[name]
  shape = (5, 4)
  abstract = jax.eval_shape(lambda rng: initialize(rng, shape, dtype), _key())
  assert (abstract.shape, abstract.dtype) == (shape, dtype)
  traced = jax.jit(lambda rng: initialize(rng, shape, dtype))(_key())
  np.testing.assert_array_equal(traced, initialize(_key(), shape, dtype))


@pytest.mark.parametrize(
  "name", ["sampled_vocabulary", "class_labels", "embedded_text"]
)
@pytest.mark.parametrize("shape", [(5, 8), (2, 5, 4)])
def test_other_widths(name, shape):
  with pytest.raises(ValueError, match=r"has width 4, so .*\[length, 4\]"):
    _every_initializer()[name](_key(), shape, jnp.float32)


def test_prompts_of_a_bank_differ_where_they_are_drawn():
  table = _table()
  init = initializers.class_labels(
    table,
    _encode,
    ["no", "yes"],
    rest=initializers.sampled_vocabulary(table, population_size=50),
  )
  prompts = _bank(init)
  np.testing.assert_array_equal(prompts[0, :2], table[[11, 10]])
  np.testing.assert_array_equal(prompts[1, :2], prompts[0, :2])
  assert not np.array_equal(prompts[0, 2:], prompts[1, 2:])


class TestStartsOfPPT:
  """Gu et al. (2022, table 1)."""

  def test_a_normal_start_is_as_wide_as_the_table(self):
    table = 3 * _table()
    prompt = initializers.normal(table)(_key(), (2000, 4))
    np.testing.assert_allclose(np.std(prompt), np.std(table), rtol=0.05)
    assert abs(float(np.mean(prompt))) < 0.15
    narrow = initializers.normal(table, stddev=0.1)(_key(), (2000, 4))
    np.testing.assert_allclose(np.std(narrow), 0.1, rtol=0.05)
    with pytest.raises(ValueError, match="stddev must be positive"):
      initializers.normal(table, stddev=0.0)

  def test_every_soft_token_is_one_of_the_words(self):
    table = _table()
    start = initializers.sampled_words(table, _encode, ["yes", "not yes"])
    prompt = np.asarray(start(_key(), (40, 4)))
    allowed = np.stack([table[10], table[[12, 10]].mean(axis=0)])
    found = np.abs(prompt[:, None] - allowed).max(axis=-1) < 1e-6
    assert np.all(found.any(axis=1))
    assert np.all(found.any(axis=0))
    for words, message in ((["x"[:0]], "no piece"), ("yes", "list of strings")):
      with pytest.raises(ValueError, match=message):
        initializers.sampled_words(table, _encode, words)

  def test_all_soft_tokens_are_the_same(self):
    table = _table()
    prompt = initializers.one_token(table)(_key(), (5, 4))
    np.testing.assert_array_equal(prompt, np.tile(table[2], (5, 1)))
    with pytest.raises(
      ValueError, match="token_id 100 is outside the 100 rows"
    ):
      initializers.one_token(table, token_id=100)
