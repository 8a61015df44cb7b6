"""IA3 as PEFT keeps it: a scale of what a module gives, or of what it reads."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from prompt_tuning.checkpoints.peft import modules
from prompt_tuning.checkpoints.peft.modules import OUTSIDE, Flat
from prompt_tuning.methods.ia3 import IA3
from prompt_tuning.model.config import T5Config
from prompt_tuning.types import Params

KIND = "IA3"
# What this module reads is our site `mlp/hidden`.
_OUT_OF_HIDDEN = "/mlp/wo"


def read(
  settings: Mapping[str, Any],
  weights: Mapping[str, np.ndarray],
  config: T5Config,
  source: str,
) -> tuple[IA3, Flat]:
  """Returns the method and its parameters; see `methods.read`."""
  if settings.get("modules_to_save"):
    raise ValueError(
      f"{source}: modules_to_save is {settings['modules_to_save']!r}, which "
      "has no counterpart here. Merge the adapter into its backbone by PEFT's "
      "`merge_and_unload()` and load that"
    )
  places = modules.places(config)
  flat: Flat = {}
  for name, array in weights.items():
    module, _, leaf = name.removeprefix(OUTSIDE).rpartition(".")
    place = places.get(module)
    if leaf != "ia3_l" or place is None or array.ndim != 2:
      raise modules.unknown(name, KIND, source)
    # A row scales what a module reads, a column what it gives.
    if array.shape[0] == 1:
      if not place.endswith(_OUT_OF_HIDDEN):
        raise ValueError(
          f"{source}: {name} scales what a projection reads, which here only "
          "`wo` has. Merge the adapter into its backbone by PEFT's "
          "`merge_and_unload()` and load that"
        )
      place = place.removesuffix("/wo")
    flat[f"{place}/ia3/scale"] = array.reshape(-1)
  return IA3(targets=modules.sites_as_targets(flat, "ia3", IA3(), config)), flat


def write(params: Params, config: T5Config) -> tuple[dict[str, Any], Flat]:
  """Returns the configuration and the weights; see `methods.write`."""
  known = {place: module for module, place in modules.places(config).items()}
  weights: Flat = {}
  is_read: dict[str, bool] = {}
  for path, array in modules.flat(params).items():
    place = path.removesuffix("/ia3/scale")
    is_hidden = place.endswith("/mlp")
    module = known.get(f"{place}/wo" if is_hidden else place)
    if module is None or module in is_read:
      raise ValueError(
        "PEFT keeps one scale of what a projection gives or reads, and "
        f"{path} is none or a second one, so it cannot be written"
      )
    is_read[module] = is_hidden
    shape = (1, -1) if is_hidden else (-1, 1)
    weights[f"{OUTSIDE}{module}.ia3_l"] = np.reshape(array, shape)
  names = modules.short_names(is_read, known.values())
  # PEFT takes all modules of a name for the same.
  both = {name for module, name in names.items() if is_read[module]} & {
    name for module, name in names.items() if not is_read[module]
  }
  if both:
    names = {module: module for module in is_read}
  return {
    "peft_type": KIND,
    "target_modules": sorted(set(names.values())),
    "feedforward_modules": sorted(
      {names[module] for module, is_hidden in is_read.items() if is_hidden}
    ),
  }, weights
