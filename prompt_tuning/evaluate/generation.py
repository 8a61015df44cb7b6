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
  """Writes targets; compiled once for each shape of batch.

  Generators of one model with equal settings share what is compiled.
  """

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

  def decode(
    self, params: Params, batch: Batch, *, rngs: jax.Array | None = None
  ) -> decoding.Decodes:
    """Returns all that the decoder wrote, with scores.

    Args:
      params: All parameters of the model, trainable and frozen.
      batch: At least `encoder_input_tokens` [B, L]; targets are not looked at.
        For a bank whose slots do not stand there, `prompt_index` [B].
      rngs: Keys of the rows' draws [B], for sampling.

    Raises:
      ValueError: If the batch is packed, or sampling has no key for each row.
    """
    tokens = encoder_inputs(batch)
    if isinstance(self._decoder, Sampling):
      _check_keys(rngs, batch_size=tokens.shape[0])
    return _generate_tokens(
      params,
      self._compile_prompt(params),
      tokens,
      batch.get("prompt_index"),
      rngs,
      model=self._model,
      decoder=self._decoder,
      max_decode_length=self._max_decode_length,
    )

  def predict(
    self, params: Params, batch: Batch, *, rngs: jax.Array | None = None
  ) -> Int[Array, "B T"]:
    """Returns one sequence for every input: of several beams, the best."""
    tokens = self.decode(params, batch, rngs=rngs).tokens
    return tokens[:, -1] if tokens.ndim == 3 else tokens


@functools.partial(
  jax.jit, static_argnames=("model", "decoder", "max_decode_length")
)
def _generate_tokens(
  params,
  prompt,
  tokens,
  prompt_index,
  rngs,
  *,
  model: T5,
  decoder: Greedy | BeamSearch | Sampling,
  max_decode_length: int,
) -> decoding.Decodes:
  prompt = of_rows(prompt, prompt_index)

  def apply(*args, method, **options):
    return model.apply({"params": params}, *args, method=method, **options)

  def step(last, cache):
    return apply(last, cache, method="decode_step")

  cache = apply(
    apply(tokens, prompt=prompt, method="encode"),
    tokens,
    prompt=prompt,
    max_decode_length=max_decode_length,
    method="start_cache",
  )
  return _decode_fn(decoder, rngs)(
    step,
    cache,
    batch_size=tokens.shape[0],
    max_decode_length=max_decode_length,
  )


def _decode_fn(
  decoder: Greedy | BeamSearch | Sampling, rngs: jax.Array | None
) -> Callable[..., decoding.Decodes]:
  options = dataclasses.asdict(decoder)
  match decoder:
    case Greedy():
      return decoding.greedy
    case BeamSearch():
      return functools.partial(decoding_beam.beam_search, **options)
    case Sampling():
      return functools.partial(decoding.sample, rngs=rngs, **options)


def _check_keys(rngs: jax.Array | None, *, batch_size: int) -> None:
  shape = None if rngs is None else rngs.shape
  if shape != (batch_size,):
    raise ValueError(
      f"sampling needs a random key for each of the {batch_size} rows: pass "
      f"rngs=, such as jax.random.split(key, {batch_size}), others for each "
      f"batch; got {'none' if shape is None else f'shape {list(shape)}'}."
    )


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
