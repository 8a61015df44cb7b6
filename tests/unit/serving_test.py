"""Prompts that come and go on one backbone."""

import numpy as np
import pytest

from prompt_tuning.backbone import Backbone
from prompt_tuning.checkpoints import t5x
from prompt_tuning.data.features import FeatureBuilder, FeatureLengths
from prompt_tuning.data.vocabularies import ByteVocabulary
from prompt_tuning.evaluate import generation, rank_classification
from prompt_tuning.evaluate.generation import Generator
from prompt_tuning.evaluate.rank_classification import (
  RankClassifier,
  Verbalizers,
)
from prompt_tuning.model.t5 import T5
from prompt_tuning.prompts import artifact, layout
from prompt_tuning.prompts.initializers import Values
from prompt_tuning.prompts.module import Prompt, PromptAttention
from prompt_tuning.serving import Server
from prompt_tuning.testing import fakes

VOCABULARY = ByteVocabulary()
CONFIG = fakes.tiny_config(vocab_size=384)
LABELS = ("no", "yes indeed")
TEXTS = ["a fine film", "it was", "so long a text that it is in another bucket"]


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
  folder = tmp_path_factory.mktemp("backbone")
  params = fakes.tiny_params(fakes.tiny_model(vocab_size=384))
  t5x.save(params, folder, step=0)
  return Backbone(config=CONFIG, vocabulary=VOCABULARY, checkpoint=str(folder))


@pytest.fixture(scope="module")
def prompts(backbone, tmp_path_factory):
  """Files of prompts by name; "c" is shorter, "p" attends to itself."""
  folder = tmp_path_factory.mktemp("prompts")
  fingerprint = backbone.load().fingerprint
  rng = np.random.default_rng(0)
  found = {}
  for name, length in (("a", 4), ("b", 4), ("c", 2), ("p", 4), ("q", 4)):
    card = artifact.PromptCard(
      length=length,
      width=16,
      backbone=fingerprint,
      step=1,
      attention="prefix" if name in "pq" else "full",
    )
    path = folder / f"{name}.npy"
    artifact.save_prompt(path, 2 * rng.normal(size=(length, 16)), card)
    found[name] = str(path)
  return found


def server(backbone, **settings):
  plain = {
    "max_inputs": 48,
    "max_targets": 6,
    "prompt_length": 4,
    "capacity": 3,
    "batch_size": 4,
  }
  return Server(backbone, **plain | settings)


def alone(backbone, path, text, attention="full"):
  """Answers one text by a model of one prompt, without a server."""
  array = artifact.load_prompt(path).array
  module = Prompt(
    length=len(array),
    features=16,
    initializer=Values(array, "a test"),
    attention=PromptAttention(attention),
  )
  params = {**backbone.load().params, "prompt": {"embedding": array}}
  model = T5(CONFIG, prompt=module)
  builder = FeatureBuilder(
    FeatureLengths(inputs=48, targets=6),
    vocab_size=384,
    layout=layout.prefix(len(array) if attention == "full" else 0),
  )
  ids = [*VOCABULARY.encode(text), 1]
  batch = builder.batch([{"inputs": ids, "targets": [1]}])
  tokens = Generator(model, max_decode_length=6).predict(params, batch)
  verbalizers = Verbalizers.encode(LABELS, VOCABULARY)
  ranking = RankClassifier(model, verbalizers).rank(params, batch)
  scores = np.asarray(ranking.scores[0])
  likely = np.exp(scores - scores.max())
  return VOCABULARY.decode(tokens[0].tolist()), likely / likely.sum()


@pytest.mark.parametrize(
  ("attention", "names"), [("full", "abc"), ("prefix", "pqp")]
)
def test_each_row_reads_its_own_prompt(backbone, prompts, attention, names):
  there = server(backbone, attention=attention)
  for name in set(names):
    there.add(name, prompts[name])
  texts = [text for text in TEXTS for _ in names]
  asked = list(names) * len(TEXTS)
  answers = there.generate(texts, asked)
  found = there.classify(texts, asked, labels=LABELS)
  for text, name, answer, classified in zip(
    texts, asked, answers, found, strict=True
  ):
    expected, likely = alone(backbone, prompts[name], text, attention)
    assert answer == expected
    np.testing.assert_allclose(
      list(classified.probabilities.values()), likely, atol=1e-5
    )
    assert classified.label == LABELS[int(np.argmax(likely))]
  assert len(set(answers)) > 2


def test_to_add_and_drop_compiles_nothing(backbone, prompts):
  there = server(backbone)
  there.add("one", prompts["a"])
  there.generate(TEXTS, ["one"] * 3)
  there.classify(TEXTS, ["one"] * 3, labels=LABELS)
  compiled = [
    generation._generate_tokens,
    rank_classification._rank_tokens,
  ]
  before = [function._cache_size() for function in compiled]
  there.add("two", prompts["b"])
  there.add("three", prompts["c"])
  with pytest.raises(ValueError, match="3 prompts and no place for 'four'"):
    there.add("four", prompts["a"])
  there.drop("one")
  there.add("four", prompts["a"])
  first = there.generate(TEXTS, ["two", "three", "four"])
  there.classify(TEXTS, ["two", "three", "four"], labels=LABELS)
  assert [function._cache_size() for function in compiled] == before
  assert there.prompts == ["two", "three", "four"]
  # Replaced, it is the other.
  there.add("two", prompts["a"])
  assert there.generate(TEXTS[:1], ["two"]) == there.generate(
    TEXTS[:1], ["four"]
  )
  assert first[2] == there.generate(TEXTS, ["two", "two", "four"])[2]


def test_labels_are_each_prompts_own_and_the_bare_backbone_answers(
  backbone, prompts
):
  there = server(backbone)
  there.add("a", prompts["a"])
  labels = {"a": ("x", "y"), "": ("no", "yes")}
  found = there.classify(TEXTS, ["a", None, "a"], labels=labels)
  assert [tuple(f.probabilities) for f in found] == [
    *(("x", "y"), ("no", "yes"), ("x", "y")),
  ]
  assert len(there.generate(TEXTS, [None] * 3)) == 3


@pytest.mark.parametrize(
  ("act", "message"),
  [
    (lambda s, p: s.add("x", p["p"]), "was tuned with the prompt attention"),
    (lambda s, p: s.add("x", "absent.npy"), "neither the file of a prompt"),
    (lambda s, p: s.drop("x"), r"no prompt 'x'; there are \['a'\]"),
    (lambda s, p: s.generate(["t"], ["x"]), "there is no prompt 'x'"),
    (lambda s, p: s.generate(["t"], []), "1 texts and 0 prompts"),
    (lambda s, p: s.generate([""], ["a"]), r"text 0 \(''\): the input has no"),
    (
      lambda s, p: s.classify(["t"], ["a"], labels={"b": ["x", "y"]}),
      "no labels for the prompt 'a'",
    ),
  ],
)
def test_what_cannot_be_done_is_named(backbone, prompts, act, message):
  there = server(backbone)
  there.add("a", prompts["a"])
  with pytest.raises(ValueError, match=message):
    act(there, prompts)
  assert there.prompts == ["a"]


def test_prompts_that_do_not_fit(backbone, prompts):
  with pytest.raises(ValueError, match=r"takes prompts of up to 3 tokens"):
    server(backbone, prompt_length=3).add("a", prompts["a"])
  apart = server(backbone, attention="prefix", prompt_length=5)
  with pytest.raises(
    ValueError, match="takes prompts of 5 tokens and width 16"
  ):
    apart.add("p", prompts["p"])
  with pytest.raises(ValueError, match="text 0 names no prompt"):
    apart.generate(["t"], [None])
  with pytest.raises(ValueError, match="capacity must be at least 1, got 0"):
    server(backbone, capacity=0)
