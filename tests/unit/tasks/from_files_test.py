"""Public data sets from files: found, read and judged without seqio."""

import ast
import json
import re
import subprocess
import sys

import numpy as np
import pytest

from prompt_tuning import paths
from prompt_tuning.data import providers, text_tasks
from prompt_tuning.data.features import FeatureBuilder, FeatureLengths
from prompt_tuning.data.vocabularies import (
  ByteVocabulary,
  SentencePieceVocabulary,
)
from prompt_tuning.evaluate.predictors import RankClassification
from prompt_tuning.evaluate.tasks import TaskEvaluation
from prompt_tuning.prompts import layout
from prompt_tuning.tasks import from_files
from prompt_tuning.tasks.catalog import DATA_SETS
from prompt_tuning.testing import fakes, shared

_VOCABULARY = ByteVocabulary()
_SCHEMA = {
  "span1_text": "Ann",
  "span1_index": 0,
  "span2_text": "she",
  "span2_index": 2,
}
_ROWS = {
  "boolq": [
    {"question": "is it", "passage": "It is.", "label": True, "idx": 0},
    {"question": "was it", "passage": "It is.", "label": False, "idx": 1},
  ],
  "wsc": [
    {"text": "Ann says she ran", "target": _SCHEMA, "label": label, "idx": n}
    for n, label in enumerate([False, True, True, False])
  ],
  "multirc": [
    {
      "idx": 0,
      "passage": {
        "text": "Bob ran.",
        "questions": [
          {
            "question": question,
            "idx": number,
            "answers": [
              {"text": "Bob", "label": 1, "idx": 2 * number},
              {"text": "Ann", "label": 0, "idx": 2 * number + 1},
            ],
          }
          for number, question in enumerate(["Who ran?", "Who is it?"])
        ],
      },
    }
  ],
  "record": [
    {
      "idx": 3,
      "passage": {
        "text": "Bob met Ann",
        "entities": [{"start": 0, "end": 2}, {"start": 8, "end": 10}],
      },
      "qas": [
        {
          "query": "@placeholder met",
          "idx": 7,
          "answers": [{"text": "Bob"}, {"text": "Ann"}],
        },
        {"query": "@placeholder", "idx": 8, "answers": [{"text": "Bob"}]},
      ],
    }
  ],
}
# What is said of each validation example, and what that is worth.
_SAID = {
  "boolq": (["True", "True"], {"accuracy": 50.0}),
  "wsc": (["ann", "Bob", "", "Bob"], {"accuracy": 25.0}),
  "multirc": (
    ["True", "False", "True", "True"],
    # 2 hits, 3 said, 2 there; one question of two.
    {"f1": 80.0, "exact_match": 50.0},
  ),
  "record": (["Ann", "Rome", "Bob Smith"], {"em": 50.0, "f1": 100 * 5 / 6}),
}


@pytest.fixture
def write(tmp_path):
  def write(name, rows, suffix="jsonl"):
    file = tmp_path / f"{name}.{suffix}"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)

  return write


@pytest.fixture
def add(write):
  """Adds tasks that are removed after the test, from seqio too."""
  names = []

  def add(data_set, rows=None, **options):
    file = write(data_set, rows or _ROWS[data_set])
    names.append(f"from_files_test_{data_set}_{len(names)}")
    return from_files.add(
      data_set,
      {"train": file, "validation": file},
      name=names[-1],
      **{"vocabulary": _VOCABULARY} | options,
    )

  yield add
  for name in names:
    if text_tasks.get(name):
      text_tasks.remove(name)
      if sys.modules.get("seqio"):
        sys.modules["seqio"].TaskRegistry.remove(name)


def settings():
  builder = FeatureBuilder(
    FeatureLengths(80, 16), vocab_size=300, layout=layout.prefix(2)
  )
  return {"builder": builder, "batch_size": 3, "split": "validation"}


def saying(texts):
  """Returns what answers the examples, in order, with texts."""
  rows = np.zeros([len(texts), 16], np.int32)
  for row, text in zip(rows, texts, strict=True):
    ids = [*_VOCABULARY.encode(text), 1]
    row[: len(ids)] = ids

  def answer(batches):
    for batch in batches:
      yield batch, rows[np.asarray(batch.indices) % len(rows)]

  return answer


@pytest.mark.parametrize("data_set", _ROWS)
def test_it_is_judged_as_t5_does(add, data_set):
  texts, wanted = _SAID[data_set]
  task = add(data_set)
  provider = providers.find(task.name)
  provider.check_evaluation("validation")
  result = provider.evaluator(**settings()).evaluate(predict=saying(texts))
  assert result[task.name].metrics == pytest.approx(wanted)


@pytest.mark.parametrize("data_set", _ROWS)
def test_seqio_judges_the_same(add, data_set, tmp_path):
  pytest.importorskip("seqio", reason="text tasks are compared with its own")
  from prompt_tuning.data.seqio_provider import SeqioProvider

  texts, wanted = _SAID[data_set]
  task = add(data_set)
  evaluator = SeqioProvider(task.name).evaluator(
    **settings(), output_dir=str(tmp_path)
  )
  result = evaluator.evaluate(predict=saying(texts), step=1)
  assert result[task.name].metrics == pytest.approx(wanted)


def test_examples_without_a_label_have_no_figure(add):
  rows = [*_ROWS["boolq"], _ROWS["boolq"][0] | {"label": None}]
  task = add("boolq", rows)
  message = "1 of 3 examples of the split 'validation' .* have no label"
  with pytest.raises(ValueError, match=message):
    providers.find(task.name).evaluator(**settings())


def test_wsc_trains_on_right_candidates_and_is_evaluated_on_all(add):
  task = add("wsc")
  assert [e["label"] for e in task.read("train")] == [1, 1]
  assert [e["label"] for e in task.read("validation")] == [0, 1, 1, 0]


def test_the_index_is_one_token_in_front(add):
  vocabulary = SentencePieceVocabulary(
    str(paths.embedded_dir() / "sentencepiece.model")
  )
  plain, indexed = (
    add("multirc", vocabulary=vocabulary, text_form=form).examples("train")
    for form in ("plain", "indexed")
  )
  for bare, example in zip(plain, indexed, strict=True):
    ids = [vocabulary.vocab_size - 1 - 3, *bare["inputs"].tolist()]
    assert example["inputs"].tolist() == ids
    assert example["targets"].tolist() == bare["targets"].tolist()


def test_the_index_of_t5s_vocabulary_counts_down_from_32099(add):
  vocabulary = SentencePieceVocabulary(
    str(shared.data_path("t5_vocab/spiece.model"))
  )
  for name, index in (("boolq", 0), ("record", 4), ("wsc", 7)):
    task = add(name, vocabulary=vocabulary, text_form="indexed")
    for example in task.examples("validation"):
      assert example["inputs"][0] == 32100 - 1 - index


def test_the_name_is_that_of_t5(add):
  (first, *_) = add("wsc", text_form="named").read("validation")
  assert first["inputs"] == "wsc: Ann says *she* ran"


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"text_form": "bare"}, "text_form must be one of 'plain', 'named'"),
    ({"text_form": "indexed"}, "'<extra_id_0>' as the id"),
  ],
)
def test_a_form_that_cannot_be(add, options, message):
  with pytest.raises(ValueError, match=message):
    add("boolq", **options)


def test_errors_name_the_file_and_the_line(add):
  rows = [_ROWS["boolq"][0], {"question": "is it", "label": 1}]
  with pytest.raises(ValueError, match=r"boolq.jsonl, line 2: .*'passage'"):
    add("boolq", rows).read("train")
  rows = [{"passage": {"text": "a", "entities": [{}]}, "idx": 1}]
  with pytest.raises(ValueError, match=r"line 1: .*'start'"):
    add("record", rows).read("train")
  with pytest.raises(ValueError, match="no data set 'cbb'"):
    add("cbb", rows)


def test_another_tasks_words_are_ranked_and_translated(add, tmp_path):
  rows = [
    {"sentence1": "a b", "sentence2": "b a", "label": label}
    for label in (1, 0, 1)
  ]
  task = add("mrpc_from_qqp", rows)
  model = fakes.tiny_model(vocab_size=384)
  words = DATA_SETS["qqp"].words
  lengths = FeatureLengths(inputs=48, targets=16)
  # Targets are MRPC's words, none of which is ranked: so it gets no labels.
  evaluation = TaskEvaluation(
    task=task.name, predictor=RankClassification(labels=words), batch_size=4
  )
  evaluation.check(model, vocabulary=_VOCABULARY, lengths=lengths)
  measure = evaluation.prepare(
    model,
    vocabulary=_VOCABULARY,
    lengths=lengths,
    layout=layout.prefix(0),
    output_dir=str(tmp_path),
  )
  figures = measure(fakes.tiny_params(model), 0)
  # The texts are all the same, so one word is said to all.
  said_yes = figures[f"{task.name}/accuracy"] == pytest.approx(200 / 3)
  f1 = 80.0 if said_yes else 0.0
  assert figures[f"{task.name}/f1"] == pytest.approx(f1)


def test_columns_without_a_header_are_named(tmp_path):
  file = tmp_path / "in_domain_train.tsv"
  file.write_text("gj04\t1\t\tThey ran.\ngj04\t0\t*\tThem ran.\n")
  names = ("source", "label", "mark", "sentence")
  task = from_files.add(
    "cola",
    {"train": str(file)},
    vocabulary=_VOCABULARY,
    name="from_files_test_columns",
    field_names=names,
  )
  text_tasks.remove(task.name)
  assert [(e["inputs"], e["targets"]) for e in task.read("train")] == [
    ("sentence: They ran.", "acceptable"),
    ("sentence: Them ran.", "unacceptable"),
  ]


def test_examples_name_the_prompt_of_a_bank(add):
  rows = [row | {"task": number} for number, row in enumerate(_ROWS["boolq"])]
  examples = add("boolq", rows, prompt_index="task").examples("train")
  assert [example["prompt_index"] for example in examples] == [0, 1]
  with pytest.raises(ValueError, match="line 1: field 'task' must be the num"):
    add("boolq", [rows[0] | {"task": -1}], prompt_index="task").read("train")


def test_a_task_is_described_wherever_it_is_used(write):
  files = {"train": write("boolq", _ROWS["boolq"])}

  def describe(**changes):
    return from_files.data_set_task(
      **{
        "data_set": "boolq",
        "files": files,
        "vocabulary": _VOCABULARY,
        "name": "from_files_test_twice",
      }
      | changes
    )

  name = describe()
  task = text_tasks.get(name)
  assert describe(text_form="plain") == name
  assert text_tasks.get(name) is task
  for change in ({"text_form": "named"}, {"data_set": "wic"}):
    with pytest.raises(
      ValueError, match="task or mixture 'from_files_test_twice' alr"
    ):
      describe(**change)


def test_no_data_library_is_needed(write):
  file = write("boolq", _ROWS["boolq"])
  script = (
    "import sys\n"
    "for name in ('seqio', 'tensorflow', 'tensorflow_datasets', 'sklearn',\n"
    "             'scipy'): sys.modules[name] = None\n"
    "from prompt_tuning.data.vocabularies import ByteVocabulary\n"
    "from prompt_tuning.tasks import from_files\n"
    f"task = from_files.add('boolq', {{'train': {file!r}}},\n"
    "  vocabulary=ByteVocabulary())\n"
    "print(len(task.examples('train')))"
  )
  run = subprocess.run(
    [sys.executable, "-c", script], capture_output=True, text=True, check=True
  )
  assert run.stdout.strip() == "2"


_RECIPES = paths.recipe_roots()[0] / "tasks"
_OF_DATA_SETS = sorted(
  recipe.stem
  for recipe in _RECIPES.glob("*.gin")
  if 'include "tasks/data_set.gin"' in recipe.read_text()
)


@pytest.mark.parametrize("recipe", _OF_DATA_SETS)
def test_a_recipe_has_the_words_of_its_data_set(recipe):
  text = (_RECIPES / f"{recipe}.gin").read_text()
  (name,) = re.findall(r'^DATA_SET = "(.*)"$', text, re.MULTILINE)
  (words,) = re.findall(r"^CLASS_LABELS = (.*)$", text, re.MULTILINE)
  # Of a transfer, a model says the words of the data set that it learned.
  spoken = name.split("_from_")[-1]
  assert (ast.literal_eval(words) or ()) == DATA_SETS[spoken].words


@pytest.mark.parametrize("recipe", _OF_DATA_SETS)
def test_a_recipe_has_room_for_its_words(recipe):
  vocabulary = SentencePieceVocabulary(
    str(shared.data_path("t5_vocab/spiece.model"))
  )
  text = (_RECIPES / f"{recipe}.gin").read_text()
  (lengths,) = re.findall(r"^TASK_FEATURE_LENGTHS = (.*)$", text, re.MULTILINE)
  room = ast.literal_eval(lengths)["targets"]
  for word in DATA_SETS[recipe].words or ("3.8",):
    ids = vocabulary.encode(word)
    assert len(ids) + 1 <= room
    assert vocabulary.decode(ids) == word


def test_a_record_of_another_kind_names_its_line(tmp_path):
  path = tmp_path / "x.jsonl"
  path.write_text('{"text": "a b c", "target": "he", "label": 1}\n')
  name = from_files.data_set_task(
    data_set="wsc",
    files={"train": str(path)},
    vocabulary=_VOCABULARY,
    name="no_wsc",
  )
  with pytest.raises(ValueError, match=r"x\.jsonl, line 1: .*'wsc'"):
    providers.find(name).examples("train")


def test_nothing_is_learnt_from_what_has_no_label(tmp_path):
  rows = [
    {"sentence1": "a", "sentence2": "b", name: 3}
    for name in ("label", "Score")  # Its name is `score`.
  ]
  path = tmp_path / "x.jsonl"
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  name = from_files.data_set_task(
    data_set="stsb",
    files={"train": str(path)},
    vocabulary=_VOCABULARY,
    name="unlabelled",
  )
  with pytest.raises(ValueError, match=r"1 of 2 examples .* no label, .* 1;"):
    providers.find(name).stream("train", seed=0, targets=None)
