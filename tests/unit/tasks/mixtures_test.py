"""Mixtures of public data sets, from files and out of TFDS."""

import json
import sys

import pytest

from prompt_tuning.data import providers, text_mixtures, text_tasks
from prompt_tuning.data.text_mixtures import Proportional, equal
from prompt_tuning.data.vocabularies import ByteVocabulary
from prompt_tuning.tasks import mixtures
from prompt_tuning.tasks.catalog import DATA_SETS

_VOCABULARY = ByteVocabulary()
_PAIR = {"premise": "It rains.", "hypothesis": "It is wet."}


@pytest.fixture(autouse=True)
def forget():
  """Removes what a test added, from seqio too."""
  before = [
    {each.name for each in known.everything()}
    for known in (text_tasks, text_mixtures)
  ]
  yield
  seqio = sys.modules.get("seqio")
  for known, names, registry in zip(
    (text_tasks, text_mixtures),
    before,
    ("TaskRegistry", "MixtureRegistry"),
    strict=True,
  ):
    for each in known.everything():
      if each.name not in names:
        known.remove(each.name)
        if seqio is not None:
          getattr(seqio, registry).remove(each.name)


@pytest.fixture
def files(tmp_path):
  """Files of two data sets, the second with five times as many examples."""

  def write(name, size):
    file = tmp_path / f"{name}.jsonl"
    row = json.dumps(_PAIR | {"label": "entailment"})
    file.write_text(f"{row}\n" * size)
    return {"train": str(file), "validation": str(file)}

  return {"cb": write("cb", 4), "rte": write("rte", 20)}


def shares(name, count=2000):
  stream = providers.find(name).stream("train", seed=1, targets=None)
  texts = [stream.example(n)["inputs_pretokenized"] for n in range(count)]
  return {
    front: sum(text.startswith(f"{front} ") for text in texts) / count
    for front in ("cb", "rte")
  }


@pytest.mark.parametrize(
  ("options", "of_cb"),
  [
    ({}, 4 / 24),
    ({"mixing": "proportional", "maximum": 8}, 4 / 12),
    ({"mixing": "equal"}, 1 / 2),
  ],
)
def test_data_sets_from_files_are_mixed(files, options, of_cb):
  name = f"mixtures_test_{len(options)}_{options.get('mixing')}"
  name = mixtures.of_files(
    name=name, files=files, vocabulary=_VOCABULARY, **options
  )
  found = shares(name)
  assert found["cb"] == pytest.approx(of_cb, abs=0.05)
  assert found["cb"] + found["rte"] == 1.0
  evaluated = text_mixtures.get(name).having("validation")
  assert [task.name for task in evaluated] == [f"{name}_cb", f"{name}_rte"]


def test_a_mixture_is_described_wherever_it_is_used(files):
  settings = {"name": "mixtures_test_twice", "vocabulary": _VOCABULARY}
  name = mixtures.of_files(files=files, **settings)
  assert mixtures.of_files(files=files, **settings) == name
  with pytest.raises(ValueError, match="already"):
    mixtures.of_files(files=files, mixing="equal", **settings)


@pytest.mark.parametrize("benchmark", mixtures.BENCHMARKS)
def test_a_benchmark_out_of_tfds_is_known_before_it_is_there(benchmark):
  name = mixtures.of_tfds(
    name=f"mixtures_test_{benchmark}",
    benchmark=benchmark,
    vocabulary=_VOCABULARY,
  )
  provider = providers.find(name)
  provider.check_split("train")
  provider.check_evaluation("validation")
  tasks = text_mixtures.get(name).having("train")
  trained = [task.name.removeprefix(f"{name}_") for task in tasks]
  assert trained == [
    member
    for member in mixtures.BENCHMARKS[benchmark]
    if DATA_SETS[member].num_train
  ]
  assert len(trained) == {"super_glue_with_dpr": 9}.get(benchmark, 8)


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"benchmark": "superglue"}, r"must be one of \['super_glue'"),
    ({"mixing": "equal", "maximum": 3}, "a maximum is for proportional"),
    ({"mixing": "even"}, "mixing must be one of 'equal', 'proportional'"),
    ({"text_form": "indexed"}, "'<extra_id_0>'"),
  ],
)
def test_mixtures_that_cannot_be(settings, message):
  with pytest.raises(ValueError, match=message):
    mixtures.of_tfds(
      **{
        "name": "mixtures_test_impossible",
        "benchmark": "super_glue",
        "vocabulary": _VOCABULARY,
      }
      | settings
    )


# T5's rates: the examples that each task has as text.
_RATES = {
  "boolq": 9427,
  "cb": 250,
  "copa": 400,
  "multirc": 27243,
  "record": 138854,
  "rte": 2490,
  "wic": 5428,
  "wsc": 259,
  "dpr": 1322,
  "cola": 8551,
  "sst2": 67349,
  "mrpc": 3668,
  "qqp": 363849,
  "stsb": 5749,
  "mnli": 392702,
  "qnli": 104743,
  "glue_rte": 2490,
}


def test_sizes_are_those_of_the_reference():
  sizes = {
    name: DATA_SETS[name].num_train
    for members in mixtures.BENCHMARKS.values()
    for name in members
    if name != "mnli_mismatched"
  }
  assert sizes == _RATES
  assert Proportional(1000)(sizes["wsc"]) == 259
  assert Proportional(1000)(sizes["record"]) == 1000
  assert equal(sizes["record"]) == 1
