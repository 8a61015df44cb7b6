"""Checkpoints in every form that can be loaded."""

import pathlib
from typing import Any

import jax
import numpy as np

from prompt_tuning.checkpoints import huggingface, t5x, tree
from prompt_tuning.model.config import T5Config
from prompt_tuning.model.stack import stack_layers
from prompt_tuning.types import Params

_LAYER_AXIS = 1
_BIAS = "relpos_bias/rel_embedding"

FORMS = (
  "T5X, zarr",
  "T5X, zarr, layers in one array",
  "T5X, one file",
  "T5X, Orbax",
  "a run, layers in one array",
  "Hugging Face",
)


def write(
  form: str, folder: pathlib.Path, config: T5Config, params: Params
) -> pathlib.Path:
  """Writes parameters as a checkpoint; returns the path to load it from.

  Args:
    form: One of `FORMS`.
    folder: To make.
    config: The model's shape.
    params: An entry a layer.
  """
  checkpoint = folder / "checkpoint_0"
  match form:
    case "T5X, zarr":
      t5x.save(params, folder, step=0)
    case "T5X, zarr, layers in one array":
      t5x.save(scanned(params, config), folder, step=0)
    case "T5X, one file":
      t5x.save(params, folder, step=0, storage=t5x.Storage.MSGPACK)
    case "T5X, Orbax":
      _save_tree(checkpoint / "state", {"target": params})
    case "a run, layers in one array":
      _save_tree(checkpoint / "state", {"trainable": stack_layers(params)})
      (checkpoint / "meta").mkdir()
    case "Hugging Face":
      huggingface.write(config, params, checkpoint)
    case _:
      raise ValueError(f"{form!r} is none of {', '.join(FORMS)}.")
  return checkpoint


def scanned(params: Params, config: T5Config) -> dict[str, Any]:
  """Returns the parameters of a T5 as T5X's scalable T5 has them.

  All layers of a stack are in one array, heads apart, and each layer has the
  bias of the stack; see `checkpoints.scanned`, which reverses it.

  Args:
    params: An entry a layer.
    config: The model's shape.
  """
  depths = {
    "encoder": config.num_encoder_layers,
    "decoder": config.num_decoder_layers,
  }
  laid_out = dict(params)
  for stack, depth in depths.items():
    rest = dict(params[stack])
    layers = [rest.pop(f"layers_{number}") for number in range(depth)]
    bias = rest.pop("relpos_bias")["rel_embedding"]
    inner = jax.tree.map(lambda *each: np.stack(each, _LAYER_AXIS), *layers)
    flat = {
      path: _heads_apart(path, array, config)
      for path, array in tree.flatten(inner).items()
    }
    flat[_BIAS] = np.stack([bias] * depth, _LAYER_AXIS)
    laid_out[stack] = {stack: tree.unflatten(flat), **rest}
  return laid_out


def _save_tree(path: pathlib.Path, params: Params) -> None:
  import orbax.checkpoint as ocp

  with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(path.absolute(), params)


def _heads_apart(path: str, array: np.ndarray, config: T5Config) -> np.ndarray:
  """Splits the axis of heads and their width, H K, of an attention kernel."""
  heads = (config.num_heads, config.head_dim)
  if "attention/" not in path:
    return array
  if path.endswith("out/kernel"):  # [H K, layers, D] -> [H, layers, K, D]
    split = array.reshape(*heads, *array.shape[1:])
    return split.transpose(0, 2, 1, 3)
  return array.reshape(*array.shape[:2], *heads)
