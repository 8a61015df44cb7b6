"""Prompts to and from Hugging Face PEFT, and PEFT itself beside them."""

import json
import logging

import jax
import numpy as np
import pytest

from prompt_tuning.checkpoints import huggingface
from prompt_tuning.checkpoints.peft import files, soft_prompts
from prompt_tuning.evaluate.generation import Generator
from prompt_tuning.prompts.artifact import PromptCard
from prompt_tuning.prompts.initializers import Values
from prompt_tuning.prompts.module import Prompt
from prompt_tuning.testing import fakes, oracles
from prompt_tuning.train import optimizers
from prompt_tuning.train import step as step_lib

safetensors = pytest.importorskip(
  "safetensors.numpy", reason="the format needs the package safetensors"
)

CONFIG = fakes.tiny_config()
LENGTH, WIDTH = 5, CONFIG.embed_dim
ARRAY = np.random.default_rng(0).normal(size=(LENGTH, WIDTH)).astype(np.float32)


def card(array):
  return PromptCard(
    length=len(array), width=WIDTH, backbone="b", step=3, licence="CC0-1.0"
  )


def write(folder, array=ARRAY, **changes):
  """Writes an adapter as this project does, then changes its configuration."""
  soft_prompts.write(
    folder, array, config=CONFIG, base_model="some/t5", card=card(array)
  )
  path = folder / files.CONFIG
  settings = json.loads(path.read_text()) | changes
  path.write_text(json.dumps(settings))
  return folder


def test_a_round_trip_is_equal_bit_by_bit(tmp_path):
  read, base_model = soft_prompts.read(write(tmp_path / "a"))
  np.testing.assert_array_equal(read.array, ARRAY)
  assert read.array.dtype == np.float32
  assert read.card == card(ARRAY)
  assert base_model == "some/t5"
  assert files.is_adapter(tmp_path / "a")
  assert not files.is_adapter(tmp_path)
  with pytest.raises(FileExistsError):
    write(tmp_path / "a")


def test_of_doubled_rows_the_first_half_is_read(tmp_path, caplog):
  both = np.concatenate([ARRAY, 9 + ARRAY])
  folder = write(tmp_path / "a", both, num_virtual_tokens=LENGTH)
  with caplog.at_level(logging.WARNING):
    np.testing.assert_array_equal(soft_prompts.read(folder)[0].array, ARRAY)
  assert "holds 10 rows for a prompt of 5 tokens" in caplog.text


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"peft_type": "LORA"}, "peft_type is 'LORA' where a soft prompt"),
    ({"task_type": "CAUSAL_LM"}, "task_type is 'CAUSAL_LM'"),
    (
      {"num_virtual_tokens": 7},
      r"says \[7, 16\], and the weights are \[5, 16\]",
    ),
    ({"token_dim": 32}, r"says \[5, 32\]"),
    ({"token_dim": None}, "token_dim in adapter_config.json is None where"),
  ],
)
def test_what_is_no_prompt_of_a_t5(tmp_path, changes, message):
  with pytest.raises(ValueError, match=message):
    soft_prompts.read(write(tmp_path / "a", **changes))


def test_what_cannot_be_read_is_named(tmp_path):
  folder = write(tmp_path / "a")
  weights = folder / "adapter_model.safetensors"
  whole = weights.read_bytes()
  weights.write_bytes(whole[:-40])
  with pytest.raises(ValueError, match="missing, truncated or corrupt"):
    soft_prompts.read(folder)
  # A header that promises more than there is.
  weights.write_bytes((2**40).to_bytes(8, "little") + whole[8:])
  with pytest.raises(ValueError, match="missing, truncated or corrupt"):
    soft_prompts.read(folder)
  safetensors.save_file({"prompt_encoder": ARRAY}, weights)
  with pytest.raises(ValueError, match="'prompt_embeddings' alone, got"):
    soft_prompts.read(folder)
  safetensors.save_file({"prompt_embeddings": 2 * ARRAY}, weights)
  with pytest.raises(ValueError, match="was written for other weights than"):
    soft_prompts.read(folder)
  weights.unlink()
  with pytest.raises(ValueError, match="holds neither adapter_model"):
    soft_prompts.read(folder)
  (folder / files.CONFIG).write_text("[]")
  with pytest.raises(ValueError, match="expected a JSON object"):
    soft_prompts.read(folder)


def test_another_width_is_not_written(tmp_path):
  with pytest.raises(ValueError, match=r"\[length, 16\] of this backbone, got"):
    soft_prompts.write(
      tmp_path / "a",
      np.ones((3, 8), np.float32),
      config=CONFIG,
      base_model="",
      card=card(ARRAY),
    )
  assert not list(tmp_path.iterdir())


# PEFT reads an attribute that transformers deprecates.
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing")
@pytest.mark.oracle
class TestBesidePeft:
  """The same model in both."""

  @pytest.fixture
  def batch(self):
    rng = np.random.default_rng(3)
    return fakes.tiny_batch(rng, prompt_length=LENGTH)

  @pytest.fixture
  def backbone(self, tmp_path):
    """Our parameters, and the folder of the same in transformers."""
    params = fakes.tiny_params(fakes.tiny_model())
    huggingface.write(CONFIG, params, tmp_path / "t5")
    return params, str(tmp_path / "t5")

  def theirs(self, folder):
    transformers = oracles.require("transformers")
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder)
    model.eval()
    return model

  def ours(self, params, array):
    prompt = Prompt(
      length=len(array), features=WIDTH, initializer=Values(array, "a test")
    )
    model = fakes.tiny_model(prompt)
    return model, params | {"prompt": {"embedding": np.asarray(array)}}

  def inputs(self, batch):
    torch = oracles.require("torch")
    ids = torch.tensor(batch["encoder_input_tokens"][:, LENGTH:]).long()
    labels = torch.tensor(batch["decoder_target_tokens"]).long()
    labels[labels == 0] = -100
    return {
      "input_ids": ids,
      "attention_mask": (ids != 0).long(),
      "labels": labels,
    }

  def assert_same(self, model, adapted, params, batch):
    """Compares logits where there is a target, and greedy answers."""
    torch = oracles.require("torch")
    given = self.inputs(batch)
    with torch.no_grad():
      logits = adapted(**given).logits.numpy()
      answers = adapted.generate(
        input_ids=given["input_ids"],
        attention_mask=given["attention_mask"],
        max_new_tokens=6,
        do_sample=False,
      ).numpy()[:, 1:]
    found = model.apply(
      {"params": params},
      batch["encoder_input_tokens"],
      batch["decoder_input_tokens"],
    )
    is_target = batch["decoder_target_tokens"] != 0
    np.testing.assert_allclose(
      np.asarray(found)[is_target], logits[is_target], atol=1e-4
    )
    generator = Generator(model, max_decode_length=6)
    ours = np.asarray(generator.predict(params, batch))
    padded = np.zeros_like(ours)
    padded[:, : answers.shape[1]] = answers
    np.testing.assert_array_equal(ours, padded)

  def test_ours_in_peft(self, backbone, batch, tmp_path):
    library = oracles.require("peft")
    params, folder = backbone
    model, all_params = self.ours(params, ARRAY)
    soft_prompts.write(
      tmp_path / "a",
      ARRAY,
      config=CONFIG,
      base_model=folder,
      card=card(ARRAY),
    )
    adapted = library.PeftModel.from_pretrained(
      self.theirs(folder), str(tmp_path / "a")
    )
    self.assert_same(model, adapted, all_params, batch)

  @pytest.mark.parametrize("submodules", [None, 1])
  def test_theirs_here(self, backbone, batch, tmp_path, submodules):
    library = oracles.require("peft")
    params, folder = backbone
    settings = library.PromptTuningConfig(
      task_type="SEQ_2_SEQ_LM",
      num_virtual_tokens=LENGTH,
      num_transformer_submodules=submodules,
    )
    adapted = library.get_peft_model(self.theirs(folder), settings)
    adapted.eval()
    adapted.save_pretrained(tmp_path / "a")
    saved, _ = soft_prompts.read(tmp_path / "a")
    model, all_params = self.ours(params, saved.array)
    self.assert_same(model, adapted, all_params, batch)

  def test_ten_steps_are_the_same(self, backbone, batch):
    torch = oracles.require("torch")
    library = oracles.require("peft")
    params, folder = backbone
    model, _ = self.ours(params, ARRAY)
    settings = library.PromptTuningConfig(
      task_type="SEQ_2_SEQ_LM",
      num_virtual_tokens=LENGTH,
      num_transformer_submodules=1,
    )
    adapted = library.get_peft_model(self.theirs(folder), settings)
    adapted.eval()  # No dropout.
    [prompt] = [p for p in adapted.parameters() if p.requires_grad]
    with torch.no_grad():
      prompt.copy_(torch.tensor(ARRAY))
    theirs = torch.optim.AdamW([prompt], lr=0.1, weight_decay=0.01)
    ours = optimizers.adamw(
      learning_rate=optimizers.constant(learning_rate=0.1),
      weight_decay_rate=0.01,
    )
    state = step_lib.init_state({"prompt": {"embedding": ARRAY}}, ours)
    step = jax.jit(
      step_lib.make_train_step(
        model, ours, z_loss=0.0, loss_normalization="tokens"
      )
    )
    for _ in range(10):
      loss = adapted(**self.inputs(batch)).loss
      theirs.zero_grad()
      loss.backward()
      theirs.step()
      state, metrics = step(state, params, batch, jax.random.key(0))
      np.testing.assert_allclose(metrics["loss"], loss.item(), rtol=1e-4)
    np.testing.assert_allclose(
      state.trainable["prompt"]["embedding"],
      prompt.detach().numpy(),
      atol=1e-3,
    )
