"""Parameters of each method, by the formulas of their descriptions."""

import pytest

from benchmarks import parameters, sizes

P, RANK, WIDTH, PREFIX, HIDDEN = 100, 8, 64, 10, 512


def expected(method, size):
  shape = sizes.read(size, vocab_size=32128)
  d, f = shape["embed_dim"], shape["mlp_dim"]
  heads = shape["num_heads"] * shape["head_dim"]
  encoder, decoder = shape["num_encoder_layers"], shape["num_decoder_layers"]
  attentions = encoder + 2 * decoder
  networks = (encoder, decoder, decoder)
  return {
    "prompt": P * d,
    "layer_prompts_replace": P * d * encoder,
    "layer_prompts_add": P * d * (encoder + 1),
    "soft_words": P * d * (encoder + 1),
    # Two words, of a piece each.
    "warp": P * d + 2 * d,
    "lora": attentions * 2 * RANK * (d + heads),
    "ia3": encoder * (2 * heads + f) + decoder * (4 * heads + f),
    "adapters": (2 * encoder + 3 * decoder) * (2 * d * WIDTH + d + WIDTH),
    "norm_scales": (2 * encoder + 3 * decoder + 2) * d,
    "prefix_tuning": sum(
      PREFIX * d + (d + 1) * HIDDEN + (HIDDEN + 1) * layers * 2 * heads
      for layers in networks
    ),
  }[method]


@pytest.mark.parametrize(
  "method", [name for name in parameters.METHODS if name != "model_tuning"]
)
@pytest.mark.parametrize(
  "size", ["tiny", pytest.param("base", marks=pytest.mark.slow)]
)
def test_counts_are_those_of_the_formulas(method, size):
  files = ["models/t5_1_1.gin", f"sizes/{size}.gin"]
  trained, total = parameters.count(method, files)
  assert trained == expected(method, size)
  assert trained < total


def test_of_a_model_all_are_trained():
  files = ["models/t5_1_1.gin", "sizes/small.gin"]
  # Lester et al. (2021), table 4, without a prompt.
  assert parameters.count("model_tuning", files) == (76_961_152, 76_961_152)
