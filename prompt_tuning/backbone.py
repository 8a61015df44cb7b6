"""A T5 with its vocabulary and its weights: what prompts are tuned for."""

import dataclasses

import jax
from absl import logging

from prompt_tuning import hub, paths
from prompt_tuning.checkpoints import huggingface
from prompt_tuning.checkpoints.load import (
  Loaded,
  load_backbone,
  read_architecture,
)
from prompt_tuning.data.vocabularies import (
  SentencePieceVocabulary,
  Vocabulary,
)
from prompt_tuning.model import t5
from prompt_tuning.model.config import Rematerialization, T5Config
from prompt_tuning.model.initialization import Initialization, give_heads_roles
from prompt_tuning.model.quantization import INT8
from prompt_tuning.types import Params, enum_member

_EXTRA_IDS = 100
_DTYPES = ("float32", "bfloat16", INT8)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Backbone:
  """Names a T5; `load` reads it.

  Attributes:
    config: The model's shape.
    vocabulary: What its embedding table's rows stand for.
    checkpoint: Folder of the weights (T5X, Hugging Face or a run of this
      project), or None, which is allowed only where a run starts from scratch.
    dtype: Type in which the weights are kept, "float32", "bfloat16", or "int8"
      (`model.quantization`), in which no matrix can be trained.
    initialization: How it begins where a run starts from scratch.

  Raises:
    ValueError: If the vocabulary has more ids than the table has rows, or the
      type or the initialization is unknown.
  """

  config: T5Config
  vocabulary: Vocabulary
  checkpoint: str | None = None
  dtype: str = "float32"
  initialization: Initialization | str = Initialization.T5

  def __post_init__(self):
    # A configuration file says "head_roles".
    object.__setattr__(
      self,
      "initialization",
      enum_member(
        Initialization, self.initialization, name="Backbone.initialization"
      ),
    )
    if self.dtype not in _DTYPES:
      raise ValueError(
        f"Backbone.dtype (BACKBONE_DTYPE) must be one of {', '.join(_DTYPES)}, "
        f"got {self.dtype!r}."
      )
    if self.vocabulary.vocab_size > self.config.vocab_size:
      raise ValueError(
        f"The vocabulary {self.vocabulary!r} has "
        f"{self.vocabulary.vocab_size} ids, but the model's embedding table "
        f"has {self.config.vocab_size} rows; use the vocabulary that the model "
        "was trained with."
      )

  @property
  def name(self) -> str:
    """What to call it in a log."""
    return self.checkpoint or "a T5 from scratch"

  def load(self, *, in_parts: bool = False) -> Loaded:
    """Reads the weights as the model takes them; a missing one is an error.

    Args:
      in_parts: Whether they are to be read when they are placed, see
        `load_backbone`.

    Raises:
      ValueError: If no checkpoint is named, it does not fit `config`, or it
        brings another vocabulary than `vocabulary`.
    """
    if self.checkpoint is None:
      raise ValueError(
        "No backbone checkpoint is given: set INITIAL_CHECKPOINT_PATH, or say "
        "FROM_SCRATCH = True to pre-train."
      )
    _check_vocabulary(self.checkpoint, self.vocabulary)
    logging.info("Reading the backbone from %s", self.checkpoint)
    return load_backbone(
      self.checkpoint,
      config=self.config,
      dtype=self.dtype,
      in_parts=in_parts,
    )

  def from_scratch(self, rng: jax.Array) -> Params:
    """Returns random weights, an entry a layer, float32 whatever `dtype` is."""
    one_by_one = dataclasses.replace(self.config, scan_layers=False)
    params = t5.init_params(t5.T5(one_by_one), rng)
    if self.initialization is Initialization.HEAD_ROLES:
      return give_heads_roles(params, self.config)
    return params


def of_checkpoint(
  checkpoint: str,
  *,
  vocabulary: Vocabulary | None = None,
  dtype: str = "float32",
  activation_dtype: str = "float32",
  dropout_rate: float = 0.0,
  scan_layers: bool = False,
  remat: Rematerialization | str = Rematerialization.NONE,
) -> Backbone:
  """Returns the T5 in a checkpoint, whose shape is read from it.

  Args:
    checkpoint: Folder of the weights, or `hf://org/name`.
    vocabulary: What the rows of its table stand for; by default what
      `vocabulary_of` finds.
    dtype: See `Backbone`.
    activation_dtype: See `T5Config.dtype`, as the others.
    dropout_rate: In training.
    scan_layers: Whether layers run in a scan.
    remat: What of a layer the backward pass computes anew.

  Raises:
    ValueError: There is no checkpoint of a T5, or no vocabulary.
  """
  config = dataclasses.replace(
    read_architecture(checkpoint),
    dropout_rate=dropout_rate,
    dtype=activation_dtype,
    scan_layers=scan_layers,
    remat=remat,
  )
  return Backbone(
    config=config,
    vocabulary=vocabulary or vocabulary_of(checkpoint),
    checkpoint=checkpoint,
    dtype=dtype,
  )


def _check_vocabulary(checkpoint: str, vocabulary: Vocabulary) -> None:
  """Checks ids against the vocabulary that lies beside the weights, if any.

  Files may differ in their bytes and agree in all ids, as those of T5 with and
  without sentinels do.
  """
  file = paths.as_path(hub.model_folder(checkpoint)) / hub.VOCABULARY
  if not paths.exists(file):
    return
  beside = SentencePieceVocabulary(str(file), extra_ids=0)
  for token_id in range(min(beside.vocab_size, vocabulary.vocab_size)):
    there, here = beside.piece(token_id), vocabulary.piece(token_id)
    if there != here:
      raise ValueError(
        f"{file} has {there!r} as id {token_id}, and {vocabulary!r} has "
        f"{here!r}: texts would be other tokens than the model knows. Give the "
        "vocabulary that it was trained with (VOCABULARY_PATH)"
      )


def vocabulary_of(
  checkpoint: str, *, path: str | None = None, extra_ids: int | None = None
) -> SentencePieceVocabulary:
  """Returns the vocabulary of a checkpoint.

  Args:
    checkpoint: Folder of the weights, or `hf://org/name`.
    path: Its SentencePiece model; by default the `spiece.model` that a folder
      of Hugging Face has beside the weights.
    extra_ids: Sentinels on top of the pieces; by default as many as the
      `tokenizer_config.json` there says, or 100, unless they are among the
      pieces, as mT5's are.

  Raises:
    ValueError: If there is none.
  """
  said = None
  if path is None:
    folder = paths.as_path(hub.model_folder(checkpoint))
    path, said = str(folder / hub.VOCABULARY), huggingface.extra_ids(folder)
    if not paths.exists(path):
      raise ValueError(
        f"{checkpoint} brings no {hub.VOCABULARY}, as a folder of Hugging Face "
        "does (but ByT5's); give the vocabulary that it was trained with: "
        "VOCABULARY_PATH"
      )
  if extra_ids is None:
    bare = SentencePieceVocabulary(path, extra_ids=0)
    pieces = map(bare.piece, range(bare.vocab_size))
    are_pieces = any("<extra_id_0>" in each for each in pieces)
    extra_ids = 0 if are_pieces else _EXTRA_IDS if said is None else said
  return SentencePieceVocabulary(path, extra_ids=extra_ids)
