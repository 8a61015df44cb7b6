"""The likelihood that a model gives to sequences it is shown."""

from typing import cast

import jax
from jax import numpy as jnp

from prompt_tuning.model.compiled_prompt import CompiledPrompt
from prompt_tuning.model.decoding import START_ID
from prompt_tuning.model.t5 import T5
from prompt_tuning.types import PAD_ID, Array, Float, Int, Params


def sequence_log_likelihood(
  logits: Float[Array, "*B T V"],
  targets: Int[Array, "*B T"],
  weights: Float[Array, "*B T"],
) -> Float[Array, "*B"]:
  """Returns the summed log-likelihood of every sequence, in nats, float32.

  The z-loss of training is no part of it.

  Args:
    logits: Teacher-forced, of any float type.
    targets: The tokens that are scored.
    weights: 1 for a token that counts, 0 for padding.
  """
  log_probs = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
  picked = jnp.take_along_axis(log_probs, targets[..., None], axis=-1)[..., 0]
  weights = jnp.asarray(weights, jnp.float32)
  # A weight of 0 times minus infinity would be NaN.
  return jnp.sum(jnp.where(weights > 0, picked * weights, 0.0), axis=-1)


def score_candidates(
  model: T5,
  params: Params,
  encoder_input_tokens: Int[Array, "B L"],
  candidates: Int[Array, "C T"],
  *,
  prompt: CompiledPrompt | None = None,
  candidates_per_pass: int | None = None,
) -> Float[Array, "B C"]:
  """Scores the same C targets for every input, encoding each input once.

  The decoder is mapped over the candidates, with the encoder's output left as
  it is: its keys and values are computed once and never repeated.

  Args:
    model: The network.
    params: Its parameters, prompt included.
    encoder_input_tokens: Inputs, with slots where the soft prompt stands.
    candidates: Targets with their end of sequence, padded with 0.
    prompt: What `T5.compile_prompt` returned, for these rows.
    candidates_per_pass: How many candidates are decoded at once; all by
      default. Logits of that many times B sequences are held in memory.

  Returns:
    Summed log-likelihoods, in nats, float32.

  Raises:
    ValueError: If candidates_per_pass is not positive.
  """
  if candidates_per_pass is not None and candidates_per_pass < 1:
    raise ValueError(
      "candidates_per_pass must be a positive number of candidates, or None "
      f"for all at once, got {candidates_per_pass!r}."
    )
  candidates = jnp.asarray(candidates)
  variables = {"params": params}
  encoded = model.apply(
    variables, encoder_input_tokens, prompt=prompt, method="encode"
  )

  def score(candidate: Int[Array, " T"]) -> Float[Array, " B"]:
    shape = (encoder_input_tokens.shape[0], candidate.shape[0])
    targets = jnp.broadcast_to(candidate, shape)
    logits = model.apply(
      variables,
      shift_right(targets),
      encoded,
      encoder_input_tokens,
      prompt=prompt,
      method="decode",
    )
    return sequence_log_likelihood(
      cast(Array, logits), targets, targets != PAD_ID
    )

  num_candidates = candidates.shape[0]
  scores = jax.lax.map(
    score, candidates, batch_size=candidates_per_pass or num_candidates
  )
  return scores.T  # [B, C]


def shift_right(targets: Int[Array, "*B T"]) -> Int[Array, "*B T"]:
  """Returns what a decoder reads when it is to write `targets`."""
  before = [(0, 0)] * (targets.ndim - 1) + [(1, 0)]
  return jnp.pad(targets[..., :-1], before, constant_values=START_ID)
