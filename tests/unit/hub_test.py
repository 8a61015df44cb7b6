"""Models by their name on the hub, which a fake stands for."""

import builtins
import shutil
import sys
import types

import numpy as np
import pytest

from prompt_tuning import hub, paths
from prompt_tuning.backbone import Backbone
from prompt_tuning.checkpoints import huggingface, load, prompts
from prompt_tuning.checkpoints.peft import soft_prompts
from prompt_tuning.data.vocabularies import (
  ByteVocabulary,
  SentencePieceVocabulary,
)
from prompt_tuning.prompts.artifact import PromptCard
from prompt_tuning.runs import inspection
from prompt_tuning.testing import fakes

CONFIG = fakes.tiny_config(vocab_size=1024)


@pytest.fixture
def downloads(tmp_path, monkeypatch):
  """A hub of one model; what was asked of it."""
  asked = []
  place = tmp_path / "snapshot"

  def snapshot_download(name, *, revision, allow_patterns):
    asked.append((name, revision, tuple(allow_patterns)))
    if name != "org/t5":
      raise RuntimeError("404: there is no such repository")
    place.mkdir(exist_ok=True)
    if "config.json" in allow_patterns and not (place / "config.json").exists():
      pytest.importorskip("safetensors", reason="the format needs it")
      params = fakes.tiny_params(fakes.tiny_model(vocab_size=1024))
      huggingface.write(CONFIG, params, tmp_path / "written")
      shutil.copytree(tmp_path / "written", place, dirs_exist_ok=True)
    if "spiece.model" in allow_patterns:
      words = paths.embedded_dir() / "sentencepiece.model"
      shutil.copy(words, place / "spiece.model")
    return str(place)

  fake = types.ModuleType("huggingface_hub")
  fake.snapshot_download = snapshot_download
  monkeypatch.setitem(sys.modules, "huggingface_hub", fake)
  return asked


def test_a_backbone_and_its_vocabulary_by_name(downloads):
  loaded = load.load_backbone("hf://org/t5", config=CONFIG)
  assert "encoder" in loaded.params
  assert downloads[0][:2] == ("org/t5", None)
  assert "pytorch_model*.bin" not in downloads[0][2]
  vocabulary = SentencePieceVocabulary("hf://org/t5@main")
  assert vocabulary.vocab_size == 632
  assert downloads[-1] == ("org/t5", "main", ("spiece.model",))


def test_another_vocabulary_than_the_hub_s_is_named(downloads):
  backbone = Backbone(
    config=CONFIG, vocabulary=ByteVocabulary(), checkpoint="hf://org/t5"
  )
  with pytest.raises(ValueError, match="would be other tokens"):
    backbone.load()


@pytest.mark.parametrize(
  ("path", "message"),
  [
    ("hf://t5", "expected hf://org/name or"),
    ("hf://org/absent", "cannot be had from the Hugging Face Hub: 404"),
  ],
)
def test_what_cannot_be_had(downloads, path, message):
  with pytest.raises(ValueError, match=message):
    hub.model_folder(path)


def test_other_paths_are_left_alone():
  assert hub.model_folder("gs://bucket/t5") == "gs://bucket/t5"
  assert hub.vocabulary_file("spiece.model") == "spiece.model"


def test_a_missing_package_is_named(monkeypatch):
  real = builtins.__import__

  def refuse(name, *arguments, **settings):
    if name == "huggingface_hub":
      raise ImportError(name)
    return real(name, *arguments, **settings)

  monkeypatch.delitem(sys.modules, "huggingface_hub", raising=False)
  monkeypatch.setattr(builtins, "__import__", refuse)
  with pytest.raises(ImportError, match="needs the package huggingface_hub"):
    hub.model_folder("hf://org/t5")


def test_what_a_name_stands_for_is_told(downloads):
  told = inspection.describe("hf://org/t5")
  assert told.startswith("Hugging Face transformers: ")


def test_an_adapter_by_name(tmp_path, monkeypatch):
  pytest.importorskip("safetensors", reason="the format needs it")
  array = np.ones((2, 16), np.float32)
  card = PromptCard(length=2, width=16, backbone="b", step=1)
  soft_prompts.write(
    tmp_path / "a", array, config=CONFIG, base_model="org/t5", card=card
  )
  fake = types.ModuleType("huggingface_hub")
  fake.snapshot_download = lambda name, **settings: {
    "org/adapter": str(tmp_path / "a")
  }[name]
  monkeypatch.setitem(sys.modules, "huggingface_hub", fake)
  saved, base_model = prompts.read("hf://org/adapter")
  np.testing.assert_array_equal(saved.array, array)
  assert (saved.card, base_model) == (card, "org/t5")
  told = inspection.describe("hf://org/adapter")
  assert "base model: org/t5" in told
