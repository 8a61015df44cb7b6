"""Free generation of targets, by any decoder."""

import dataclasses
import functools
from collections.abc import Callable

import jax

from prompt_tuning.evaluate.prompt_compiler import PromptCompiler, of_rows
from prompt_tuning.model import decoding, decoding_beam
from prompt_tuning.model.t5 import T5
from prompt_tuning.types import Array, Batch, Int, Params


@dataclasses.dataclass(frozen=True)
class Greedy:
  """The likeliest token at every position."""


@dataclasses.dataclass(frozen=True)
class BeamSearch:
  """Beam search with T5's length penalty.

  Attributes:
    num_decodes: Number of beams.
    alpha: Exponent of the length penalty.
  """

  num_decodes: int = 4
  alpha: float = 0.6

  def __post_init__(self):
    decoding_beam.check_beam_search(
      num_decodes=self.num_decodes, alpha=self.alpha
    )


@dataclasses.dataclass(frozen=True)
class Sampling:
  """Random draws, see `prompt_tuning.model.decoding.sample`.

  Attributes:
    temperature: Divides the logits; 0 is greedy.
    top_k: If positive, draws only from that many likeliest tokens.
    top_p: If below 1, draws only from the nucleus.
  """

  temperature: float = 1.0
  top_k: int = 0
  top_p: float = 1.0

  def __post_init__(self):
    decoding.check_sampling(
      temperature=self.temperature, top_k=self.top_k, top_p=self.top_p
    )


class Generator:
  """Writes targets; compiled once for each shape of batch."""

  def __init__(
    self,
    model: T5,
    *,
    max_decode_length: int,
    decoder: Greedy | BeamSearch | Sampling = Greedy(),
  ):
    """Prepares the decoder.

    Args:
      model: The network, prompt included.
      max_decode_length: T, in tokens, the end of sequence included.
      decoder: How tokens are chosen.

    Raises:
      ValueError: If max_decode_length is not positive.
    """
    if max_decode_length < 1:
      raise ValueError(
        "max_decode_length must be a positive number of tokens, got "
        f"{max_decode_length!r}."
      )
    self._model = model
    self._max_decode_length = max_decode_length
    self._decoder = decoder
    self._compile_prompt = PromptCompiler(model)
    self._generate = jax.jit(self._generate_tokens)

  def decode(
    self, params: Params, batch: Batch, *, rng: jax.Array | None = None
  ) -> decoding.Decodes:
    """Returns all that the decoder wrote, with scores.

    Args:
      params: All parameters of the model, trainable and frozen.
      batch: At least `encoder_input_tokens` [B, L]; targets are not looked at.
        For a bank whose slots do not stand there, `prompt_index` [B].
      rng: Key of this batch's draws, for sampling.

    Raises:
      ValueError: If the batch is packed, or sampling has no key.
    """
    if rng is None and isinstance(self._decoder, Sampling):
      raise ValueError(
        "sampling needs a random key: pass rng=, a different one each batch."
      )
    return self._generate(
      params,
      self._compile_prompt(params),
      encoder_inputs(batch),
      batch.get("prompt_index"),
      rng,
    )

  def predict(
    self, params: Params, batch: Batch, *, rng: jax.Array | None = None
  ) -> Int[Array, "B T"]:
    """Returns one sequence for every input: of several beams, the best."""
    tokens = self.decode(params, batch, rng=rng).tokens
    return tokens[:, -1] if tokens.ndim == 3 else tokens

  def _generate_tokens(
    self, params, prompt, tokens, prompt_index, rng
  ) -> decoding.Decodes:
    prompt = of_rows(prompt, prompt_index)

    def apply(*args, method, **options):
      return self._model.apply(
        {"params": params}, *args, method=method, **options
      )

    def step(last, cache):
      return apply(last, cache, method="decode_step")

    cache = apply(
      apply(tokens, prompt=prompt, method="encode"),
      tokens,
      prompt=prompt,
      max_decode_length=self._max_decode_length,
      method="start_cache",
    )
    return self._decode_fn(rng)(
      step,
      cache,
      batch_size=tokens.shape[0],
      max_decode_length=self._max_decode_length,
    )

  def _decode_fn(self, rng) -> Callable[..., decoding.Decodes]:
    options = dataclasses.asdict(self._decoder)
    match self._decoder:
      case Greedy():
        return decoding.greedy
      case BeamSearch():
        return functools.partial(decoding_beam.beam_search, **options)
      case Sampling():
        return functools.partial(decoding.sample, rng=rng, **options)


def encoder_inputs(batch: Batch) -> Int[Array, "B L"]:
  """Returns the inputs of an unpacked batch.

  Raises:
    ValueError: If the batch is packed: several inputs in a row cannot each
      have an answer of their own.
  """
  for name in ("encoder_segment_ids", "encoder_positions"):
    if batch.get(name) is not None:
      raise ValueError(
        f"the batch is packed (it has {name!r}); predictions need one example "
        "a row: make the batches with pack=False."
      )
  return batch["encoder_input_tokens"]
