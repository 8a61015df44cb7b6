"""A prompt compiled once for as many batches as follow."""

import functools
from typing import Any

import jax

from prompt_tuning.model.compiled_prompt import CompiledPrompt
from prompt_tuning.model.t5 import T5
from prompt_tuning.types import Params


class PromptCompiler:
  """Compiles a model's prompt anew only when the parameters are others."""

  def __init__(self, model: T5):
    """Prepares `T5.compile_prompt`, compiled at its first call."""
    self._model = model
    # Kept, so that no other array can come to lie where one of them lay.
    self._leaves: list[Any] = []
    self._prompt: CompiledPrompt | None = None

  def __call__(self, params: Params) -> CompiledPrompt | None:
    """Returns the compiled prompt; None where slots stand in the inputs."""
    leaves = jax.tree.leaves(params)
    # What is no JAX array might have been changed in its place.
    known = len(leaves) == len(self._leaves) and all(
      new is old and isinstance(new, jax.Array)
      for new, old in zip(leaves, self._leaves, strict=True)
    )
    if not known:
      self._prompt = _compile(self._model, params)
      self._leaves = leaves
    return self._prompt


@functools.partial(jax.jit, static_argnums=0)
def _compile(model: T5, params: Params) -> Any:
  return model.apply({"params": params}, method="compile_prompt")


def of_rows(
  prompt: CompiledPrompt | None, prompt_index: Any
) -> CompiledPrompt | None:
  """Returns the prompt for a batch; see `CompiledPrompt.for_rows`."""
  return None if prompt is None else prompt.for_rows(prompt_index)
