"""LoRA as PEFT keeps it: `lora_A` [R, I] and `lora_B` [O, R] of a module."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from prompt_tuning.checkpoints.peft import files, modules
from prompt_tuning.checkpoints.peft.modules import OUTSIDE, Flat
from prompt_tuning.methods.lora import LoRA
from prompt_tuning.model.config import T5Config
from prompt_tuning.types import Params

KIND = "LORA"
_PARTS = {"A.weight": "down", "B.weight": "up"}
# What changes the numbers and has no counterpart here, with what may be said.
_REFUSED: dict[str, tuple[Any, ...]] = {
  "use_dora": (None, False),
  "bias": (None, "none"),
  "lora_bias": (None, False),
  "modules_to_save": (None, []),
  "rank_pattern": (None, {}),
  "alpha_pattern": (None, {}),
  "layer_replication": (None, []),
  "trainable_token_indices": (None, [], {}),
  # Others change the backbone as well.
  "init_lora_weights": (None, True, False, "gaussian", "orthogonal"),
}


def read(
  settings: Mapping[str, Any],
  weights: Mapping[str, np.ndarray],
  config: T5Config,
  source: str,
) -> tuple[LoRA, Flat]:
  """Returns the method and its parameters; see `methods.read`."""
  for name, allowed in _REFUSED.items():
    if settings.get(name) not in allowed:
      raise ValueError(
        f"{source}: {name} is {settings[name]!r}, which has no counterpart "
        "here. Merge the adapter into its backbone by PEFT's "
        "`merge_and_unload()` and load that"
      )
  rank = files.count(settings, "r", source)
  alpha = settings.get("lora_alpha")
  if isinstance(alpha, bool) or not isinstance(alpha, int | float):
    raise ValueError(
      f"{source}: lora_alpha in {files.CONFIG} is {alpha!r} where a number is "
      "expected"
    )
  if settings.get("use_rslora"):
    alpha = alpha * rank**0.5  # Divided by the root of the rank there.
  places = modules.places(config)
  flat: Flat = {}
  for name, array in weights.items():
    module, _, leaf = name.removeprefix(OUTSIDE).rpartition(".lora_")
    if leaf not in _PARTS or module not in places:
      raise modules.unknown(name, KIND, source)
    flat[f"{places[module]}/lora/{_PARTS[leaf]}"] = array.T
  for path in flat:
    place, _, part = path.rpartition("/")
    other = {"down": "up", "up": "down"}[part]
    if f"{place}/{other}" not in flat:
      letter = "B" if other == "up" else "A"
      raise ValueError(
        f"{source}: lora_{letter} of {place.removesuffix('/lora')} is missing; "
        "the adapter is not whole, copy it again"
      )
  targets = modules.sites_as_targets(flat, "lora", LoRA(), config)
  return LoRA(rank=rank, alpha=float(alpha), targets=targets), flat


def write(
  method: LoRA, params: Params, config: T5Config
) -> tuple[dict[str, Any], Flat]:
  """Returns the configuration and the weights; see `methods.write`."""
  known = {place: module for module, place in modules.places(config).items()}
  letters = {ours: theirs for theirs, ours in _PARTS.items()}
  weights: Flat = {}
  targets = set[str]()
  for path, array in modules.flat(params).items():
    place, _, leaf = path.rpartition("/lora/")
    if place not in known:
      raise ValueError(
        f"PEFT keeps LoRA beside projections, and {path} is beside none, so it "
        f"cannot be written (LoRA.targets is {method.targets!r})"
      )
    targets.add(known[place])
    weights[f"{OUTSIDE}{known[place]}.lora_{letters[leaf]}"] = np.transpose(
      array
    )
  names = modules.short_names(targets, known.values())
  return {
    "peft_type": KIND,
    "r": method.rank,
    "lora_alpha": method.alpha,
    "lora_dropout": 0.0,
    "bias": "none",
    "target_modules": sorted(set(names.values())),
  }, weights
