"""T5 folders of Hugging Face transformers, read and written.

Covers T5 1.0, T5 1.1, LM-adapted T5, Flan-T5, mT5 and ByT5. PyTorch stores
kernels transposed, numbers the parts of a layer, and decides between tied,
scaled logits and a projection of their own by `tie_word_embeddings` (before
transformers 5) or `scale_decoder_outputs` (since).
"""

import dataclasses
import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from prompt_tuning import hub, paths
from prompt_tuning.checkpoints import hf_names, hf_weights, tree
from prompt_tuning.checkpoints.stored import Stored
from prompt_tuning.model.config import T5Config
from prompt_tuning.types import Params

CONFIG = "config.json"
_TOKENIZER_CONFIG = "tokenizer_config.json"
_TOKENIZER = {
  "tokenizer_class": "T5Tokenizer",
  "pad_token": "<pad>",
  "eos_token": "</s>",
  "unk_token": "<unk>",
}
_ACTIVATIONS = {
  "relu": ("relu",),
  "gated-gelu": ("gelu", "linear"),
  "gated-relu": ("relu", "linear"),
  "gated-silu": ("silu", "linear"),
}
_MODEL_TYPES = ("t5", "mt5")
# Our name of a size, theirs.
_SIZES = {
  "vocab_size": "vocab_size",
  "embed_dim": "d_model",
  "num_heads": "num_heads",
  "head_dim": "d_kv",
  "mlp_dim": "d_ff",
  "num_encoder_layers": "num_layers",
  "num_decoder_layers": "num_decoder_layers",
  "relative_attention_buckets": "relative_attention_num_buckets",
  "relative_attention_max_distance": "relative_attention_max_distance",
  "layer_norm_epsilon": "layer_norm_epsilon",
}
_DEFAULTS = {
  "relative_attention_num_buckets": 32,
  "relative_attention_max_distance": 128,
  "layer_norm_epsilon": 1e-6,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
  """A model as read.

  Attributes:
    config: Its shape. Dropout is 0 and activations are float32, whatever the
      folder says: both are decisions of a run.
    params: Its parameters under T5X's names, numpy arrays.
  """

  config: T5Config
  params: dict[str, Any]


def read(folder: paths.PathLike, *, dtype: str = "float32") -> Model:
  """Reads a folder with `config.json` and weights.

  Args:
    folder: Where `save_pretrained` wrote to, or a downloaded copy.
    dtype: The type of the parameters returned.

  Raises:
    ValueError: As `leaves`.
    ImportError: If the weights are in a format whose package is missing.
  """
  flat = {
    path: np.asarray(array, jnp.dtype(dtype)) for path, array in leaves(folder)
  }
  return Model(config=read_config(folder), params=tree.unflatten(flat))


def leaves(folder: paths.PathLike) -> Iterator[tuple[str, Stored]]:
  """Yields paths and arrays of a model's parameters, to be read.

  Args:
    folder: As for `read`.

  Raises:
    ValueError: If the model is not one of the T5 family, or weights are
      missing, extra or contradict the configuration.
    ImportError: If the weights are in a format whose package is missing.
  """
  settings = _read_settings(folder)
  source = os.fspath(folder)
  weights = hf_weights.open_folder(folder)
  config = _to_config(settings, source=source)
  _drop_copies(weights, source=source)
  _check_logits(weights, settings, config, source=source)
  pairs = hf_names.names(config)
  missing = sorted(set(pairs.values()) - set(weights))
  extra = sorted(set(weights) - set(pairs.values()))
  if missing or extra:
    raise ValueError(
      f"{source}: the weights are not those that {CONFIG} describes; missing "
      f"{missing[:10]}, extra {extra[:10]}."
    )
  for ours, theirs in pairs.items():
    array = weights[theirs]
    yield ours, array.transposed() if hf_names.is_transposed(ours) else array


def read_config(folder: paths.PathLike) -> T5Config:
  """Reads only the shape of the model in a folder.

  Args:
    folder: A folder with `config.json`.

  Raises:
    ValueError: If the model is not one of the T5 family.
  """
  return _to_config(_read_settings(folder), source=os.fspath(folder))


def extra_ids(folder: paths.PathLike) -> int | None:
  """Returns how many sentinels a folder says to be on top of its pieces.

  Args:
    folder: A folder, with a `tokenizer_config.json` or without.

  Raises:
    ValueError: If the file is no JSON.
  """
  path = paths.as_path(folder) / _TOKENIZER_CONFIG
  if not paths.exists(path):
    return None
  try:
    said = json.loads(paths.read_text(path)).get("extra_ids")
  except (ValueError, AttributeError) as error:
    raise ValueError(f"{path} is no JSON object: {error}") from error
  return said if type(said) is int else None


def write(
  config: T5Config,
  params: Params,
  folder: paths.PathLike,
  *,
  pieces: bytes | None = None,
  extra_ids: int = 0,
) -> None:
  """Writes `config.json` and `model.safetensors`, whole or not at all.

  Args:
    config: The model's shape.
    params: Its parameters; a soft prompt has no place in the format.
    folder: The folder to make.
    pieces: Its SentencePiece model, to be written beside them, with a
      `tokenizer_config.json` that says how many sentinels are on top.
    extra_ids: How many these are.

  Raises:
    ValueError: If the parameters are not those of `config`, or the format has
      no word for its activations.
    FileExistsError: If the folder exists.
    ImportError: If the package safetensors is missing.
  """
  flat = tree.flatten(params)
  pairs = hf_names.names(config)
  if set(flat) != set(pairs):
    raise ValueError(
      "The parameters are not those of a T5 of this configuration: they "
      f"differ in {sorted(set(flat) ^ set(pairs))[:10]}. Leave out a soft "
      "prompt: the format cannot hold one."
    )
  weights = {}
  for ours, theirs in pairs.items():
    array = np.asarray(flat[ours])
    if hf_names.is_transposed(ours):
      array = array.T
    weights[theirs] = np.ascontiguousarray(array)
  dtype = weights["shared.weight"].dtype.name
  settings = _to_settings(config, dtype)
  num_bytes = sum(array.nbytes for array in weights.values())
  with paths.atomic_directory(folder, num_bytes=num_bytes) as temporary:
    paths.write_text(temporary / CONFIG, json.dumps(settings, indent=2) + "\n")
    hf_weights.write(temporary, weights)
    if pieces is not None:
      paths.write_bytes(temporary / hub.VOCABULARY, pieces)
      tokenizer = _TOKENIZER | {"extra_ids": extra_ids}
      paths.write_text(
        temporary / _TOKENIZER_CONFIG, json.dumps(tokenizer, indent=2) + "\n"
      )


def _read_settings(folder: paths.PathLike) -> dict[str, Any]:
  path = paths.as_path(folder) / CONFIG
  try:
    settings = json.loads(paths.read_text(path))
  except ValueError as error:
    raise ValueError(f"{path} is not JSON: {error}") from error
  if not isinstance(settings, dict):
    raise ValueError(f"{path} is {type(settings).__name__}, not an object")
  if settings.get("model_type") not in _MODEL_TYPES:
    raise ValueError(
      f"{path}: model_type is {settings.get('model_type')!r}, expected one "
      f"of {', '.join(_MODEL_TYPES)}."
    )
  return settings


def _is_scaled(settings: Mapping[str, Any]) -> bool:
  """Returns whether logits are scaled, which goes with tied embeddings."""
  if settings["model_type"] == "mt5":
    return False  # All of mT5 has a projection of its own.
  tied = settings.get("tie_word_embeddings", True)
  return bool(settings.get("scale_decoder_outputs", tied))


def _to_config(settings: Mapping[str, Any], *, source: str) -> T5Config:
  settings = {
    "num_decoder_layers": settings.get("num_layers"),
    **_DEFAULTS,
    # Some old files state null for "as many as the encoder".
    **{key: value for key, value in settings.items() if value is not None},
  }
  default = "gated-gelu" if settings["model_type"] == "mt5" else "relu"
  activation = settings.get("feed_forward_proj", default)
  if activation not in _ACTIVATIONS:
    raise ValueError(
      f"{source}: feed_forward_proj is {activation!r}, expected one of "
      f"{', '.join(_ACTIVATIONS)}."
    )
  absent = [
    theirs for theirs in _SIZES.values() if settings.get(theirs) is None
  ]
  if absent:
    raise ValueError(f"{source}: {CONFIG} does not state {', '.join(absent)}.")
  return T5Config(
    mlp_activations=_ACTIVATIONS[activation],
    tie_embeddings=_is_scaled(settings),
    **{ours: settings[theirs] for ours, theirs in _SIZES.items()},
  )


def _to_settings(config: T5Config, dtype: str) -> dict[str, Any]:
  words = {ours: theirs for theirs, ours in _ACTIVATIONS.items()}
  if config.mlp_activations not in words:
    raise ValueError(
      f"{CONFIG} has no word for mlp_activations {config.mlp_activations}; "
      f"it knows {', '.join(map(str, words))}."
    )
  return {
    "architectures": ["T5ForConditionalGeneration"],
    "model_type": "t5",
    "is_encoder_decoder": True,
    **{theirs: getattr(config, ours) for ours, theirs in _SIZES.items()},
    "feed_forward_proj": words[config.mlp_activations],
    "dropout_rate": config.dropout_rate,
    "tie_word_embeddings": config.tie_embeddings,
    "scale_decoder_outputs": config.tie_embeddings,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "decoder_start_token_id": 0,
    "dtype": dtype,
  }


def _drop_copies(weights: dict[str, Stored], *, source: str) -> None:
  """Drops entries that repeat another or that the model never reads."""
  table = weights.get("shared.weight")
  for name in hf_names.COPIES_OF_TABLE:
    copy = weights.pop(name, None)
    if copy is None:
      continue
    if table is None:
      weights["shared.weight"] = table = copy
    elif not copy.equals(table):
      raise ValueError(
        f"{source}: {name} differs from shared.weight; this T5 has one table "
        "of embeddings for encoder and decoder."
      )
  for name in [name for name in weights if hf_names.UNUSED.fullmatch(name)]:
    del weights[name]


def _check_logits(
  weights: dict[str, Stored],
  settings: Mapping[str, Any],
  config: T5Config,
  *,
  source: str,
) -> None:
  """Checks that the logits' weights are what the configuration says."""
  if not config.tie_embeddings:
    if hf_names.LOGITS not in weights:
      raise ValueError(
        f"{source}: {hf_names.LOGITS} is missing, yet tie_word_embeddings is "
        f"{settings.get('tie_word_embeddings')} and scale_decoder_outputs is "
        f"{settings.get('scale_decoder_outputs')}: the logits are neither "
        "tied and scaled nor a projection of their own."
      )
    return
  head = weights.pop(hf_names.LOGITS, None)
  table = weights.get("shared.weight")
  if head is None or table is None:
    return
  if not head.equals(table):
    raise ValueError(
      f"{source}: {CONFIG} ties the logits to the embeddings, but "
      f"{hf_names.LOGITS} differs from shared.weight; set "
      "tie_word_embeddings to false if the projection is meant."
    )
