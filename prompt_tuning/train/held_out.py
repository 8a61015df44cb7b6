"""The training objective on held-out text."""

import dataclasses
from collections.abc import Callable, Mapping

import jax

from prompt_tuning.data.batches import Batches
from prompt_tuning.data.features import FeatureBuilder, FeatureLengths
from prompt_tuning.data.inputs import Inputs
from prompt_tuning.data.vocabularies import Vocabulary
from prompt_tuning.model.t5 import T5
from prompt_tuning.prompts.layout import Layout
from prompt_tuning.train.step import batch_loss
from prompt_tuning.types import Params

_sums = jax.jit(batch_loss, static_argnums=0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeldOutLoss:
  """Measures loss and token accuracy on the same batches each time.

  Attributes:
    inputs: What to read; other text than is trained on.
    batch_size: B.
    num_batches: How many batches are read.
    seed: Decides which.
  """

  inputs: Inputs
  batch_size: int
  num_batches: int = 16
  seed: int = 42

  def prepare(
    self,
    model: T5,
    *,
    vocabulary: Vocabulary,
    lengths: FeatureLengths,
    layout: Layout,
    output_dir: str,
  ) -> Callable[[Params, int], Mapping[str, float]]:
    """Reads the batches; returns what measures parameters at a step.

    The result maps all parameters and the step to `<name>/loss`, nats a token
    without z-loss, and `<name>/token_accuracy`, percent.
    """
    del output_dir
    stream = self.inputs.stream(vocabulary, lengths, seed=self.seed)
    builder = FeatureBuilder(
      lengths,
      vocab_size=model.config.vocab_size,
      layout=layout,
      num_prompts=model.num_prompts,
      truncate_targets=self.inputs.truncate_targets,
    )
    batches = Batches(stream, builder, batch_size=self.batch_size)
    held_out = [next(batches) for _ in range(self.num_batches)]

    def measure(params: Params, step: int) -> Mapping[str, float]:
      del step
      asked = [_sums(model, params, batch) for batch in held_out]
      sums = jax.device_get(asked)
      tokens = sum(float(s.num_tokens) for s in sums)
      correct = sum(float(s.num_correct) for s in sums)
      name = self.inputs.name
      return {
        f"{name}/loss": sum(float(s.loss) for s in sums) / tokens,
        f"{name}/token_accuracy": 100.0 * correct / tokens,
      }

    return measure
