"""A method beside a backbone that is kept less exactly."""

import dataclasses

import jax
import numpy as np
import pytest

from prompt_tuning.backbone import Backbone
from prompt_tuning.data.vocabularies import ByteVocabulary
from prompt_tuning.methods.label_head import LabelHead
from prompt_tuning.methods.layer_prompts import LayerPrompts
from prompt_tuning.methods.lora import LoRA
from prompt_tuning.model import t5
from prompt_tuning.model.quantization import quantize_params
from prompt_tuning.prompts import initializers
from prompt_tuning.prompts.spec import PromptSpec
from prompt_tuning.runs.network import abstract_network, check_trained
from prompt_tuning.testing import fakes
from prompt_tuning.train import partition

BACKBONE = Backbone(
  config=fakes.tiny_config(vocab_size=384),
  vocabulary=ByteVocabulary(extra_ids=125),
  checkpoint="somewhere",
  dtype="int8",
)


def test_a_method_is_kept_as_it_is_trained():
  network = abstract_network(BACKBONE, None, method=LoRA(rank=2))
  leaves = partition.flatten(network.params)
  attention = "encoder/layers_0/attention/query"
  assert leaves[f"{attention}/kernel"].dtype == np.int8
  assert leaves[f"{attention}/lora/down"].dtype == np.float32
  # What is trained fits: integers would be refused.
  parts = partition.split(network.params, [".*/lora/.*"])
  assert len(partition.flatten(parts.trainable)) == 2 * 2 * 6


def test_labels_are_found_in_the_vocabulary():
  network = abstract_network(BACKBONE, None, method=LabelHead(labels=("aab",)))
  letters = BACKBONE.vocabulary.encode("ab")
  assert network.model.method == LabelHead(labels=("aab",), tokens=letters)


def test_a_method_on_int8_starts_at_the_frozen_model():
  model = fakes.tiny_model(None)
  bare = quantize_params(fakes.tiny_params(model))
  tuned = model.clone(method=LoRA(rank=2))
  own = t5.method_params(tuned, jax.random.key(0))
  batch = fakes.tiny_batch(np.random.default_rng(0))
  args = (batch["encoder_input_tokens"], batch["decoder_input_tokens"])
  np.testing.assert_array_equal(
    jax.jit(tuned.apply)({"params": partition.merge(own, bare)}, *args),
    jax.jit(model.apply)({"params": bare}, *args),
  )


PROMPT = PromptSpec(length=3, initializer=initializers.uniform)


@pytest.mark.parametrize(
  ("prompt", "method", "trainable", "left"),
  [
    (None, LoRA(rank=2), (".*/lora/up",), "query/lora/down"),
    (PROMPT, LoRA(rank=2), (".*/lora/.*",), "prompt/embedding"),
    (PROMPT, None, (".*/mlp/.*",), "prompt/embedding"),
    (PROMPT, LoRA(rank=2), ("prompt/.*",), "lora"),
    (PROMPT, LayerPrompts(num_slots=3), (".*/prompt/.*",), "prompt/embedding"),
  ],
)
def test_what_no_checkpoint_would_hold_is_trained(
  prompt, method, trainable, left
):
  network = abstract_network(BACKBONE, prompt, method=method)
  with pytest.raises(ValueError, match=f"leaves .*{left}"):
    check_trained(network.model, trainable)


@pytest.mark.parametrize(
  ("prompt", "method", "trainable"),
  [
    (None, None, (".*norm/scale",)),
    (PROMPT, None, ("prompt/.*", ".*/mlp/.*")),
    (PROMPT, LayerPrompts(num_slots=3), ("(.*/)?prompt/.*",)),
    (
      PROMPT,
      LayerPrompts(num_slots=3, combination="replace"),
      (".*/prompt/.*",),
    ),
  ],
)
def test_the_backbone_need_not_be(prompt, method, trainable):
  network = abstract_network(BACKBONE, prompt, method=method)
  check_trained(network.model, trainable)


@pytest.mark.parametrize(
  ("prompt", "message"),
  [
    (None, "there is none"),
    (PROMPT, "is 2, but the soft prompt has 3 slots"),
    (dataclasses.replace(PROMPT, num_prompts=2), "has 6 slots"),
  ],
)
def test_layer_prompts_have_the_slots_of_the_prompt(prompt, message):
  with pytest.raises(ValueError, match=message):
    abstract_network(BACKBONE, prompt, method=LayerPrompts(num_slots=2))
