"""The training objective on held-out text."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import jax

from prompt_tuning.data.batches import Batches
from prompt_tuning.data.features import FeatureBuilder, FeatureLengths
from prompt_tuning.data.inputs import Inputs
from prompt_tuning.data.vocabularies import Vocabulary
from prompt_tuning.model.t5 import T5
from prompt_tuning.prompts.layout import Layout
from prompt_tuning.train.step import batch_loss
from prompt_tuning.types import Batch, Params

_sums = jax.jit(batch_loss, static_argnums=0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeldOutLoss:
  """Measures loss and token accuracy on the same batches each time.

  Attributes:
    inputs: What to read, other text than is trained on; several are measured
      one by one.
    batch_size: B.
    num_batches: How many batches are read, of each.
    seed: Decides which.
  """

  inputs: Inputs | Sequence[Inputs]
  batch_size: int
  num_batches: int = 16
  seed: int = 42

  @property
  def parts(self) -> tuple[Inputs, ...]:
    """The inputs, one or several."""
    if isinstance(self.inputs, Sequence):
      return tuple(self.inputs)
    return (self.inputs,)

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
    without z-loss, and `<name>/token_accuracy`, percent, of each; and to
    `mean/loss` over all.
    """
    del output_dir
    held_out = {
      part.name: self._batches(part, model, vocabulary, lengths, layout)
      for part in self.parts
    }

    def measure(params: Params, step: int) -> Mapping[str, float]:
      del step
      asked = {
        name: [_sums(model, params, batch) for batch in batches]
        for name, batches in held_out.items()
      }
      metrics: dict[str, float] = {}
      for name, sums in jax.device_get(asked).items():
        tokens = sum(float(s.num_tokens) for s in sums)
        correct = sum(float(s.num_correct) for s in sums)
        metrics[f"{name}/loss"] = sum(float(s.loss) for s in sums) / tokens
        metrics[f"{name}/token_accuracy"] = 100.0 * correct / tokens
      losses = [metrics[f"{name}/loss"] for name in held_out]
      return metrics | {"mean/loss": sum(losses) / len(losses)}

    return measure

  def _batches(
    self,
    inputs: Inputs,
    model: T5,
    vocabulary: Vocabulary,
    lengths: FeatureLengths,
    layout: Layout,
  ) -> list[Batch]:
    stream = inputs.stream(vocabulary, lengths, seed=self.seed)
    builder = FeatureBuilder(
      lengths,
      vocab_size=model.config.vocab_size,
      layout=layout,
      num_prompts=model.num_prompts,
      truncate_targets=inputs.truncate_targets,
    )
    batches = Batches(stream, builder, batch_size=self.batch_size)
    return [next(batches) for _ in range(self.num_batches)]
