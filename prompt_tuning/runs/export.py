"""A backbone written in a format that others read."""

import enum

from absl import logging

from prompt_tuning import paths
from prompt_tuning.backbone import Backbone
from prompt_tuning.checkpoints import huggingface, t5x
from prompt_tuning.data.vocabularies import SentencePieceVocabulary
from prompt_tuning.methods.merging import merge
from prompt_tuning.model import quantization
from prompt_tuning.model.stack import unstack_layers
from prompt_tuning.runs.network import identity_of, merged
from prompt_tuning.runs.tuned import Tuned, read_tuned
from prompt_tuning.types import Params, enum_member


class ExportFormat(enum.Enum):
  """What to write.

  T5X is its legacy layout with a folder for each array, T5X_SINGLE_FILE the
  same with all arrays in one file. HUGGING_FACE has the SentencePiece model of
  the vocabulary beside the weights, if it has one.
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
  tuned_dir: str | None = None,
) -> None:
  """Reads the weights of a backbone and writes them elsewhere.

  Args:
    backbone: What to read, such as the MODEL_DIR of an LM adaptation.
    output_dir: Where to; T5X's formats make `checkpoint_<step>` in it.
    format: What to write.
    step: The training step to name, for T5X's formats.
    dtype: The type to store, "float32" or "bfloat16"; Hugging Face's is that of
      the backbone.
    tuned_dir: What is to be merged into it, LoRA, IA3 or weights of its own:
      the MODEL_DIR of a run, or a folder of PEFT.

  Raises:
    ValueError: If the backbone does not fit or is kept in int8, the format is
      unknown, or what was tuned belongs to another backbone or does not merge.
    FileExistsError: If the output exists.
  """
  format = enum_member(ExportFormat, format, name="export.format")
  if backbone.dtype == quantization.INT8:
    raise ValueError(
      "BACKBONE_DTYPE is 'int8', for which neither format has a word; export "
      "from 'float32' or 'bfloat16'."
    )
  loaded = backbone.load()
  params = unstack_layers(loaded.params)
  tuned = read_tuned(tuned_dir, config=backbone.config)
  if tuned is not None:
    tuned.check_backbone(identity_of(loaded.fingerprint, backbone.dtype))
    params = _with_tuned(params, tuned)
  if format is ExportFormat.HUGGING_FACE:
    vocabulary, pieces = backbone.vocabulary, None
    if isinstance(vocabulary, SentencePieceVocabulary):
      pieces = paths.read_bytes(vocabulary.path)
    huggingface.write(
      backbone.config,
      params,
      output_dir,
      pieces=pieces,
      extra_ids=vocabulary.extra_ids,
    )
  else:
    storage = t5x.Storage.ZARR
    if format is ExportFormat.T5X_SINGLE_FILE:
      storage = t5x.Storage.MSGPACK
    t5x.save(params, output_dir, step=step, storage=storage, dtype=dtype)
  logging.info("Wrote %s to %s.", backbone.name, output_dir)


def _with_tuned(params: Params, tuned: Tuned) -> Params:
  if tuned.prompt is not None:
    raise ValueError(
      f"{tuned.source} holds a soft prompt, which no weight can take up; it is "
      "used from its own file"
    )
  if tuned.method is None:  # Weights of the backbone itself.
    return merged(params, tuned.read())
  return merge(tuned.method, tuned.read(), params)
