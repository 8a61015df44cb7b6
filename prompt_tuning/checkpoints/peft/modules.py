"""The modules of transformers that something stands beside, by our names.

Here it stands below the layer that such a module is:
`encoder.block.0.layer.0.SelfAttention.q` is `encoder/layers_0/attention/query`.
"""

import dataclasses
import re
from collections.abc import Collection, Mapping
from typing import Any

from flax import traverse_util

from prompt_tuning.checkpoints import hf_names
from prompt_tuning.model import t5
from prompt_tuning.model.config import T5Config
from prompt_tuning.model.method import Method

OUTSIDE = "base_model.model."
"""In front of a module in the names of PEFT's weights."""
_NUMBERED = re.compile(r"/layers_\d+")

Flat = dict[str, Any]
"""Arrays by our path, such as `encoder/layers_0/attention/query/lora/up`, or by
PEFT's name of them."""


def places(config: T5Config) -> dict[str, str]:
  """Returns our path of the projection that each of their modules is.

  Args:
    config: The backbone's shape.
  """
  return {
    theirs.removesuffix(".weight"): ours.removesuffix("/kernel")
    for ours, theirs in hf_names.names(config).items()
    if ours.endswith("/kernel") and "/layers_" in ours
  }


def model(method: Method, config: T5Config) -> t5.T5:
  """Returns the T5 with a method, its parameters an entry a layer."""
  one_by_one = dataclasses.replace(config, scan_layers=False)
  return t5.T5(one_by_one, method=method)


def sites_as_targets(
  paths: Collection[str], name: str, usual: Any, config: T5Config
) -> str:
  """Returns what a method's `targets` say of the sites of its parameters.

  Args:
    paths: Of the parameters.
    name: What the hook of the method is called, such as "lora".
    usual: The method with its usual targets, whose words are preferred.
    config: The backbone's shape.
  """
  wanted = _sites(paths, name)
  abstract = t5.abstract_params(model(usual, config))
  if wanted == _sites(traverse_util.flatten_dict(abstract, sep="/"), name):
    return usual.targets
  return "|".join(sorted(map(re.escape, wanted)))


def _sites(paths: Collection[str], name: str) -> set[str]:
  found = set[str]()
  for path in paths:
    place, is_own, _ = path.rpartition(f"/{name}/")
    if is_own:
      site = _NUMBERED.sub("", place)
      # The hook of `mlp/hidden` stands below `mlp` itself.
      found.add(f"{site}/hidden" if site.endswith("/mlp") else site)
  return found


def short_names(
  targets: Collection[str], modules: Collection[str]
) -> dict[str, str]:
  """Returns what to call each target: its last part where that says it all.

  Args:
    targets: Some of the modules.
    modules: All of them.
  """
  letters = {_letter(module) for module in targets}
  reached = {module for module in modules if _letter(module) in letters}
  if reached == set(targets):
    return {module: _letter(module) for module in targets}
  return {module: module for module in targets}


def _letter(module: str) -> str:
  return module.rpartition(".")[2]


def unknown(name: str, kind: str, source: str) -> ValueError:
  """Returns the error of a weight that stands beside no projection."""
  return ValueError(
    f"{source}: {name} is no weight of {kind} beside a projection of this T5; "
    "choose the model and size that it was tuned on, or merge the adapter into "
    "its backbone by PEFT's `merge_and_unload()`"
  )


def flat(params: Mapping[str, Any]) -> Flat:
  """Returns parameters by their paths."""
  return traverse_util.flatten_dict(dict(params), sep="/")
