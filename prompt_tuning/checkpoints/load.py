"""One way to load a backbone, whoever wrote its checkpoint."""

import dataclasses
import os
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from absl import logging
from jax import numpy as jnp

from prompt_tuning import paths
from prompt_tuning.checkpoints import (
  architecture,
  huggingface,
  locate,
  orbax_tree,
  t5x,
  tree,
)
from prompt_tuning.checkpoints.locate import (
  Format,
  detect_format,
  find_checkpoint,
)
from prompt_tuning.checkpoints.stored import (
  Index,
  Places,
  Stored,
  stacked,
)
from prompt_tuning.model import quantization, t5
from prompt_tuning.model.config import T5Config
from prompt_tuning.model.stack import (
  reading_order,
  stack_layers,
  stacked_place,
  unstack_leaves,
)
from prompt_tuning.prompts import artifact
from prompt_tuning.types import Params

# Where soft prompts stand, here and in checkpoints of google's prompt tuning.
_PROMPT = re.compile(r"(.*/)?prompt/.*")
# What a run of this project has trained, see `train.checkpoint_files`.
_TRAINABLE = "trainable"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Loaded:
  """The weights of a T5 as loaded.

  Attributes:
    params: A nested dictionary of numpy arrays, or of `Stored` ones still to be
      read, exactly the model's parameters, layers stacked where the model scans
      them.
    fingerprint: Names them, as `prompts.artifact.fingerprint`: of the weights
      in the checkpoint, whatever they are kept in.
  """

  params: Params
  fingerprint: str

  @classmethod
  def of(cls, params: Params, *, scan_layers: bool) -> "Loaded":
    """Returns weights with an entry a layer as if they had been loaded."""
    return cls(
      params=stack_layers(params) if scan_layers else params,
      fingerprint=artifact.fingerprint(params),
    )


def load_backbone(
  path: paths.PathLike,
  *,
  config: T5Config,
  dtype: str = "float32",
  in_parts: bool = False,
) -> Loaded:
  """Loads the weights of a T5, one at a time.

  Each is brought into the type that it is kept in before the next is read, so
  that what loading needs is what it returns and one array of the checkpoint.

  In parts, weights are `Stored`: `train.mesh.place` reads of each what the
  devices of this process are to hold, so that no host holds the model. Samples
  are read before, for the fingerprint: of compressed arrays that takes all of
  their chunks, 64 MiB at a time.

  Soft prompts that the checkpoint may hold are left out, and named in the log:
  a prompt is loaded from its own file (`prompts.artifact`).

  Args:
    path: What `find_checkpoint` takes.
    config: The model that the weights must fit.
    dtype: What they are kept in, see `model.quantization.keep`.
    in_parts: Whether weights are only opened.

  Raises:
    ValueError: If there is no checkpoint, it is broken, or a weight is missing,
      extra or misshapen.
  """
  checkpoint = find_checkpoint(path)
  source = os.fspath(checkpoint)
  kind = detect_format(checkpoint)
  logging.info("Loading the backbone from %s (%s).", source, kind.value)
  if kind is Format.HUGGING_FACE:
    _check_config(huggingface.read_config(checkpoint), config, source=source)
  weights = _Weights(config, dtype, in_parts=in_parts)
  leaves = dict(_leaves(checkpoint, kind))
  prompts = [name for name in leaves if _PROMPT.fullmatch(name)]
  for name in prompts:
    del leaves[name]
  for name in reading_order(leaves):
    weights.add(name, leaves.pop(name))
  if not weights.found:
    raise ValueError(
      f"{source} was written by prompt tuning and holds no backbone, only "
      f"{', '.join(prompts)}. Give the checkpoint of the model that it was "
      "tuned on."
    )
  if prompts:
    logging.info(
      "Not part of the backbone, so not loaded from %s: %s.",
      source,
      ", ".join(prompts),
    )
  return weights.loaded(source=source)


def open_weights(
  path: paths.PathLike,
) -> tuple[Format, dict[str, tuple[int, ...]], set[str]] | None:
  """Returns the form of a checkpoint, and shapes and types of its weights.

  Soft prompts are left out. No weights are read.

  Args:
    path: What `find_checkpoint` takes.

  Returns:
    None of a checkpoint that holds nothing but prompts.

  Raises:
    ValueError: There is no checkpoint, or it is broken.
  """
  checkpoint = find_checkpoint(path)
  kind = detect_format(checkpoint)
  shapes: dict[str, tuple[int, ...]] = {}
  types = set[str]()
  for name, array in _leaves(checkpoint, kind):
    if not _PROMPT.fullmatch(name):
      shapes[name] = array.shape
      types.add(str(array.dtype))
  return (kind, shapes, types) if shapes else None


def read_architecture(path: paths.PathLike) -> T5Config:
  """Returns the shape of the T5 in a checkpoint.

  A folder of Hugging Face says it; of others the weights' shapes do, which a
  run that has trained no backbone does not have.

  Args:
    path: What `find_checkpoint` takes.

  Raises:
    ValueError: There is no checkpoint, it is broken, or holds no T5.
  """
  checkpoint = find_checkpoint(path)
  if detect_format(checkpoint) is Format.HUGGING_FACE:
    return huggingface.read_config(checkpoint)
  found = open_weights(checkpoint)
  if found is None:
    raise ValueError(
      f"{os.fspath(path)} was written by prompt tuning and holds no backbone; "
      "give the checkpoint of the model that it was tuned on."
    )
  _, shapes, _ = found
  return architecture.of_shapes(shapes).config()


def _leaves(
  checkpoint: pathlib.Path, kind: Format
) -> Iterator[tuple[str, Stored]]:
  """Yields paths and arrays as stored, to be read, an entry a layer.

  Raises:
    ValueError: One is of a type that weights do not have.
  """
  for name, array in _of_format(checkpoint, kind):
    if not jnp.issubdtype(array.dtype, jnp.floating):
      raise ValueError(
        f"{os.fspath(checkpoint)}: {name} is {array.dtype}; weights are real "
        "numbers. (uint16 may be bfloat16 as T5X wrote it before version 3: "
        "save it again with a newer T5X.)"
      )
    yield name, array


def _of_format(
  checkpoint: pathlib.Path, kind: Format
) -> Iterator[tuple[str, Stored]]:
  match kind:
    case Format.HUGGING_FACE:
      return huggingface.leaves(checkpoint)
    case Format.T5X:
      return t5x.leaves(checkpoint)
    case Format.T5X_ORBAX:
      return orbax_tree.t5x_leaves(checkpoint)
    case Format.RUN:
      return unstack_leaves(
        orbax_tree.leaves(checkpoint / locate.STATE, subtree=_TRAINABLE)
      )


class _Weights:
  """The weights of a model, filled one by one.

  Attributes:
    found: Shape and type of every weight that was added.
  """

  def __init__(self, config: T5Config, dtype: str, *, in_parts: bool):
    self._config, self._dtype, self._in_parts = config, dtype, in_parts
    one_by_one = dataclasses.replace(config, scan_layers=False)
    self._expected = t5.abstract_params(t5.T5(one_by_one))
    self._shapes = {
      path: leaf.shape for path, leaf in tree.flatten(self._expected).items()
    }
    self._samples: dict[str, artifact.Sample] = {}
    self._kept: dict[str, Any] = {}
    self._layers: dict[str, dict[int, Stored]] = {}
    self.found: dict[str, jax.ShapeDtypeStruct] = {}

  def add(self, path: str, stored: Stored) -> None:
    """Takes a weight of one layer; what does not fit is only noted."""
    self.found[path] = jax.ShapeDtypeStruct(stored.shape, stored.dtype)
    if self._shapes.get(path) != stored.shape:
      return
    if self._in_parts:
      places = artifact.sampled_places(stored.shape)
      values = stored.pick(np.unravel_index(places, stored.shape))
      sample = artifact.Sample(stored.shape, values.astype(jnp.bfloat16))
      self._samples[path] = sample
      for name, opened in _kept(path, stored, self._dtype).items():
        self._open(name, opened)
      return
    array = np.asarray(stored)
    self._samples[path] = artifact.sample(array)
    for name, part in quantization.keep(path, array, self._dtype).items():
      self._put(name, part)

  def _open(self, path: str, stored: Stored) -> None:
    place = stacked_place(path) if self._config.scan_layers else None
    if place is None:
      self._kept[path] = stored
      return
    layers = self._layers.setdefault(place[0], {})
    layers[place[1]] = stored
    if len(layers) == self._num_layers(path):
      self._kept[place[0]] = stacked([layers[n] for n in sorted(layers)])

  def _put(self, path: str, array: np.ndarray) -> None:
    place = stacked_place(path) if self._config.scan_layers else None
    if place is None:
      self._kept[path] = array
      return
    stacked, index = place
    if stacked not in self._kept:
      shape = (self._num_layers(path), *array.shape)
      self._kept[stacked] = np.empty(shape, array.dtype)
    self._kept[stacked][index] = array

  def _num_layers(self, path: str) -> int:
    is_encoder = path.startswith("encoder/")
    config = self._config
    return (
      config.num_encoder_layers if is_encoder else config.num_decoder_layers
    )

  def loaded(self, *, source: str) -> Loaded:
    """Returns the weights, if they are exactly those of the model."""
    try:
      tree.check_tree(tree.unflatten(self.found), self._expected, source=source)
    except ValueError as error:
      raise ValueError(f"{error}{self._hint()}") from error
    return Loaded(
      params=tree.unflatten(self._kept),
      fingerprint=artifact.fingerprint_of_samples(self._samples),
    )

  def _hint(self) -> str:
    """Says which sizes the weights that were found have, if others."""
    try:
      found = architecture.of_shapes(
        {n: w.shape for n, w in self.found.items()}
      )
    except ValueError:
      return ""
    configured = {
      name: getattr(self._config, name.lower()) for name in found.sizes
    }
    other = {n: v for n, v in found.sizes.items() if v != configured[n]}
    if not other:
      return ""
    sizes = ", ".join(f"{name} = {value}" for name, value in other.items())
    return (
      f" By its shapes it is a T5 with {sizes}; give the size recipe that has "
      "these (`python -m prompt_tuning.inspect` names it)."
    )


def _kept(path: str, stored: Stored, dtype: str) -> dict[str, Stored]:
  """Returns one weight as it is kept, to be read; see `quantization.keep`."""
  if dtype != quantization.INT8:
    return {path: stored.astype(jnp.dtype(dtype))}
  axis = quantization.reduced_axis(path)
  if axis is None:
    return {path: stored.astype(np.float32)}
  return _as_int8(path, stored, axis=axis % stored.ndim)


def _as_int8(path: str, stored: Stored, *, axis: int) -> dict[str, Stored]:
  """Returns a matrix as integers and scales, to be read.

  A scale is of a whole channel: for any part of the matrix the channels that it
  is in are read whole, and no others.

  Args:
    path: Of the matrix.
    stored: The matrix.
    axis: The axis that values of one scale lie along.
  """
  scale_path = quantization.scale_path(path)
  known: dict[tuple[int, int], np.ndarray] = {}

  def of_channels(channels: slice) -> np.ndarray:
    whole = slice(0, stored.shape[axis])
    index = (whole, channels) if axis == 0 else (channels, whole)
    kept = quantization.keep(path, stored.read(index), quantization.INT8)
    known[channels.start, channels.stop] = kept[scale_path]
    return kept[path]

  def read(index: Index) -> np.ndarray:
    integers = of_channels(index[1 - axis])
    every = slice(None)
    cut = (index[0], every) if axis == 0 else (every, index[1])
    return integers[cut]

  def read_scales(index: Index) -> np.ndarray:
    [channels] = index
    if (channels.start, channels.stop) not in known:
      of_channels(channels)
    return known[channels.start, channels.stop]

  def pick(places: Places) -> np.ndarray:
    raise NotImplementedError(f"{path}: samples are taken of what is stored")

  num_channels = stored.shape[1 - axis]
  return {
    path: Stored(stored.shape, np.dtype(np.int8), read, pick),
    scale_path: Stored(
      (num_channels,), np.dtype(np.float32), read_scales, pick
    ),
  }


def _check_config(stored: T5Config, config: T5Config, *, source: str) -> None:
  """Checks what shapes do not show, such as the activation."""
  differing = [
    f"{field.name} is {getattr(stored, field.name)!r} there and "
    f"{getattr(config, field.name)!r} here"
    for field in dataclasses.fields(T5Config)
    if field.name not in ("dropout_rate", "dtype", "scan_layers", "remat")
    and getattr(stored, field.name) != getattr(config, field.name)
  ]
  if differing:
    raise ValueError(
      f"{source} is another model than the one configured: "
      f"{'; '.join(differing)}."
    )
