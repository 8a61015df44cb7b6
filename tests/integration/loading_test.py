"""Runs whose mesh cuts the model: what they read of a checkpoint."""

import functools
import json

import jax
import numpy as np
import pytest

from benchmarks import loading
from prompt_tuning.backbone import Backbone
from prompt_tuning.checkpoints import load, t5x
from prompt_tuning.data.file_task import file_task
from prompt_tuning.data.inputs import FileInputs, TaskInputs
from prompt_tuning.data.vocabularies import ByteVocabulary
from prompt_tuning.evaluate.predictors import RankClassification
from prompt_tuning.prompts import initializers
from prompt_tuning.prompts.spec import PromptSpec
from prompt_tuning.runs import evaluate, infer, train
from prompt_tuning.runs.hardware import Hardware
from prompt_tuning.testing import checkpoints, fakes
from prompt_tuning.train import checkpoint_files, optimizers, plan
from prompt_tuning.train.held_out import HeldOutLoss

pytestmark = pytest.mark.multidevice
LABELS = ("no", "yes")
LENGTHS = {"inputs": 12, "targets": 4}
CUT, WHOLE = Hardware(model=4), Hardware()
MODEL = fakes.tiny_model(
  vocab_size=384, num_encoder_layers=1, num_decoder_layers=1
)


@pytest.fixture(scope="module")
def params():
  return fakes.tiny_params(MODEL)


@pytest.fixture(scope="module")
def folder(params, tmp_path_factory):
  """A checkpoint, and examples."""
  folder = tmp_path_factory.mktemp("loading")
  t5x.save(params, folder, step=7)
  lines = [
    json.dumps({"text": f"{n} {LABELS[n % 2]}", "label": n % 2})
    for n in range(16)
  ]
  (folder / "data.jsonl").write_text("\n".join(lines))
  return folder


@pytest.fixture(scope="module")
def shared(folder):
  return {
    "backbone": Backbone(
      config=MODEL.config,
      vocabulary=ByteVocabulary(extra_ids=125),
      checkpoint=str(folder / "checkpoint_7"),
    ),
    "feature_lengths": LENGTHS,
    "hardware": WHOLE,
  }


@pytest.fixture(scope="module")
def inputs(folder, shared):
  task = file_task(
    name="loading_toy",
    files={"train": str(folder / "data.jsonl")},
    inputs="{text}",
    targets="label",
    vocabulary=shared["backbone"].vocabulary,
    verbalizers=LABELS,
  )
  return TaskInputs(task=task, split="train", labels=LABELS)


@pytest.fixture(name="read")
def _read(monkeypatch):
  """Bytes of what is read of checkpoints, for each time."""
  read, of_store = [], t5x.zarr.Stored

  def counted(shape, dtype, get, pick):
    def count(index):
      part = get(index)
      read.append(part.nbytes)
      return part

    return of_store(shape, dtype, count, pick)

  monkeypatch.setattr(t5x.zarr, "Stored", counted)
  return read


def _tune(inputs, model_dir, trainable="prompt/.*", **shared):
  train.train(
    **shared,
    inputs=inputs,
    model_dir=str(model_dir),
    batch_size=8,
    trainable=(trainable,),
    optimizer=optimizers.adafactor(
      learning_rate=optimizers.constant(learning_rate=0.01)
    ),
    plan=plan.Plan(total_steps=2, eval_every=2, save_every=2, log_every=1),
    prompt=PromptSpec(
      length=3,
      initializer=functools.partial(initializers.class_labels, labels=LABELS),
    ),
    evaluations=[],
  )
  return checkpoint_files.load_trainable(model_dir, step=2)


def _sizes(params):
  """Returns the bytes of all weights, and of the largest."""
  sizes = [leaf.nbytes for leaf in jax.tree.leaves(params)]
  return sum(sizes), max(sizes)


@pytest.mark.parametrize("trainable", ["prompt/.*", ".*"])
def test_training_reads_each_weight_once(
  trainable, shared, inputs, params, read, tmp_path
):
  tune = functools.partial(_tune, inputs, trainable=trainable)
  tuned = tune(tmp_path / "cut", **shared | {"hardware": CUT})
  total, largest = _sizes(params)
  # The table once more, for the prompt to begin with.
  assert sum(read) == total + params["token_embedder"]["embedding"].nbytes
  assert max(read) == largest
  wanted = tune(tmp_path / "whole", **shared)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
    tuned,
    wanted,
  )


def test_evaluation_and_inference_read_each_weight_once(
  shared, inputs, folder, params, read, tmp_path
):
  _tune(inputs, tmp_path / "run", **shared)
  prompt = str(tmp_path / "run" / "prompts" / "prompt_2.npy")
  total, largest = _sizes(params)
  found = {}
  for name, hardware in {"cut": CUT, "whole": WHOLE}.items():
    del read[:]
    answer = shared | {"hardware": hardware, "prompt_file": prompt}
    found[name] = evaluate.evaluate(
      **answer,
      output_dir=str(tmp_path / name),
      evaluations=[HeldOutLoss(inputs=inputs, batch_size=8, num_batches=2)],
    )
    assert (sum(read), max(read)) == (total, largest)
    del read[:]
    infer.infer(
      **answer,
      output_file=str(tmp_path / f"{name}.jsonl"),
      inputs=FileInputs(
        file=str(folder / "data.jsonl"), inputs="{text}", targets="{label}"
      ),
      batch_size=8,
      predictor=RankClassification(labels=LABELS),
      mode=infer.Mode.SCORE,
    )
    assert (sum(read), max(read)) == (total, largest)
  assert found["cut"] == pytest.approx(found["whole"], rel=1e-4)
  ours, theirs = (
    [
      json.loads(line)["score"]
      for line in (tmp_path / f"{name}.jsonl").read_text().splitlines()
    ]
    for name in found
  )
  np.testing.assert_allclose(ours, theirs, rtol=1e-4)


def test_a_cut_run_holds_parts_alone(shared, read, monkeypatch):
  """Whatever the mesh, weights are opened before it is known what is read."""
  opened = []
  load_backbone = load.load_backbone

  def spy(*args, **kwargs):
    opened.append(load_backbone(*args, **kwargs))
    return opened[-1]

  monkeypatch.setattr("prompt_tuning.backbone.load_backbone", spy)
  evaluate.load_network(shared["backbone"], None, in_parts=CUT.may_cut)
  assert not read
  evaluate.load_network(shared["backbone"], None, in_parts=Hardware().may_cut)
  assert isinstance(jax.tree.leaves(opened[1].params)[0], np.ndarray)


@pytest.mark.slow
@pytest.mark.parametrize("form", checkpoints.FORMS)
def test_loading_needs_little_more_than_the_weights(form, tmp_path):
  if form == "Hugging Face":
    pytest.importorskip("safetensors", reason="the format needs it")
  size = loading.size_mib(loading.SMALL)
  assert 300 < size < 330
  checkpoint = loading.write(form, tmp_path / "x", loading.SMALL)
  whole, quarter = (
    loading.in_a_process(checkpoint, part, size="small").mib
    for part in loading.PARTS
  )
  assert size <= whole <= 1.1 * size
  # What a block of 64 MiB is of a model of this size comes on top.
  assert size / 4 <= quarter <= 0.5 * size
