"""A backbone written in a format that others read."""

import enum

from absl import logging

from prompt_tuning.backbone import Backbone
from prompt_tuning.checkpoints import huggingface, t5x
from prompt_tuning.model import quantization
from prompt_tuning.model.stack import unstack_layers
from prompt_tuning.types import enum_member


class ExportFormat(enum.Enum):
  """What to write.

  T5X is its legacy layout with a folder for each array, T5X_SINGLE_FILE the
  same with all arrays in one file.
  """

  T5X = "t5x"
  T5X_SINGLE_FILE = "t5x_single_file"
  HUGGING_FACE = "huggingface"


def export(
  *,
  backbone: Backbone,
  output_dir: str,
  format: ExportFormat | str = ExportFormat.T5X,
  step: int = 0,
  dtype: str = "float32",
) -> None:
  """Reads the weights of a backbone and writes them elsewhere.

  Args:
    backbone: What to read, such as the MODEL_DIR of an LM adaptation.
    output_dir: Where to; T5X's formats make `checkpoint_<step>` in it.
    format: What to write.
    step: The training step to name, for T5X's formats.
    dtype: The type to store, "float32" or "bfloat16"; Hugging Face's is that of
      the backbone.

  Raises:
    ValueError: If the backbone does not fit or is kept in int8, or the format
      is unknown.
    FileExistsError: If the output exists.
  """
  format = enum_member(ExportFormat, format, name="export.format")
  if backbone.dtype == quantization.INT8:
    raise ValueError(
      "BACKBONE_DTYPE is 'int8', for which neither format has a word; export "
      "from 'float32' or 'bfloat16'."
    )
  params = unstack_layers(backbone.load().params)
  if format is ExportFormat.HUGGING_FACE:
    huggingface.write(backbone.config, params, output_dir)
  else:
    storage = t5x.Storage.ZARR
    if format is ExportFormat.T5X_SINGLE_FILE:
      storage = t5x.Storage.MSGPACK
    t5x.save(params, output_dir, step=step, storage=storage, dtype=dtype)
  logging.info("Wrote %s to %s.", backbone.name, output_dir)
