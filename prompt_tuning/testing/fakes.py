"""Public fakes: a tiny T5, tiny batches and a toy task from plain arrays.

Everything is sized for tests on a CPU, needs neither TensorFlow nor seqio, and
every sharded axis divides by eight, so that the same fakes run on a mesh of
eight devices.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from prompt_tuning.model import config as config_lib
from prompt_tuning.model import t5
from prompt_tuning.prompts import module as prompt_module

VOCAB_SIZE = 64
EMBED_DIM = 16
_EOS = 1
# Ids below are words; 0, 1, 2 are padding, end of sequence and unknown.
_FIRST_WORD = 3
# The toy task: two cue words, two label words, everything above is filler.
TOY_CUES = (10, 11)
TOY_LABELS = (20, 21)
_FIRST_FILLER = 30


def tiny_config(**overrides: Any) -> config_lib.T5Config:
  """Returns a T5 1.1 configuration of about twenty thousand parameters.

  Head width times heads (32) differs from the model width (16), on purpose.

  Args:
    **overrides: Fields of `T5Config` to change.
  """
  sizes: dict[str, Any] = {
    "vocab_size": VOCAB_SIZE,
    "embed_dim": EMBED_DIM,
    "num_heads": 8,
    "head_dim": 4,
    "mlp_dim": 32,
    "num_encoder_layers": 2,
    "num_decoder_layers": 2,
  }
  return config_lib.T5Config(**(sizes | overrides))


def tiny_prompt(
  length: int = 4, *, features: int = EMBED_DIM
) -> prompt_module.Prompt:
  """Returns a prompt module whose rows start uniform in [-0.5, 0.5)."""
  return prompt_module.Prompt(
    length=length, features=features, initializer=_uniform_half
  )


def tiny_model(
  prompt: prompt_module.Prompt | prompt_module.PromptBank | None = None,
  **overrides: Any,
) -> t5.T5:
  """Returns a tiny T5, bare by default.

  Args:
    prompt: A `Prompt` or `PromptBank`, such as `tiny_prompt()`.
    **overrides: Fields of `T5Config` to change.
  """
  return t5.T5(config=tiny_config(**overrides), prompt=prompt)


def tiny_params(model: t5.T5, *, seed: int = 0) -> dict[str, Any]:
  """Returns freshly initialised parameters of the model."""
  return dict(_init_params(model, jax.random.key(seed)))


def tiny_batch(
  rng: np.random.Generator,
  *,
  batch_size: int = 4,
  inputs_length: int = 12,
  targets_length: int = 5,
  prompt_length: int = 0,
  vocab_size: int = VOCAB_SIZE,
) -> dict[str, np.ndarray]:
  """Returns random words with padding on the right.

  Args:
    rng: Source of the words and of the row lengths.
    batch_size: Rows, B.
    inputs_length: Encoder length L, prompt included.
    targets_length: Decoder length T, end of sequence included.
    prompt_length: Slots in front of every row; 0 for none.
    vocab_size: Rows of the embedding table; slots start there.

  Returns:
    encoder_input_tokens [B, L], decoder_input_tokens, decoder_target_tokens
    and decoder_loss_weights [B, T].
  """
  words = inputs_length - prompt_length
  inputs = _padded_words(rng, (batch_size, words), vocab_size)
  targets = _padded_words(rng, (batch_size, targets_length), vocab_size)
  return _as_batch(inputs, targets, prompt_length, vocab_size)


def toy_params(model: t5.T5, *, seed: int = 0) -> dict[str, Any]:
  """Returns parameters of a frozen model that a prompt can adapt to the toy.

  A random T5 knows no task, so its logits are aligned to the toy task: the
  direction in which the two cues differ tells the label words apart, but is
  shifted so far that the bare model names the same label for every input. The
  prompt has to undo the shift.

  Args:
    model: A tiny model with untied embeddings, and with a prompt or bare.
    seed: Seed of the random weights.
  """
  params = tiny_params(model, seed=seed)
  batch = toy_batch(0, batch_size=128, prompt_length=0, seed=seed)
  hidden = _decoder_outputs(model, params, batch)  # [B, 2, D]
  is_first = batch["decoder_target_tokens"][:, 0] == TOY_LABELS[0]
  first, second = hidden[is_first, 0].mean(0), hidden[~is_first, 0].mean(0)
  middle, end = (first + second) / 2, hidden[:, 1].mean(0)
  label = _unit(first - second) * 8.0
  shift = (hidden[:, 0] @ label).max() + 1.0
  shifted = label - shift * middle / (middle @ middle)
  kernel = np.zeros(params["decoder"]["logits_dense"]["kernel"].shape)
  kernel[:, TOY_LABELS[0]] = shifted
  kernel[:, TOY_LABELS[1]] = -shifted
  kernel[:, _EOS] = _unit(end - middle) * 4.0
  params["decoder"]["logits_dense"]["kernel"] = jnp.asarray(kernel, jnp.float32)
  return params


def toy_batch(
  index: int,
  *,
  batch_size: int = 16,
  inputs_length: int = 12,
  prompt_length: int = 4,
  seed: int = 0,
) -> dict[str, np.ndarray]:
  """Returns batch number `index` of a separable two-class task.

  Half of the words of an input are one of two cues, among filler words; the
  target is the label word of that cue and the end of sequence. A prompt on a
  frozen model with `toy_params` learns it.

  Args:
    index: Which batch; the same index and seed give the same batch.
    batch_size: Rows, B.
    inputs_length: Encoder length L, prompt included.
    prompt_length: Slots in front of every row; 0 for none.
    seed: Seed of the whole sequence of batches.
  """
  rng = np.random.default_rng([seed, index])
  classes = rng.integers(0, 2, size=batch_size)
  words = inputs_length - prompt_length
  inputs = rng.integers(_FIRST_FILLER, VOCAB_SIZE, (batch_size, words))
  cue_columns = rng.permuted(
    np.broadcast_to(np.arange(words) < (words + 1) // 2, inputs.shape), axis=1
  )
  cues = np.asarray(TOY_CUES)[classes][:, None]
  inputs = np.where(cue_columns, cues, inputs)
  labels = np.asarray(TOY_LABELS)[classes]
  targets = np.stack([labels, np.full_like(labels, _EOS)], axis=1)
  return _as_batch(inputs, targets, prompt_length, VOCAB_SIZE)


@dataclasses.dataclass
class ToyBatches:
  """Endless `toy_batch`es with a position, as the trainer's data protocol.

  Attributes:
    batch_size: Rows of a batch, B.
    prompt_length: Slots in front of every row.
    seed: Seed of the whole sequence of batches.
    position: Index of the next batch.
  """

  batch_size: int = 16
  prompt_length: int = 4
  seed: int = 0
  position: int = 0

  def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
    return self

  def __next__(self) -> dict[str, np.ndarray]:
    batch = toy_batch(
      self.position,
      batch_size=self.batch_size,
      prompt_length=self.prompt_length,
      seed=self.seed,
    )
    self.position += 1
    return batch

  def state(self) -> dict[str, Any]:
    """Returns where the next batch stands, JSON-able."""
    return {"position": self.position}

  def restore(self, state: dict[str, Any]) -> None:
    """Continues from a position that `state` returned."""
    self.position = int(state["position"])


# Compiled as a whole, which takes a fraction of the time of one by one.
_init_params = jax.jit(t5.init_params, static_argnums=0)


def _decoder_outputs(model, params, batch):
  """Returns what the logits are taken from, [B, T, D]."""
  decoder = dict(params["decoder"])
  rows, columns = decoder["logits_dense"]["kernel"].shape
  decoder["logits_dense"] = {"kernel": jnp.eye(rows, columns)}
  logits = jax.jit(model.apply)(
    {"params": {**params, "decoder": decoder}},
    batch["encoder_input_tokens"],
    batch["decoder_input_tokens"],
  )
  return np.asarray(logits)[..., :rows]


def _unit(vector):
  return vector / np.linalg.norm(vector)


def _uniform_half(rng, shape, dtype):
  return jax.random.uniform(rng, shape, dtype, minval=-0.5, maxval=0.5)


def _padded_words(rng, shape, vocab_size):
  """Words, then one end of sequence, then padding, at random row lengths."""
  rows, length = shape
  ends = rng.integers(1, length + 1, size=(rows, 1)) - 1
  columns = np.arange(length)
  words = rng.integers(_FIRST_WORD, vocab_size, size=shape)
  words = np.where(columns == ends, _EOS, words)
  return np.where(columns > ends, 0, words)


def _as_batch(inputs, targets, prompt_length, vocab_size):
  slots = np.arange(vocab_size, vocab_size + prompt_length)
  slots = np.broadcast_to(slots, (len(inputs), prompt_length))
  shifted = np.pad(targets[:, :-1], ((0, 0), (1, 0)))
  return {
    "encoder_input_tokens": np.concatenate([slots, inputs], 1).astype(np.int32),
    "decoder_input_tokens": shifted.astype(np.int32),
    "decoder_target_tokens": targets.astype(np.int32),
    "decoder_loss_weights": (targets > 0).astype(np.float32),
  }
