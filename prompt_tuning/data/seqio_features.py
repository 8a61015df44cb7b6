"""Rows with their slots, where seqio's own pipeline makes the batches.

T5X reads through it; this project's engine reads examples and lays them out
itself (`seqio_input`, `batches`).
"""

from collections.abc import Mapping
from typing import Any

import seqio
import tensorflow as tf

from prompt_tuning.data.features import FeatureBuilder

# What of an example is laid out, and what names it in an error.
_READ = ("inputs", "targets", "prompt_index", "whole", "inputs_pretokenized")


class PromptFeatureConverter(seqio.FeatureConverter):
  """Task features to model features, with slots among the inputs.

  Rows are laid out by `FeatureBuilder`, as under this project's own engine. It
  cuts by its own lengths, and only input text: T5X is to pass what it reads
  whole, with None as `task_feature_lengths`.
  """

  TASK_FEATURES: Mapping[str, Any] = {
    name: seqio.FeatureConverter.FeatureSpec(dtype=tf.int32)
    for name in ("inputs", "targets")
  }
  MODEL_FEATURES: Mapping[str, Any] = {
    name: seqio.FeatureConverter.FeatureSpec(dtype=dtype)
    for name, dtype in (
      ("encoder_input_tokens", tf.int32),
      ("decoder_input_tokens", tf.int32),
      ("decoder_target_tokens", tf.int32),
      ("decoder_loss_weights", tf.float32),
    )
  }
  PACKING_FEATURE_DTYPES: Any = None

  def __init__(
    self, builder: FeatureBuilder, *, pack: bool = False, **settings: Any
  ):
    """Takes what T5X passes to every converter.

    Raises:
      ValueError: If rows are to be packed.
    """
    if pack:
      raise ValueError(
        "DatasetConfig.pack is True, but under T5X each row holds one example "
        "with its prompt; set it to False, or pack with PACKED_LENGTH under "
        "python -m prompt_tuning.train."
      )
    super().__init__(pack=False, **settings)
    self._builder = builder

  def __call__(
    self,
    ds: tf.data.Dataset,
    task_feature_lengths: Mapping[str, int] | None = None,
  ) -> tf.data.Dataset:
    """Returns the rows of examples of any length; the builder's counts."""
    return self._convert_features(ds, task_feature_lengths or {})

  def get_model_feature_lengths(
    self, task_feature_lengths: Mapping[str, int]
  ) -> Mapping[str, int]:
    """Returns the tokens of each feature, slots included."""
    del task_feature_lengths
    targets = self._builder.lengths.targets
    lengths = dict.fromkeys(self.MODEL_FEATURES, targets)
    return lengths | {"encoder_input_tokens": self._builder.encoder_length}

  def _convert_features(
    self, ds: tf.data.Dataset, task_feature_lengths: Mapping[str, int]
  ) -> tf.data.Dataset:
    lengths = self.get_model_feature_lengths(task_feature_lengths)
    spec = {
      name: tf.TensorSpec([lengths[name]], feature.dtype)
      for name, feature in self.MODEL_FEATURES.items()
    }
    if self._builder.names_prompts:
      spec["prompt_index"] = tf.TensorSpec([], tf.int32)

    def lay_out(example):
      read = {name: example[name] for name in _READ if name in example}

      def place(*values):
        row = self._builder.batch([dict(zip(read, values, strict=True))])
        return [row[name][0] for name in spec]

      types = [each.dtype for each in spec.values()]
      features = tf.numpy_function(
        place, list(read.values()), types, stateful=False
      )
      return {
        name: tf.ensure_shape(feature, each.shape)
        for (name, each), feature in zip(spec.items(), features, strict=True)
      }

    # `place` depends on its example alone, so T5X may save where a run stands.
    options = tf.data.Options()
    options.experimental_external_state_policy = (
      tf.data.experimental.ExternalStatePolicy.IGNORE
    )
    return ds.map(lay_out).with_options(options)
