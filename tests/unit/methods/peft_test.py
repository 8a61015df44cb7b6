"""LoRA and IA3 equal those of Hugging Face's peft, with the same weights."""

import jax
import numpy as np
import pytest

from prompt_tuning.checkpoints import huggingface
from prompt_tuning.methods.ia3 import IA3
from prompt_tuning.methods.lora import LoRA
from prompt_tuning.model import t5
from prompt_tuning.testing import fakes, oracles
from prompt_tuning.train import partition

pytestmark = pytest.mark.oracle

# What they call the parts of a layer.
_ATTENTION = {
  "attention": "SelfAttention",
  "self_attention": "SelfAttention",
  "encoder_decoder_attention": "EncDecAttention",
}
_PROJECTIONS = {"query": "q", "key": "k", "value": "v"}
_BLOCK_LAYERS = {
  ("encoder", "attention"): 0,
  ("encoder", "mlp"): 1,
  ("decoder", "self_attention"): 0,
  ("decoder", "encoder_decoder_attention"): 1,
  ("decoder", "mlp"): 2,
}
_LEAVES = {"down": "lora_A.default.weight", "up": "lora_B.default.weight"}


def _their_name(path):
  stack, layer, part, *rest, leaf = path.split("/")
  index = layer.removeprefix("layers_")
  block = f"{stack}.block.{index}.layer.{_BLOCK_LAYERS[stack, part]}"
  if part == "mlp":
    module = f"{block}.DenseReluDense.wo"
  else:
    module = f"{block}.{_ATTENTION[part]}.{_PROJECTIONS[rest[0]]}"
  return f"base_model.model.{module}.{_LEAVES.get(leaf, 'ia3_l.default')}"


def _moved(params):
  """Random numbers for what starts at zeros or ones."""
  rng = np.random.default_rng(2)
  return jax.tree.map(
    lambda leaf: (leaf + rng.normal(0, 0.3, leaf.shape)).astype(np.float32),
    params,
  )


def _methods():
  peft = oracles.require("peft")
  kind = {"task_type": "SEQ_2_SEQ_LM"}
  return {
    "lora": (
      LoRA(rank=3, alpha=6.0),
      peft.LoraConfig(r=3, lora_alpha=6, target_modules=["q", "v"], **kind),
    ),
    "ia3": (
      IA3(),
      peft.IA3Config(
        target_modules=["k", "v", "wo"], feedforward_modules=["wo"], **kind
      ),
    ),
  }


@pytest.mark.parametrize("name", ["lora", "ia3"])
@pytest.mark.parametrize("activations", [("gelu", "linear"), ("relu",)])
@pytest.mark.filterwarnings("ignore")
def test_logits_equal_those_of_peft(name, activations, tmp_path):
  torch = oracles.require("torch")
  transformers = oracles.require("transformers")
  peft = oracles.require("peft")
  method, settings = _methods()[name]
  model = fakes.tiny_model(mlp_activations=activations)
  bare = fakes.tiny_params(model)
  huggingface.write(model.config, bare, tmp_path / "model")
  model = model.clone(method=method)
  own = _moved(t5.method_params(model, jax.random.key(0)))
  batch = fakes.tiny_batch(np.random.default_rng(0))

  theirs = peft.get_peft_model(
    transformers.T5ForConditionalGeneration.from_pretrained(tmp_path / "model"),
    settings,
  ).eval()
  weights = dict(theirs.named_parameters())
  flat = partition.flatten(own)
  trained = {n for n, weight in weights.items() if weight.requires_grad}
  assert {_their_name(path) for path in flat} == trained
  with torch.no_grad():
    for path, leaf in flat.items():
      weight = weights[_their_name(path)]
      value = torch.tensor(np.asarray(leaf).T.copy())
      weight.copy_(value.reshape(weight.shape))
    inputs = torch.tensor(batch["encoder_input_tokens"]).long()
    wanted = theirs(
      input_ids=inputs,
      attention_mask=(inputs > 0).long(),
      decoder_input_ids=torch.tensor(batch["decoder_input_tokens"]).long(),
    ).logits.numpy()
  actual = jax.jit(model.apply)(
    {"params": partition.merge(own, bare)},
    batch["encoder_input_tokens"],
    batch["decoder_input_tokens"],
  )
  np.testing.assert_allclose(actual, wanted, rtol=1e-4, atol=1e-4)
