"""LoRA and IA3, taken up by the weights that they stand beside."""

from typing import Any

import numpy as np
from flax import traverse_util

from prompt_tuning.methods.ia3 import IA3
from prompt_tuning.methods.lora import LoRA
from prompt_tuning.model.method import Method
from prompt_tuning.types import Params


def merge(method: Method, own: Params, params: Params) -> Params:
  """Returns a backbone that computes what it does together with a method.

  Products are taken in float32, and kept in the type of the weights.

  Args:
    method: LoRA or IA3.
    own: What was trained, an entry a layer; weights of the backbone that were
      trained with the method stand in for those of `params`.
    params: The backbone's, an entry a layer.

  Raises:
    ValueError: If the method is another one, for a prefix or an adapter is no
      change of a weight; or what was trained with it is none.
  """
  if not isinstance(method, LoRA | IA3):
    raise ValueError(
      f"{type(method).__name__} cannot be merged into the weights; LoRA and "
      "IA3 can"
    )
  flat: dict[str, Any] = traverse_util.flatten_dict(params, sep="/")
  tuned: dict[str, Any] = traverse_util.flatten_dict(own, sep="/")
  hook = "/lora/" if isinstance(method, LoRA) else "/ia3/"
  trained = {path: leaf for path, leaf in tuned.items() if hook in path}
  # Weights of the backbone may have been trained with it.
  rest = {path: leaf for path, leaf in tuned.items() if hook not in path}
  unknown = sorted(rest.keys() - flat.keys())
  if unknown:
    raise ValueError(
      f"{', '.join(unknown[:3])} was trained with {type(method).__name__} and "
      "is no weight of the backbone, so nothing can take it up"
    )
  flat |= rest
  if isinstance(method, LoRA):
    changed = _with_products(method, trained, flat)
  else:
    changed = _scaled(trained, flat)
  kept = {
    path: kernel.astype(flat[path].dtype) for path, kernel in changed.items()
  }
  return traverse_util.unflatten_dict(flat | kept, sep="/")


def _with_products(
  method: LoRA, trained: dict[str, Any], flat: dict[str, Any]
) -> dict[str, np.ndarray]:
  changed = {}
  for path, down in trained.items():
    place, is_down, _ = path.rpartition("/lora/down")
    if is_down:
      up = np.asarray(trained[f"{place}/lora/up"], np.float32)
      product = np.asarray(down, np.float32) @ up
      kernel = np.asarray(flat[f"{place}/kernel"], np.float32)
      changed[f"{place}/kernel"] = kernel + method.alpha / method.rank * product
  return changed


def _scaled(
  trained: dict[str, Any], flat: dict[str, Any]
) -> dict[str, np.ndarray]:
  changed: dict[str, np.ndarray] = {}
  for path, scale in trained.items():
    place = path.removesuffix("/ia3/scale")
    scale = np.asarray(scale, np.float32)
    # What the last projection of a feed-forward layer reads is scaled by rows.
    if place.endswith("/mlp"):
      place, scale = f"{place}/wo", scale[:, None]
    name = f"{place}/kernel"
    kernel = changed.get(name, np.asarray(flat[name], np.float32))
    changed[name] = kernel * scale
  return changed
