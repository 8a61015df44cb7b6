"""Rows out of seqio's own pipeline are those of this project's engine."""

import numpy as np
import pytest
import seqio
import tensorflow as tf

from prompt_tuning.data import text_tasks
from prompt_tuning.data.batches import evaluation_batches
from prompt_tuning.data.features import FeatureBuilder, FeatureLengths
from prompt_tuning.data.seqio_features import PromptFeatureConverter
from prompt_tuning.data.vocabularies import ByteVocabulary
from prompt_tuning.prompts import layout as layout_lib

TEXTS = ("a short", "one that is cut to fit", "another", "the last of four")
VOCABULARY = ByteVocabulary(extra_ids=125)
VOCAB_SIZE = 384
LENGTHS = FeatureLengths(inputs=12, targets=4)


@pytest.fixture(scope="module")
def task():
  rows = [
    {"inputs": text, "targets": "no", "prompt_index": index % 2}
    for index, text in enumerate(TEXTS)
  ]
  splits = text_tasks.in_memory({"train": rows})
  return text_tasks.add("seqio_features", splits, vocabulary=VOCABULARY)


def builder(layout, num_prompts=2):
  return FeatureBuilder(
    LENGTHS, vocab_size=VOCAB_SIZE, layout=layout, num_prompts=num_prompts
  )


def dataset(task, builder, **settings):
  return seqio.get_dataset(
    task.name,
    None,
    PromptFeatureConverter(builder),
    dataset_split="train",
    **settings,
  )


LAYOUTS = {
  "prefix": layout_lib.prefix(4),
  "after_bos": layout_lib.after_bos(4),
  "suffix": layout_lib.suffix_before_eos(4),
  "template": layout_lib.template(
    "{soft:1} {inputs} it {soft:3}", encode=VOCABULARY.encode
  ),
  "apart": layout_lib.prefix(0),
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_rows_are_those_of_our_engine(task, layout):
  (theirs,) = dataset(task, builder(layout), batch_size=4).as_numpy_iterator()
  (ours,) = evaluation_batches(
    task.examples("train"), builder(layout), batch_size=4
  )
  assert theirs.keys() == ours.features.keys()
  for name, array in ours.features.items():
    np.testing.assert_array_equal(theirs[name], array)
    assert theirs[name].dtype == array.dtype
  tokens = theirs["encoder_input_tokens"]
  # Slots are whole, and the end of sequence of what is cut stays.
  assert ((tokens >= VOCAB_SIZE).sum(1) == layout.num_slots).all()
  assert ((tokens == 1).sum(1) == 1).all()
  assert ("prompt_index" in theirs) == (layout.num_slots == 0)


def test_a_pipeline_goes_on_where_it_was_saved(task, tmp_path):
  """As T5X saves it with a checkpoint."""

  def rows():
    return dataset(
      task, builder(LAYOUTS["prefix"]), shuffle=True, seed=0, num_epochs=None
    )

  def take(iterator, count):
    return [
      next(iterator)["encoder_input_tokens"].numpy() for _ in range(count)
    ]

  iterator = iter(rows())
  take(iterator, 3)
  saved = tf.train.Checkpoint(ds=iterator).write(str(tmp_path / "state"))
  expected = take(iterator, 6)
  again = iter(rows())
  tf.train.Checkpoint(ds=again).read(saved).assert_consumed()
  np.testing.assert_array_equal(take(again, 6), expected)


def test_what_does_not_fit_names_the_example(task):
  short = FeatureBuilder(
    FeatureLengths(inputs=12, targets=2), vocab_size=VOCAB_SIZE, num_prompts=2
  )
  with pytest.raises(
    tf.errors.OpError, match=r"'a short'.*target has 3 tokens"
  ):
    next(iter(dataset(task, short)))


def test_packing_is_refused():
  with pytest.raises(ValueError, match=r"pack is True.*set it to False"):
    PromptFeatureConverter(builder(LAYOUTS["prefix"]), pack=True)
