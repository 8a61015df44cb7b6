"""A job's batches as the library's data side lays them out."""

import numpy as np

from benchmarks import jobs
from benchmarks.jobs import Job
from prompt_tuning.data.features import FeatureBuilder, FeatureLengths
from prompt_tuning.data.packing import PackedFeatureBuilder, Packing
from prompt_tuning.prompts import layout as layout_lib
from prompt_tuning.prompts.layout import Layout
from prompt_tuning.prompts.spec import PromptSpec

Features = dict[str, np.ndarray]


def make_features(
  job: Job, prompt: PromptSpec | None, *, rows_multiple: int = 1
) -> list[Features]:
  """Returns the batches.

  Args:
    job: Says which, and whether they are packed.
    prompt: The soft prompt; None for none.
    rows_multiple: What the rows of a packed batch divide by: devices times
      microbatches.
  """
  layout = layout_lib.prefix(0) if prompt is None else prompt.layout(_no_words)
  return [
    _builder(job, batch, layout, rows_multiple).batch(
      [
        {"inputs": inputs[:length], "targets": targets}
        for inputs, targets, length in zip(
          batch.inputs, batch.targets, batch.lengths, strict=True
        )
      ]
    )
    for batch in jobs.make_batches(job)
  ]


def shape_of(batch: Features) -> tuple[tuple[int, ...], ...]:
  """Returns what a step is compiled for: packed targets vary too."""
  return tuple(
    batch[name].shape
    for name in ("encoder_input_tokens", "decoder_input_tokens")
  )


def _builder(
  job: Job, batch: jobs.Batch, layout: Layout, rows_multiple: int
) -> FeatureBuilder:
  # A packed row must hold the longest example, not the longest padded one.
  inputs = batch.lengths.max() if job.packed_length else batch.inputs.shape[1]
  lengths = FeatureLengths(inputs=int(inputs), targets=batch.targets.shape[1])
  vocab_size = job.sizes["vocab_size"]
  if not job.packed_length:
    return FeatureBuilder(lengths, vocab_size=vocab_size, layout=layout)
  return PackedFeatureBuilder(
    lengths,
    vocab_size=vocab_size,
    layout=layout,
    packing=Packing(row_length=job.packed_length, rows_multiple=rows_multiple),
  )


def _no_words(text: str) -> list[int]:
  raise AssertionError(f"{text!r}: a prefix has no words to encode.")
