"""Running text in seqio: what is cut of it, and the noise of a seed."""

import numpy as np
import pytest

seqio = pytest.importorskip("seqio")

from prompt_tuning.data import objectives, seqio_corpora  # noqa: E402
from prompt_tuning.data.seqio_tasks import ExamplesSource  # noqa: E402
from prompt_tuning.data.vocabularies import ByteVocabulary  # noqa: E402

VOCABULARY = ByteVocabulary(extra_ids=125)
LENGTHS = {"inputs": 32, "targets": 32}
NAME = "running_text"
# Documents of other letters and lengths; one of them is too short for a piece.
TEXTS = [chr(97 + i) * (40 + 7 * i) for i in range(20)] + ["z"]


@pytest.fixture
def read():
  """Reads the texts by an objective."""

  def read(objective, *, seed=0, lengths=LENGTHS, shuffle=False):
    source = ExamplesSource(
      NAME, {"train": lambda: [{"text": text} for text in TEXTS]}
    )
    task = seqio_corpora.add_corpus_task(
      NAME, source, vocabulary=VOCABULARY, objective=objective
    )
    dataset = task.get_dataset(
      lengths, split="train", shuffle=shuffle, seed=seed
    )
    examples = list(dataset.as_numpy_iterator())
    seqio.TaskRegistry.remove(NAME)
    return examples

  yield read
  if NAME in seqio.TaskRegistry.names():
    seqio.TaskRegistry.remove(NAME)


def text_of(ids):
  return VOCABULARY.decode(np.asarray(ids).tolist())


def filled(example):
  """Returns the text of which inputs and targets were made."""
  spans, sentinel = {}, None
  for token in example["targets"][:-1].tolist():
    if token >= VOCABULARY.vocab_size - 125:
      sentinel = token
      spans[sentinel] = []
    else:
      spans[sentinel].append(token)
  whole = []
  for token in example["inputs"][:-1].tolist():
    whole += spans.get(token, [token])
  return text_of(whole)


def test_prefix_lm_splits_every_document(read):
  examples = read("prefix_lm")
  parts = [
    text_of(e["inputs"][:-1]) + text_of(e["targets"][:-1]) for e in examples
  ]
  assert all(part == part[0] * len(part) for part in parts), "documents meet"
  assert all(e[side][-1] == 1 for e in examples for side in LENGTHS)
  by_letter = {text[0]: "" for text in TEXTS[:-1]}
  for part in parts:
    by_letter[part[0]] += part
  # A rest of one token is no piece.
  for text in TEXTS[:-1]:
    rest = len(text) % 31
    assert len(by_letter[text[0]]) == len(text) - (rest if rest < 2 else 0)


def test_span_corruption_hides_all_of_the_joined_text(read):
  examples = read("span_corruption")
  raw = objectives.lengths_for_span_corruption(32).raw
  texts = [filled(example) for example in examples]
  whole = "".join(TEXTS)
  left_out = len(whole) % raw if len(whole) % raw < 2 else 0
  assert "".join(texts) == whole[: len(whole) - left_out]
  assert {len(text) for text in texts[:-1]} == {raw}
  assert {len(e["inputs"]) for e in examples[:-1]} == {32}


def test_the_seed_decides_the_noise(read):
  first, again, other = (
    [example["inputs"].tolist() for example in read("prefix_lm", seed=seed)]
    for seed in (1, 1, 2)
  )
  assert first == again
  assert first != other
  lengths = [len(inputs) for inputs in first]
  assert len(set(lengths)) > 10, "every piece is split at a point of its own"


def test_lengths_too_short_for_the_noise(read):
  with pytest.raises(ValueError, match="needs targets of"):
    read("span_corruption", lengths={"inputs": 32, "targets": 4})


def test_an_unknown_objective(read):
  with pytest.raises(ValueError, match="objective must be one of"):
    read("mlm")
