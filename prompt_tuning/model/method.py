"""Where a method of tuning enters the frozen network.

A method is a description: a frozen dataclass that the layers ask, at each of
their sites, for a module that changes what passes there. What it returns
declares its own parameters, which then stand below that layer's, stacked where
the layers are scanned. Without a method there is no module and no operation
more.

Sites are named as parameters are, without the number of the layer:
`encoder/attention/query`, `decoder/encoder_decoder_attention/out`,
`decoder/mlp/wo`. Each is the output of that projection, but for two:
`encoder/mlp/hidden` is what the last projection of a feed-forward layer reads,
and `encoder/residual` is the residual stream that a layer of the encoder reads.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

from flax import linen as nn
from jax import numpy as jnp

from prompt_tuning.model.config import T5Config
from prompt_tuning.types import Array, Initializer

_NUMBERED = re.compile(r"layers(_\d+)?")


class Method:
  """Changes nothing; methods override what they need.

  They are frozen dataclasses: a model must hash.
  """

  @property
  def ignores_prompt(self) -> bool:
    """Whether nothing of the soft prompt's own vectors is left."""
    return False

  def check_prompt(self, prompt: nn.Module | None) -> None:
    """Raises a ValueError if the method does not go with a soft prompt.

    Args:
      prompt: A `Prompt` or `PromptBank`; None for none.
    """
    del prompt

  def hook(self, site: str) -> nn.Module | None:
    """Returns `(y, x) -> y` for a site, None to leave it as it is.

    Args:
      site: See above. `y` is what passes there; `x` is what the projection
        read, None at `mlp/hidden`, and at `residual` the slot of each position
        [B, L], below 0 where there is none.
    """
    del site
    return None

  def prefix(self, config: T5Config) -> nn.Module | None:
    """Returns `() -> CompiledPrompt` that inputs and targets read.

    It is computed once for all examples. Its parameters are the model's
    `prefix`.

    Args:
      config: The model's shape.
    """
    del config
    return None

  def head(self, config: T5Config) -> nn.Module | None:
    """Returns `(logits, hidden) -> logits`, None to leave the logits.

    Its parameters are the model's `head`.

    Args:
      config: The model's shape.
    """
    del config
    return None

  def resolved(self, encode: Callable[[str], Sequence[int]]) -> "Method":
    """Returns the method with what it says in words as ids.

    Args:
      encode: Splits text into ids of the embedding table.
    """
    del encode
    return self


def hooked(module: Any, y: Array, x: Array | None, name: str = "") -> Array:
  """Returns what passes a site, as the method of the module changes it.

  It is called from a compact method.

  Args:
    module: A layer; its `method` is asked.
    y: What passes.
    x: What it was computed from.
    name: The site within the module, the module itself by default.
  """
  if module.method is None:
    return y
  parts = [*module.path, *([name] if name else [])]
  site = "/".join(part for part in parts if not _NUMBERED.fullmatch(part))
  hook = module.method.hook(site)
  return y if hook is None else hook(y, x)


def parameter(
  module: nn.Module,
  name: str,
  shape: tuple[int, ...],
  *,
  initializer: Initializer = nn.initializers.zeros,
) -> Array:
  """Declares a float32 parameter of a hook and returns it.

  It is small beside what it is added to, so each device has all of it.

  Args:
    module: The hook.
    name: What to call it; not `kernel`, which a backbone may keep in int8.
    shape: Its shape.
    initializer: Gives the value to start from.
  """
  boxed = nn.with_logical_partitioning(initializer, (None,) * len(shape))
  # Flax takes the box with the axis names off.
  value: Any = module.param(name, boxed, shape, jnp.float32)
  return value
