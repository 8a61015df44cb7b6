"""Tasks over TensorFlow Datasets: read, trained on, found by --tfds_data_dir.

The datasets are made here, as the ones of others would have to be downloaded.
"""

import functools
import os
import subprocess
import sys

import numpy as np
import pytest

from prompt_tuning import paths
from prompt_tuning.backbone import Backbone
from prompt_tuning.checkpoints import t5x
from prompt_tuning.data.batches import Batches
from prompt_tuning.data.features import FeatureBuilder, FeatureLengths
from prompt_tuning.data.inputs import TaskInputs
from prompt_tuning.data.vocabularies import ByteVocabulary
from prompt_tuning.evaluate.predictors import RankClassification
from prompt_tuning.evaluate.tasks import TaskEvaluation
from prompt_tuning.metrics.classification import accuracy
from prompt_tuning.prompts import initializers, layout
from prompt_tuning.prompts.spec import PromptSpec
from prompt_tuning.runs import train
from prompt_tuning.testing import fakes
from prompt_tuning.train import optimizers, plan, selection

seqio = pytest.importorskip("seqio", reason="this is what is tested")
tf = pytest.importorskip("tensorflow", reason="seqio runs on it")
tfds = pytest.importorskip("tensorflow_datasets", reason="is what is read")

from prompt_tuning.data import seqio_tasks  # noqa: E402
from prompt_tuning.data.corpus import tokenize_corpus  # noqa: E402

ROOT = paths.recipe_roots()[0].parent
VOCABULARY = ByteVocabulary(extra_ids=125)
LABELS = ("bad", "good")
NAME = "tfds_test_reviews"
REVIEWS = {
  "train": [("a fine film", 1), ("poor", 0), ("so dull", 0), ("é", 1)] * 4,
  "validation": [("fine", 1), ("a poor film", 0)],
}


class TfdsTestReviews(tfds.core.GeneratorBasedBuilder):
  """Labelled sentences, as SST-2 has them."""

  VERSION = tfds.core.Version("1.0.0")

  def _info(self):
    features = {
      "sentence": tfds.features.Text(),
      "label": tfds.features.ClassLabel(names=["negative", "positive"]),
    }
    return tfds.core.DatasetInfo(
      builder=self, features=tfds.features.FeaturesDict(features)
    )

  def _split_generators(self, dl_manager):
    return {s: self._generate_examples(rows) for s, rows in REVIEWS.items()}

  def _generate_examples(self, rows):
    for index, (sentence, label) in enumerate(rows):
      yield index, {"sentence": sentence, "label": label}


@seqio.map_over_dataset
def to_text(example):
  return {
    "inputs": tf.strings.join(["review: ", example["sentence"]]),
    "targets": tf.gather(tf.constant(LABELS), example["label"]),
  }


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
  """A folder in which the dataset is prepared."""
  folder = tmp_path_factory.mktemp("tfds")
  tfds.disable_progress_bar()
  TfdsTestReviews(data_dir=str(folder)).download_and_prepare()
  return folder


@pytest.fixture
def add_task():
  names = []

  def add(folder, **options):
    names.append(f"{NAME}_{len(names)}")
    seqio_tasks.add_text_task(
      names[-1],
      seqio.TfdsDataSource(
        tfds_name=f"{NAME}:1.0.0", tfds_data_dir=str(folder), **options
      ),
      vocabulary=VOCABULARY,
      preprocessors=[to_text],
      metric_fns=[accuracy],
    )
    return names[-1]

  yield add
  for name in names:
    seqio.TaskRegistry.remove(name)


def ids(text):
  return [*(byte + 3 for byte in text.encode()), 1]


def test_examples_are_those_of_the_dataset(data_dir, add_task):
  inputs = TaskInputs(task=add_task(data_dir), labels=LABELS)
  examples = inputs.examples(VOCABULARY)
  assert sorted(
    (e["inputs"].tolist(), e["targets"].tolist()) for e in examples
  ) == sorted(
    (ids(f"review: {text}"), ids(LABELS[label]))
    for text, label in REVIEWS["train"]
  )


def test_batches_hold_its_tokens(data_dir, add_task):
  inputs = TaskInputs(task=add_task(data_dir), labels=LABELS)
  lengths = FeatureLengths(inputs=24, targets=6)
  batches = Batches(
    inputs.stream(VOCABULARY, lengths, seed=0),
    FeatureBuilder(lengths, vocab_size=384, layout=layout.prefix(2)),
    batch_size=16,
  )
  batch = next(batches)  # One epoch.
  rows = zip(
    batch["encoder_input_tokens"].tolist(),
    batch["decoder_target_tokens"].tolist(),
    strict=True,
  )
  expected = []
  for text, label in REVIEWS["train"]:
    encoder = [384, 385, *ids(f"review: {text}")]
    target = ids(LABELS[label])
    expected.append(
      (encoder + [0] * (26 - len(encoder)), target + [0] * (6 - len(target)))
    )
  assert sorted(rows) == sorted(expected)


def test_a_split_is_running_text(data_dir, tmp_path, monkeypatch):
  monkeypatch.setenv("TFDS_DATA_DIR", str(data_dir))
  source = f"tfds:{NAME}:1.0.0@train[:50%]"
  corpus = tokenize_corpus(
    [source], VOCABULARY, tmp_path / "tokens", text_field="sentence"
  )
  starts = [0, *corpus.ends[:-1]]
  texts = [
    VOCABULARY.decode(corpus.tokens[start:end].tolist())
    for start, end in zip(starts, corpus.ends, strict=True)
  ]
  assert 2 * len(texts) == len(REVIEWS["train"])
  assert set(texts) <= {sentence for sentence, _ in REVIEWS["train"]}
  assert corpus.card["sources"] == [{"name": source}]
  with pytest.raises(ValueError, match="record 1: field 'text' is missing"):
    tokenize_corpus([source], VOCABULARY, tmp_path / "other")


def test_a_prompt_is_tuned_on_it(data_dir, add_task, tmp_path):
  name = add_task(data_dir)
  model = fakes.tiny_model(vocab_size=384)
  path = t5x.save(fakes.tiny_params(model), tmp_path / "backbone", step=0)
  ranking = RankClassification(labels=LABELS)
  result = train.train(
    model_dir=str(tmp_path / "run"),
    backbone=Backbone(
      config=model.config, vocabulary=VOCABULARY, checkpoint=str(path)
    ),
    inputs=TaskInputs(task=name, labels=LABELS),
    feature_lengths={"inputs": 24, "targets": 6},
    batch_size=8,
    trainable=("prompt/.*",),
    optimizer=optimizers.adafactor(
      learning_rate=optimizers.constant(learning_rate=0.3)
    ),
    plan=plan.Plan(total_steps=2),
    # The first evaluation is the best so far, which writes the first prompt.
    selection=selection.Selection(metric="mean/score"),
    prompt=PromptSpec(
      length=3,
      initializer=functools.partial(initializers.class_labels, labels=LABELS),
    ),
    evaluations=[
      TaskEvaluation(task=name, predictor=ranking, batch_size=8, labels=LABELS)
    ],
  )
  assert result.step == 2
  assert result.metrics[f"{name}/accuracy"] in (0, 50, 100)
  first, last = (
    np.load(tmp_path / "run" / "prompts" / f"prompt_{step}.npy")
    for step in (0, 2)
  )
  assert np.all(np.any(first != last, axis=1))


def test_without_its_dataset_a_task_does_not_know_its_splits(
  add_task, tmp_path
):
  lengths = FeatureLengths(inputs=24, targets=6)
  unknown = TaskInputs(task=add_task(tmp_path))
  message = rf"'{NAME}:1.0.0' are not known, .*not prepared in '{tmp_path}"
  with pytest.raises(ValueError, match=message):
    unknown.check(VOCABULARY, lengths)
  with pytest.raises(ValueError, match="--tfds_data_dir"):
    unknown.examples(VOCABULARY)


def test_a_dataset_is_prepared_when_it_is_read(add_task, tmp_path):
  lengths = FeatureLengths(inputs=24, targets=6)
  named = TaskInputs(task=add_task(tmp_path, splits=list(REVIEWS)))
  named.check(VOCABULARY, lengths)
  assert not list(tmp_path.iterdir()), "a check prepares nothing"
  assert len(named.examples(VOCABULARY)) == 16


# The same dataset in a module of a user's own.
_MODULE = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("made_here", {test!r})
made_here = importlib.util.module_from_spec(spec)
spec.loader.exec_module(made_here)
made_here.seqio_tasks.add_text_task(
  "reviews",
  made_here.seqio.TfdsDataSource(
    tfds_name="tfds_test_reviews:1.0.0", splits=["train", "validation"]
  ),
  vocabulary=made_here.VOCABULARY,
  preprocessors=[made_here.to_text],
  metric_fns=[made_here.accuracy],
)
"""


@pytest.mark.slow
def test_the_main_prepares_it_in_tfds_data_dir(tmp_path):
  model = fakes.tiny_model(vocab_size=384)
  t5x.save(fakes.tiny_params(model), tmp_path / "backbone", step=0)
  (tmp_path / "my_task.py").write_text(_MODULE.format(test=__file__))
  settings = {
    "EMBED_DIM": 16,
    "NUM_HEADS": 8,
    "HEAD_DIM": 4,
    "MLP_DIM": 32,
    "NUM_ENCODER_LAYERS": 2,
    "NUM_DECODER_LAYERS": 2,
    "INITIAL_CHECKPOINT_PATH": "backbone",
    "MODEL_DIR": "run",
    "MIXTURE_OR_TASK_MODULE": "my_task",
    "MIXTURE_OR_TASK_NAME": "reviews",
    "TASK_FEATURE_LENGTHS": {"inputs": 24, "targets": 6},
    "CLASS_LABELS": LABELS,
    "TRAIN_STEPS": 2,
    "BATCH_SIZE": 8,
    "DATA_PARTITIONS": 8,
  }
  recipes = ["models/byt5.gin", "runs/prompt_tune.gin", "decoding/rank.gin"]
  command = [
    *(sys.executable, "-m", "prompt_tuning.train"),
    *(f"--gin_file={recipe}" for recipe in recipes),
    *(f"--gin.{name}={value!r}" for name, value in settings.items()),
    "--tfds_data_dir=datasets",
  ]

  def run(*extra):
    result = subprocess.run(
      [*command, *extra],
      cwd=tmp_path,
      env=os.environ | {"PYTHONPATH": f"{ROOT}:{tmp_path}"},
      capture_output=True,
      text=True,
      check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout

  before = sorted(tmp_path.iterdir())
  assert "trainable parameters:" in run("--dry_run")
  assert sorted(tmp_path.iterdir()) == before
  run()
  assert (tmp_path / "datasets" / NAME / "1.0.0").is_dir()
  assert (tmp_path / "run" / "prompts" / "prompt_2.npy").exists()
