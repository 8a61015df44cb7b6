from typing import Any

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from prompt_tuning.methods.label_head import LabelHead
from prompt_tuning.model import t5
from prompt_tuning.testing import fakes
from prompt_tuning.train.step import batch_loss

HEAD = LabelHead(labels=("no", "yes"), tokens=(20, 7))


@pytest.mark.parametrize("tie_embeddings", [False, True])
def test_it_equals_a_model_with_other_output_embeddings(tie_embeddings):
  model = fakes.tiny_model(None, tie_embeddings=tie_embeddings)
  bare = fakes.tiny_params(model)
  rows = np.random.default_rng(0).normal(size=(2, fakes.EMBED_DIM))
  rows = rows.astype(np.float32)
  params = {**bare, "head": {"rows": rows}}
  batch = fakes.tiny_batch(np.random.default_rng(0))
  headed = model.clone(method=HEAD)

  @jax.jit
  def run(params):
    args = (batch["encoder_input_tokens"], batch["decoder_input_tokens"])
    hidden: Any = model.apply({"params": bare}, *args, method="hidden")
    return headed.apply({"params": params}, *args), hidden

  logits, hidden = run(params)
  if tie_embeddings:
    output = bare["token_embedder"]["embedding"].T * fakes.EMBED_DIM**-0.5
    rows = rows * fakes.EMBED_DIM**-0.5
  else:
    output = bare["decoder"]["logits_dense"]["kernel"]
  output = np.array(output)
  output[:, [20, 7]] += rows.T
  np.testing.assert_allclose(logits, hidden @ output, rtol=1e-4, atol=1e-4)


def test_its_gradient_is_that_of_the_logits():
  model = fakes.tiny_model(None).clone(method=HEAD)
  params = dict(fakes.tiny_params(model))
  batch = fakes.tiny_batch(np.random.default_rng(0))

  def whole(head):
    logits: Any = model.apply(
      {"params": params | {"head": head}},
      batch["encoder_input_tokens"],
      batch["decoder_input_tokens"],
    )
    logs = jax.nn.log_softmax(logits)
    targets = batch["decoder_target_tokens"][..., None]
    chosen = jnp.take_along_axis(logs, targets, axis=-1)[..., 0]
    return -(chosen * batch["decoder_loss_weights"]).sum()

  def in_parts(head):
    return batch_loss(model, params | {"head": head}, batch).loss

  np.testing.assert_allclose(
    jax.jit(jax.grad(in_parts))(params["head"])["rows"],
    jax.jit(jax.grad(whole))(params["head"])["rows"],
    rtol=1e-4,
    atol=1e-5,
  )


def test_its_tokens_are_those_of_its_labels():
  head = LabelHead(labels=("ab", "bc"))
  assert head.resolved(lambda text: [ord(c) for c in text]).tokens == (
    97,
    98,
    99,
  )
  model = fakes.tiny_model(None).clone(method=head)
  with pytest.raises(ValueError, match="knows its labels and not their tokens"):
    t5.abstract_params(model)
