"""Mixtures of text tasks: drawn, found and judged as seqio's are."""

import subprocess
import sys

import numpy as np
import pytest

from prompt_tuning.data import providers, text_mixtures, text_tasks
from prompt_tuning.data.features import FeatureBuilder, FeatureLengths
from prompt_tuning.data.vocabularies import ByteVocabulary
from prompt_tuning.metrics.classification import accuracy
from prompt_tuning.prompts import layout

_VOCABULARY = ByteVocabulary()
# The third is only evaluated.
_SIZES = {"mixed_few": 3, "mixed_many": 30, "mixed_evaluated": 0}
_NAME = "text_mixtures_test"


def rows(task, size):
  return [{"inputs": f"{task} {n}", "targets": "yes"} for n in range(size)]


@pytest.fixture
def tasks():
  """Adds tasks of different sizes, and removes them after the test."""
  for name, size in _SIZES.items():
    splits = {"train": rows(name, size)} if size else {}
    splits["validation"] = rows(name, 2)
    text_tasks.add(
      name,
      text_tasks.in_memory(splits),
      vocabulary=_VOCABULARY,
      metric_fns=[accuracy],
    )
  yield list(_SIZES)
  if text_mixtures.get(_NAME):
    text_mixtures.remove(_NAME)
  for name in _SIZES:
    text_tasks.remove(name)
  if sys.modules.get("seqio"):
    seqio = sys.modules["seqio"]
    if _NAME in seqio.MixtureRegistry.names():
      seqio.MixtureRegistry.remove(_NAME)
    for name in _SIZES:
      seqio.TaskRegistry.remove(name)


def drawn(stream, count):
  texts = [stream.example(n)["inputs_pretokenized"] for n in range(count)]
  return {
    task: sum(text.startswith(f"{task} ") for text in texts) for task in _SIZES
  }


@pytest.mark.parametrize(
  ("rate", "shares"),
  [
    (text_mixtures.equal, (0.5, 0.5)),
    (text_mixtures.Proportional(), (3 / 33, 30 / 33)),
    (text_mixtures.Proportional(maximum=12), (3 / 15, 12 / 15)),
    (text_mixtures.Proportional(maximum=2), (0.5, 0.5)),
  ],
)
def test_tasks_come_at_their_rates(tasks, rate, shares):
  text_mixtures.add(_NAME, tasks, rate=rate)
  stream = providers.find(_NAME).stream("train", seed=0, targets=None)
  count = 4000
  few, many, evaluated = drawn(stream, count).values()
  assert evaluated == 0
  assert few + many == count
  # Five standard deviations.
  assert few / count == pytest.approx(shares[0], abs=5 * 0.5 / count**0.5)
  assert len(stream.examples) == 33


@pytest.mark.parametrize(
  "rate", [text_mixtures.equal, text_mixtures.Proportional(maximum=12)]
)
def test_seqio_draws_the_same(tasks, rate):
  pytest.importorskip("seqio", reason="this is what is tested")
  from prompt_tuning.data.seqio_provider import SeqioProvider

  text_mixtures.add(_NAME, tasks, rate=rate)
  ours, theirs = (
    provider.stream("train", seed=5, targets=None)
    for provider in (providers.find(_NAME), SeqioProvider(_NAME))
  )
  assert ours.card() == theirs.card()
  for number in range(50):
    np.testing.assert_array_equal(
      ours.example(number)["inputs"], theirs.example(number)["inputs"]
    )


def test_every_task_is_judged_for_itself(tasks):
  text_mixtures.add(_NAME, tasks)
  provider = providers.find(_NAME)
  provider.check_evaluation("validation")
  builder = FeatureBuilder(
    FeatureLengths(32, 6), vocab_size=300, layout=layout.prefix(2)
  )
  asked = []

  def yes_to_few(batches):
    """Answers the task that is asked first with yes, others with nothing."""
    asked.append(len(asked))
    ids = [*_VOCABULARY.encode("yes"), 1] if asked[-1] == 0 else [1] * 4
    for batch in batches:
      yield batch, np.tile(np.asarray(ids), (len(batch.indices), 1))

  results = provider.evaluator(builder=builder, batch_size=2).evaluate(
    predict=yes_to_few
  )
  figures = {task: result.metrics for task, result in results.items()}
  assert figures == {
    "mixed_few": {"accuracy": 100.0},
    "mixed_many": {"accuracy": 0.0},
    "mixed_evaluated": {"accuracy": 0.0},
  }


def test_targets_are_checked_in_every_task(tasks):
  text_mixtures.add(_NAME, tasks)
  allowed = {(*_VOCABULARY.encode("no"), 1): "no"}
  with pytest.raises(ValueError, match="task 'mixed_few', example 0"):
    providers.find(_NAME).stream("train", seed=0, targets=allowed)


def test_what_a_mixture_cannot_do(tasks):
  text_mixtures.add(_NAME, tasks)
  provider = providers.find(_NAME)
  provider.check_split("train")
  with pytest.raises(ValueError, match=r"is a mixture of \['mixed_few'"):
    provider.examples("train")
  for call in (provider.check_split, provider.check_evaluation):
    with pytest.raises(ValueError, match=r"no task of the mixture .*'test'"):
      call("test")
  with pytest.raises(ValueError, match="their ids differ"):
    provider.check_vocabulary(ByteVocabulary(extra_ids=1))


@pytest.mark.parametrize(
  ("name", "of", "message"),
  [
    ("mixed_few", ["mixed_many"], "task or mixture 'mixed_few' already"),
    (_NAME, ["mixed_fev"], r"of which \['mixed_fev'\] are unknown"),
    (_NAME, ["mixed_few"] * 2, "needs different text tasks"),
    (_NAME, [], "needs different text tasks"),
  ],
)
def test_mixtures_that_cannot_be(tasks, name, of, message):
  assert set(of) - {"mixed_fev"} <= set(tasks)
  with pytest.raises(ValueError, match=message):
    text_mixtures.add(name, of)


def test_a_maximum_is_positive():
  with pytest.raises(ValueError, match="at least 1, got 0"):
    text_mixtures.Proportional(maximum=0)


def test_tasks_of_another_vocabulary_do_not_mix(tasks):
  other = text_tasks.add(
    "mixed_other",
    text_tasks.in_memory({"train": rows("other", 1)}),
    vocabulary=ByteVocabulary(extra_ids=1),
  )
  try:
    with pytest.raises(ValueError, match="different vocabularies"):
      text_mixtures.add(_NAME, [*tasks, other.name])
  finally:
    text_tasks.remove(other.name)
    if sys.modules.get("seqio"):
      sys.modules["seqio"].TaskRegistry.remove(other.name)


@pytest.mark.slow
def test_seqio_learns_of_it_when_it_is_imported():
  pytest.importorskip("seqio", reason="this is what is tested")
  script = (
    "from prompt_tuning.data import text_mixtures, text_tasks\n"
    "from prompt_tuning.data.vocabularies import ByteVocabulary\n"
    "rows = [{'inputs': 'a', 'targets': 'b'}]\n"
    "text_tasks.add('a', text_tasks.in_memory({'train': rows}),\n"
    "  vocabulary=ByteVocabulary())\n"
    "text_mixtures.add('of_a', ['a'])\n"
    "from prompt_tuning.data import seqio_tasks\n"
    "import seqio\n"
    "print(seqio.get_mixture_or_task('of_a').tasks[0].name)\n"
  )
  run = subprocess.run(
    [sys.executable, "-c", script], capture_output=True, text=True, check=True
  )
  assert run.stdout.split() == ["a"]
