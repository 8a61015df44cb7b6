"""Tasks cached without Beam, and questions about running text as a Task."""

import json

import numpy as np
import pytest

seqio = pytest.importorskip("seqio", reason="this is what is tested")

from prompt_tuning import config, paths  # noqa: E402
from prompt_tuning.data import seqio_cache, seqio_input  # noqa: E402
from prompt_tuning.data.features import FeatureLengths  # noqa: E402
from prompt_tuning.data.inputs import TaskInputs  # noqa: E402
from prompt_tuning.data.prompt_pretraining.pseudo_labels import (  # noqa: E402
  PseudoLabelInputs,
)
from prompt_tuning.data.prompt_pretraining.stream import (  # noqa: E402
  PretrainingInputs,
)
from prompt_tuning.data.vocabularies import (  # noqa: E402
  SentencePieceVocabulary,
)

WORDS = str(paths.embedded_dir() / "sentencepiece.model")
VOCABULARY = SentencePieceVocabulary(WORDS)
LENGTHS = FeatureLengths(inputs=64, targets=3)


def rows(count):
  return [{"inputs": f"{n}", "targets": "yes"} for n in range(count)]


@pytest.mark.usefixtures("restored_cache_dirs")
def test_shards_hold_all_of_it(add_task, tmp_path):
  name = add_task(rows(7))
  folder = seqio_cache.cache_task(name, tmp_path, num_shards=3)
  files = sorted(path.name for path in (tmp_path / name).glob("*tfrecord*"))
  assert folder == str(tmp_path / name)
  assert len(files) == 6
  task = seqio_input.find(name, cache_dirs=[str(tmp_path)])
  read = seqio_input.read_task(name, "train", use_cached=True)
  direct = seqio_input.read_task(name, "train")
  texts = [sorted(e["inputs_pretokenized"] for e in x) for x in (read, direct)]
  assert texts[0] == texts[1]
  assert task.get_cached_stats("train")["examples"] == 7


def test_what_cannot_be_cached(add_task, add_plain_task, tmp_path):
  name = add_task(rows(3))
  plain = add_plain_task(rows(3), [seqio.preprocessors.tokenize])
  with pytest.raises(ValueError, match="or a task without a seqio"):
    seqio_cache.cache_task(plain, tmp_path)
  with pytest.raises(
    ValueError, match=r"has the splits .* asked for were \['te"
  ):
    seqio_cache.cache_task(name, tmp_path, splits=["test"])
  with pytest.raises(ValueError, match="there is no task"):
    seqio_cache.cache_task("absent", tmp_path)
  seqio_cache.cache_task(name, tmp_path)
  with pytest.raises(ValueError, match="is there already; remove it"):
    seqio_cache.cache_task(name, tmp_path)


def test_nothing_is_left_of_a_task_that_breaks_off(add_task, tmp_path):
  def broken(dataset):
    def fail(text):
      raise RuntimeError("half way")

    return dataset.map(
      lambda e: {
        **e,
        "inputs": seqio.utils.tf.py_function(
          fail, [e["inputs"]], seqio.utils.tf.string
        ),
      }
    )

  name = add_task(rows(3), preprocessors=[broken])
  with pytest.raises(Exception, match="half way"):
    seqio_cache.cache_task(name, tmp_path)
  assert not list(tmp_path.iterdir())


def running_text(folder):
  """Returns a recipe of questions about documents, its macros and inputs."""
  documents = [
    {"text": [f"the film was good . {d} {n}" for n in range(8)]}
    for d in range(200)
  ]
  corpus, sentences = folder / "corpus.jsonl", str(folder / "sentences")
  corpus.write_text("".join(json.dumps(row) + "\n" for row in documents))
  macros = {"CORPUS_FILES": [str(corpus)], "CORPUS_CACHE": sentences}
  inputs = PretrainingInputs(
    files=[str(corpus)], cache=sentences, form="next_sentence_prediction"
  )
  return "tasks/questions.gin", macros, inputs


def pseudo_labels(folder):
  rows = [
    {"inputs": f"the film . {n}", "label": word, "confidence": 0.9}
    for word in ("bad", "good")
    for n in range(99)
  ]
  file = folder / "labelled.jsonl"
  file.write_text("".join(json.dumps(row) + "\n" for row in rows))
  words = {"verbalizer": {word: word for word in ("bad", "good")}}
  words["thresholds"] = dict.fromkeys(("bad", "good"), 0.5)
  macros = {key.upper(): value for key, value in words.items()}
  inputs = PseudoLabelInputs(files=[str(file)], **words)
  macros["LABELLED_FILES"] = [str(file)]
  return "tasks/labelled_questions.gin", macros, inputs


@pytest.mark.usefixtures("restored_cache_dirs")
@pytest.mark.parametrize("of", [running_text, pseudo_labels])
def test_questions_are_cached_by_a_recipe(tmp_path, of):
  recipe, macros, inputs = of(tmp_path)
  macros |= {
    "VOCABULARY_PATH": WORDS,
    "CACHE_DIR": str(tmp_path / "cached"),
    "TASK_NAME": "questions_cached",
    "NUM_QUESTIONS": {"train": 20, "validation": 5},
  }
  config.parse(
    ["runs/cache_task.gin", recipe],
    [f"{key}={value!r}" for key, value in macros.items()],
    entry=seqio_cache.cache_task,
  )
  try:
    config.call(seqio_cache.cache_task)
    task = TaskInputs(
      task="questions_cached",
      use_cached=True,
      cache_dirs=[str(tmp_path / "cached")],
    )
    cached = task.examples(VOCABULARY)
    stream = inputs.stream(VOCABULARY, LENGTHS, seed=0)
    assert len(cached) == 20
    for number, example in enumerate(cached):
      for key in ("inputs", "targets"):
        np.testing.assert_array_equal(example[key], stream.example(number)[key])
  finally:
    seqio.TaskRegistry.remove("questions_cached")
