"""A backbone whose shape is read from its checkpoint."""

import dataclasses
import shutil

import numpy as np
import pytest

from prompt_tuning import backbone, paths
from prompt_tuning.checkpoints import huggingface, load, t5x
from prompt_tuning.data.vocabularies import (
  ByteVocabulary,
  SentencePieceVocabulary,
)
from prompt_tuning.testing import fakes

PIECES = paths.embedded_dir() / "sentencepiece.model"
KINDS = {
  "1.0": {"mlp_activations": ("relu",), "tie_embeddings": True},
  "1.1": {},
  "deep encoder": {"num_encoder_layers": 3, "num_decoder_layers": 1},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["t5x", "huggingface"])
def test_the_shape_is_that_of_the_weights(kind, form, tmp_path):
  model = fakes.tiny_model(vocab_size=1024, **KINDS[kind])
  params = fakes.tiny_params(model)
  if form == "t5x":
    t5x.save(params, tmp_path / "t5", step=3)
  else:
    pytest.importorskip("safetensors", reason="the format needs it")
    huggingface.write(model.config, params, tmp_path / "t5")
  folder = str(tmp_path / "t5")
  made = backbone.of_checkpoint(folder, vocabulary=ByteVocabulary())
  assert made.config == model.config
  settings = {"dropout_rate": 0.1, "scan_layers": True, "remat": "layer"}
  made = backbone.of_checkpoint(
    folder, vocabulary=ByteVocabulary(), dtype="bfloat16", **settings
  )
  assert made.config == dataclasses.replace(model.config, **settings)
  assert made.dtype == "bfloat16"
  table = made.load().params["token_embedder"]["embedding"]
  wanted = np.asarray(params["token_embedder"]["embedding"])
  np.testing.assert_array_equal(table, wanted.astype(table.dtype))


def test_the_vocabulary_lies_beside_the_weights(tmp_path):
  pytest.importorskip("safetensors", reason="the format needs it")
  model = fakes.tiny_model(vocab_size=1024)
  folder = tmp_path / "t5"
  huggingface.write(model.config, fakes.tiny_params(model), folder)
  with pytest.raises(ValueError, match=r"brings no spiece\.model.* VOCABULARY"):
    backbone.of_checkpoint(str(folder))
  own = backbone.vocabulary_of(str(folder), path=str(PIECES), extra_ids=5)
  assert own == SentencePieceVocabulary(str(PIECES), extra_ids=5)
  shutil.copy(PIECES, folder / "spiece.model")
  made = backbone.of_checkpoint(str(folder))
  assert made.vocabulary == SentencePieceVocabulary(str(PIECES))


def test_sentinels_that_are_among_the_pieces_are_not_added(tmp_path):
  whole = SentencePieceVocabulary(str(PIECES), extra_ids=3)
  path = tmp_path / "spiece.model"
  path.write_bytes(whole._processor.serialized_model_proto())
  made = backbone.vocabulary_of(str(tmp_path))
  assert (made.extra_ids, made.vocab_size) == (0, whole.vocab_size)
  bare = backbone.vocabulary_of(str(tmp_path), path=str(PIECES))
  assert bare.extra_ids == 100


@pytest.mark.parametrize("extra_ids", [0, 7, 100])
def test_as_many_sentinels_as_the_folder_says(tmp_path, extra_ids):
  pytest.importorskip("safetensors", reason="the format needs it")
  model = fakes.tiny_model(vocab_size=1024)
  vocabulary = SentencePieceVocabulary(str(PIECES), extra_ids=extra_ids)
  huggingface.write(
    model.config,
    fakes.tiny_params(model),
    tmp_path / "t5",
    pieces=PIECES.read_bytes(),
    extra_ids=extra_ids,
  )
  assert backbone.of_checkpoint(str(tmp_path / "t5")).vocabulary == vocabulary
  said = tmp_path / "t5" / "tokenizer_config.json"
  for content in ("{", "[]"):
    said.write_text(content)
    with pytest.raises(ValueError, match=r"_config\.json is no JSON object"):
      backbone.of_checkpoint(str(tmp_path / "t5"))


def test_another_vocabulary_than_the_one_beside_is_named(tmp_path):
  pytest.importorskip("safetensors", reason="the format needs it")
  model = fakes.tiny_model(vocab_size=1024)
  folder = tmp_path / "t5"
  huggingface.write(model.config, fakes.tiny_params(model), folder)
  shutil.copy(PIECES, folder / "spiece.model")
  own = SentencePieceVocabulary(str(PIECES), extra_ids=7)
  settings = {"config": model.config, "checkpoint": str(folder)}
  assert backbone.Backbone(vocabulary=own, **settings).load().params
  other = backbone.Backbone(vocabulary=ByteVocabulary(), **settings)
  with pytest.raises(ValueError, match=r"has '<pad>' as id 0, and ByteVocab"):
    other.load()


def test_what_is_no_backbone(tmp_path):
  with pytest.raises(ValueError, match="There is no checkpoint at"):
    load.read_architecture(tmp_path / "absent")
  t5x.save({"a": {"kernel": np.ones((2, 3))}}, tmp_path / "b", step=0)
  with pytest.raises(ValueError, match="these are no weights of a T5"):
    load.read_architecture(tmp_path / "b")


def test_the_embedded_model_is_found_out():
  made = backbone.of_checkpoint(
    paths.embedded_path("checkpoint"),
    vocabulary=SentencePieceVocabulary(str(PIECES)),
  )
  assert made.config.embed_dim == 128
  assert made.config.vocab_size == 640
  assert "encoder" in made.load().params
