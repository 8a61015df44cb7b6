"""What the parameters of a T5 are called in Hugging Face transformers."""

import re

from prompt_tuning.model.config import T5Config

LOGITS = "lm_head.weight"
# Files of several releases repeat the table under these names.
COPIES_OF_TABLE = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
# Old files of T5 1.0 hold a bias of the cross-attention that nothing reads.
UNUSED = re.compile(
  r"decoder\.block\.0\.layer\.1\.EncDecAttention\."
  r"relative_attention_bias\.weight"
)


def is_transposed(name: str) -> bool:
  """Returns whether a parameter of ours is the transpose of theirs."""
  return name.endswith(("/kernel", "/rel_embedding"))


def names(config: T5Config) -> dict[str, str]:
  """Returns their name of each of our parameters.

  Args:
    config: The model's shape.
  """
  pairs = {"token_embedder/embedding": "shared.weight"}
  if not config.tie_embeddings:
    pairs["decoder/logits_dense/kernel"] = LOGITS
  for layer in range(config.num_encoder_layers):
    ours, theirs = f"encoder/layers_{layer}", f"encoder.block.{layer}.layer"
    pairs |= _attention(f"{ours}/attention", f"{theirs}.0.SelfAttention")
    pairs |= _norm(f"{ours}/pre_attention", f"{theirs}.0")
    pairs |= _mlp(config, ours, f"{theirs}.1")
  for layer in range(config.num_decoder_layers):
    ours, theirs = f"decoder/layers_{layer}", f"decoder.block.{layer}.layer"
    pairs |= _attention(f"{ours}/self_attention", f"{theirs}.0.SelfAttention")
    pairs |= _norm(f"{ours}/pre_self_attention", f"{theirs}.0")
    pairs |= _attention(
      f"{ours}/encoder_decoder_attention", f"{theirs}.1.EncDecAttention"
    )
    pairs |= _norm(f"{ours}/pre_cross_attention", f"{theirs}.1")
    pairs |= _mlp(config, ours, f"{theirs}.2")
  for stack in ("encoder", "decoder"):
    pairs[f"{stack}/relpos_bias/rel_embedding"] = (
      f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    )
    pairs[f"{stack}/{stack}_norm/scale"] = f"{stack}.final_layer_norm.weight"
  return pairs


def _attention(ours: str, theirs: str) -> dict[str, str]:
  parts = {"query": "q", "key": "k", "value": "v", "out": "o"}
  return {
    f"{ours}/{part}/kernel": f"{theirs}.{letter}.weight"
    for part, letter in parts.items()
  }


def _norm(ours: str, theirs: str) -> dict[str, str]:
  return {f"{ours}_layer_norm/scale": f"{theirs}.layer_norm.weight"}


def _mlp(config: T5Config, ours: str, theirs: str) -> dict[str, str]:
  gated = len(config.mlp_activations) > 1
  return {
    f"{ours}/mlp/{name}/kernel": f"{theirs}.DenseReluDense.{name}.weight"
    for name in (("wi_0", "wi_1", "wo") if gated else ("wi", "wo"))
  } | _norm(f"{ours}/pre_mlp", theirs)
