"""Prompts from one form into another, and what files are."""

import dataclasses
import json

import numpy as np
import pytest

from prompt_tuning import inspect
from prompt_tuning.backbone import Backbone
from prompt_tuning.checkpoints import huggingface, t5x
from prompt_tuning.checkpoints.peft import files, soft_prompts
from prompt_tuning.data.vocabularies import ByteVocabulary
from prompt_tuning.prompts import artifact
from prompt_tuning.runs import inspection
from prompt_tuning.runs.convert import convert
from prompt_tuning.testing import fakes, shared

pytest.importorskip(
  "safetensors", reason="the format needs the package safetensors"
)

CONFIG = fakes.tiny_config(vocab_size=384)
MODEL = fakes.tiny_model(vocab_size=384)
ARRAY = np.random.default_rng(0).normal(size=(3, 16)).astype(np.float32)


@pytest.fixture
def backbone(tmp_path):
  folder = tmp_path / "backbone"
  t5x.save(fakes.tiny_params(MODEL), folder, step=7)
  return Backbone(
    config=CONFIG, vocabulary=ByteVocabulary(), checkpoint=str(folder)
  )


@pytest.fixture
def prompt(backbone, tmp_path):
  card = artifact.PromptCard(
    length=3,
    width=16,
    backbone=backbone.load().fingerprint,
    step=9,
    task="reviews",
  )
  artifact.save_prompt(tmp_path / "prompt.npy", ARRAY, card)
  return str(tmp_path / "prompt.npy")


def test_there_and_back_it_is_the_same(backbone, prompt, tmp_path):
  there, back = str(tmp_path / "peft"), str(tmp_path / "back.npy")
  convert(backbone=backbone, source=prompt, output=there, format="peft")
  assert soft_prompts.read(there)[1] == backbone.checkpoint
  convert(
    backbone=backbone,
    source=there,
    output=back,
    format="prompt",
    task="reviews",
  )
  saved = artifact.load_prompt(
    back, backbone_fingerprint=backbone.load().fingerprint
  )
  np.testing.assert_array_equal(saved.array, ARRAY)
  assert saved.card.task == "reviews"


def test_of_a_bank_one_is_taken(backbone, tmp_path):
  card = artifact.PromptCard(
    length=3,
    width=16,
    num_prompts=2,
    backbone=backbone.load().fingerprint,
    step=9,
    metric_name="reviews/accuracy",
    metric_value=90.0,
  )
  bank = str(tmp_path / "bank.npy")
  artifact.save_prompt(bank, np.stack([ARRAY, ARRAY + 1]), card)
  one, all_ = str(tmp_path / "one.npy"), str(tmp_path / "all.npy")
  convert(
    backbone=backbone, source=bank, output=one, format="prompt", prompt_index=1
  )
  convert(backbone=backbone, source=bank, output=all_, format="prompt")
  saved = artifact.load_prompt(one)
  np.testing.assert_array_equal(saved.array, ARRAY + 1)
  assert saved.card.metric_value == 90.0
  assert saved.card.num_prompts == 1
  assert artifact.load_prompt(all_).array.shape == (2, 3, 16)
  with pytest.raises(ValueError, match=r"bank of 2 prompts, .* PROMPT_INDEX"):
    convert(
      backbone=backbone, source=bank, output=str(tmp_path / "p"), format="peft"
    )
  with pytest.raises(ValueError, match="counted from 0; there is no 2"):
    convert(
      backbone=backbone,
      source=bank,
      output=str(tmp_path / "p"),
      format="peft",
      prompt_index=2,
    )


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"backbone": "other"}, "was tuned on the backbone other, but this one"),
    ({"layout": "suffix_after_eos"}, "layout 'suffix_after_eos' and the att"),
    ({"attention": "prefix"}, "the attention 'prefix'; PEFT puts"),
  ],
)
def test_what_peft_would_use_otherwise(
  backbone, prompt, tmp_path, changes, message
):
  card = artifact.load_prompt(prompt).card
  artifact.save_prompt(prompt, ARRAY, dataclasses.replace(card, **changes))
  output = tmp_path / "peft"
  with pytest.raises(ValueError, match=message):
    convert(backbone=backbone, source=prompt, output=str(output), format="peft")
  assert not output.exists()


def test_bad_sources_and_outputs(backbone, prompt, tmp_path):
  arguments = {"backbone": backbone, "format": "prompt"}
  with pytest.raises(FileExistsError, match="exists; name another"):
    convert(**arguments, source=prompt, output=prompt)
  with pytest.raises(
    ValueError, match=r"neither the file of a prompt nor a fo"
  ):
    convert(**arguments, source=str(tmp_path), output=str(tmp_path / "x.npy"))
  wide = str(tmp_path / "wide.npy")
  np.save(wide, np.ones((3, 8), np.float32))
  with pytest.raises(
    ValueError, match="width 8, but the backbone has width 16"
  ):
    convert(**arguments, source=wide, output=str(tmp_path / "x.npy"))
  with pytest.raises(ValueError, match="PROMPT_FORMAT must be one of"):
    convert(backbone=backbone, source=prompt, output="x", format="bin")


def test_released_prompts_get_a_card(backbone, tmp_path):
  released = shared.data_path("prompts/test_data/prompt_5x256.npy")
  wide = dataclasses.replace(CONFIG, embed_dim=256)
  model = fakes.tiny_model(vocab_size=384, embed_dim=256)
  t5x.save(fakes.tiny_params(model), tmp_path / "wide", step=0)
  wide = Backbone(
    config=wide,
    vocabulary=ByteVocabulary(),
    checkpoint=str(tmp_path / "wide"),
  )
  output = str(tmp_path / "released.npy")
  convert(
    backbone=wide,
    source=str(released),
    output=output,
    format="prompt",
    task="sst2",
  )
  saved = artifact.load_prompt(output)
  assert saved.card.backbone == wide.load().fingerprint
  assert saved.card.task == "sst2"
  np.testing.assert_array_equal(
    saved.array, np.load(released).astype(np.float32)
  )


class TestInspection:
  def test_a_prompt(self, prompt, tmp_path):
    text = inspection.describe(prompt)
    assert "a soft prompt, float32 [3, 16]" in text
    assert "task: reviews" in text
    np.save(tmp_path / "bare.npy", ARRAY)
    assert "no card" in inspection.describe(str(tmp_path / "bare.npy"))

  def test_an_adapter(self, tmp_path):
    soft_prompts.write(
      tmp_path / "a",
      ARRAY,
      config=CONFIG,
      base_model="some/t5",
      card=artifact.PromptCard(
        length=3, width=16, backbone="b", step=1, licence="CC0-1.0"
      ),
    )
    text = inspection.describe(str(tmp_path / "a"))
    assert "PROMPT_TUNING for SEQ_2_SEQ_LM" in text
    assert "base model: some/t5" in text
    assert "licence: CC0-1.0" in text
    path = tmp_path / "a" / files.CONFIG
    path.write_text(json.dumps({"peft_type": "LORA", "task_type": "X"}))
    text = inspection.describe(str(tmp_path / "a"))
    assert "of no kind that is read here" in text

  @pytest.mark.parametrize("kind", ["t5x", "huggingface"])
  def test_a_backbone_of_an_unknown_size(self, kind, tmp_path):
    params = fakes.tiny_params(MODEL)
    if kind == "t5x":
      t5x.save(params, tmp_path / "t5", step=0)
    else:
      huggingface.write(CONFIG, params, tmp_path / "t5")
    text = inspection.describe(str(tmp_path / "t5"))
    assert "a T5 1.1, logits of their own, 384 embeddings" in text
    for size in ("embed_dim", "num_heads", "head_dim", "mlp_dim"):
      assert f"{size.upper()} = {getattr(CONFIG, size)}," in text
    assert "size recipe: none" in text

  def test_the_recipe_of_a_size(self):
    sizes = {
      **{"EMBED_DIM": 768, "NUM_HEADS": 12, "HEAD_DIM": 64, "MLP_DIM": 2048},
      **{"NUM_ENCODER_LAYERS": 12, "NUM_DECODER_LAYERS": 12},
    }
    assert inspection.recipes_of(sizes) == ["sizes/base.gin"]

  def test_an_experiment_and_a_run(self, tmp_path):
    job = {"name": "a", "commands": [], "runs": [{}, {}]}
    record = {"about": "Length", "metric": "mean/score", "jobs": [job]}
    (tmp_path / "sweep.json").write_text(json.dumps(record))
    text = inspection.describe(str(tmp_path))
    assert "an experiment: Length" in text
    assert "1 jobs, 2 runs" in text

  def test_a_path_that_cannot_be_told_stops_no_other(self, prompt, capsys):
    with pytest.raises(SystemExit) as left:
      inspect.main(["inspect", "absent", str(prompt)])
    assert left.value.code == 1
    told = capsys.readouterr().out
    assert "absent\nerror: there is nothing at absent" in told
    assert "a soft prompt, float32 [3, 16]" in told

  def test_nothing_and_something_else(self, tmp_path):
    with pytest.raises(FileNotFoundError, match="there is nothing at"):
      inspection.describe(str(tmp_path / "absent"))
    with pytest.raises(ValueError, match="checkpoint"):
      inspection.describe(str(tmp_path))


def test_a_wrong_size_is_told_by_the_shapes(backbone):
  wrong = dataclasses.replace(CONFIG, mlp_dim=64, num_decoder_layers=1)
  message = r"it is a T5 with MLP_DIM = 32, NUM_DECODER_LAYERS = 2; give the"
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(backbone, config=wrong).load()
