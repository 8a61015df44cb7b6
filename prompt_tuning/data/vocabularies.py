"""Text to token ids and back, without TensorFlow.

Both vocabularies keep T5's three fixed ids (padding 0, end of sequence 1,
unknown 2) and put the extra ids (sentinels of span corruption) on top: the
k-th, `<extra_id_k>`, is `vocab_size - 1 - k`. Their ids equal those of seqio's
vocabularies of the same names.
"""

import abc
import functools
import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import sentencepiece

from prompt_tuning import hub, paths
from prompt_tuning.types import EOS_ID, PAD_ID, UNK_ID

_NUM_SPECIAL_IDS = 3
_NUM_BYTES = 256
# With a word mark in front, as seqio adds them: a sentinel starts a word.
_EXTRA_ID = "\u2581<extra_id_{}>"


class Vocabulary(Protocol):
  """What the rest of the library asks of a vocabulary."""

  pad_id: int
  eos_id: int
  unk_id: int

  @property
  def vocab_size(self) -> int:
    """The number of ids, extra ids included."""
    ...

  @property
  def extra_ids(self) -> int:
    """The number of sentinels on top."""
    ...

  @property
  def fingerprint(self) -> str:
    """A short digest of all that decides the ids."""
    ...

  def encode(self, text: str) -> list[int]:
    """Returns the ids of `text`, without an end of sequence."""
    ...

  def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
    """Returns the ids of every text."""
    ...

  def decode(self, ids: Iterable[int]) -> str:
    """Returns the text of `ids` up to the first end of sequence."""
    ...

  def piece(self, token_id: int) -> str:
    """Returns what one id stands for, with its word mark if it has one."""
    ...

  def seqio(self) -> Any:
    """Returns the equal seqio vocabulary, for seqio Tasks."""
    ...


class _SharedBehaviour(abc.ABC):
  """Identity by content, the fixed ids, and cutting at the end of sequence."""

  pad_id = PAD_ID
  eos_id = EOS_ID
  unk_id = UNK_ID

  def __init__(self, extra_ids: int):
    if isinstance(extra_ids, bool) or not isinstance(extra_ids, int):
      raise ValueError(
        f"extra_ids must be an integer of at least 0, got {extra_ids!r}"
      )
    if extra_ids < 0:
      raise ValueError(f"extra_ids must be at least 0, got {extra_ids}")
    self._extra_ids = extra_ids

  @property
  def extra_ids(self) -> int:
    """The number of sentinels on top."""
    return self._extra_ids

  @property
  @abc.abstractmethod
  def fingerprint(self) -> str:
    """A short digest of all that decides the ids."""

  def __eq__(self, other: object) -> bool:
    if not isinstance(other, _SharedBehaviour):
      return NotImplemented
    return self.fingerprint == other.fingerprint

  def __hash__(self) -> int:
    return hash(self.fingerprint)

  def _until_eos(self, ids: Iterable[int], first_unknown: int) -> list[int]:
    """Cuts after the first end of sequence; too large ids become unknown."""
    kept = []
    for token in ids:
      kept.append(int(token) if token < first_unknown else self.unk_id)
      if token == self.eos_id:
        break
    return kept


class SentencePieceVocabulary(_SharedBehaviour):
  """The pieces of a SentencePiece model, and `extra_ids` sentinels.

  Two vocabularies are equal when their models have the same bytes and they have
  as many extra ids, wherever the files lie.
  """

  def __init__(self, path: str, *, extra_ids: int = 100):
    """Reads and checks the model.

    Args:
      path: A SentencePiece model file, local or `gs://`, or a model of the
        hub, `hf://org/name`.
      extra_ids: Sentinels on top of the model's pieces; T5 has 100.

    Raises:
      ValueError: `path` cannot be read, is no SentencePiece model, or its model
        has other ids for padding, end of sequence or unknown than 0, 1, 2.
    """
    super().__init__(extra_ids)
    self.path = hub.vocabulary_file(str(path))
    model = _read(self.path)
    self._processor = _processor(model, extra_ids, self.path)
    self._digest = hashlib.sha256(model).hexdigest()

  def __reduce__(self):
    # The processor is not picklable, and is cheap to read again.
    return functools.partial(type(self), extra_ids=self.extra_ids), (self.path,)

  def __repr__(self) -> str:
    return f"SentencePieceVocabulary({self.path!r}, extra_ids={self.extra_ids})"

  @property
  def vocab_size(self) -> int:
    """Pieces of the model and extra ids."""
    return self._processor.get_piece_size()

  @property
  def fingerprint(self) -> str:
    """A digest of the model's bytes, with the number of extra ids."""
    return f"sentencepiece-{self._digest[:16]}-{self.extra_ids}"

  def encode(self, text: str) -> list[int]:
    """Returns the ids of `text`, without an end of sequence."""
    return self._processor.encode(text)

  def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
    """Returns the ids of every text, using all CPU cores."""
    return self._processor.encode(list(texts))

  def decode(self, ids: Iterable[int]) -> str:
    """Returns the text of `ids` up to the first end of sequence."""
    return self._processor.decode(self._until_eos(ids, self.vocab_size))

  def piece(self, token_id: int) -> str:
    """Returns the piece of an id; its word mark is U+2581."""
    return self._processor.id_to_piece(int(token_id))

  def seqio(self) -> Any:
    """Returns the equal seqio vocabulary, for seqio Tasks."""
    import seqio

    return seqio.SentencePieceVocabulary(self.path, extra_ids=self.extra_ids)


class ByteVocabulary(_SharedBehaviour):
  """UTF-8 bytes (Xue et al., 2022, ByT5): byte b is id b + 3.

  ByT5 itself has no extra ids and uses the last 100 bytes as sentinels; those
  never occur in UTF-8 text of the languages that it was trained on.
  """

  def __init__(self, *, extra_ids: int = 0):
    """Makes the vocabulary.

    Args:
      extra_ids: Sentinels above the bytes; 0 is ByT5.
    """
    super().__init__(extra_ids)

  def __repr__(self) -> str:
    return f"ByteVocabulary(extra_ids={self.extra_ids})"

  @property
  def vocab_size(self) -> int:
    """Three fixed ids, 256 bytes and the extra ids."""
    return _NUM_SPECIAL_IDS + _NUM_BYTES + self.extra_ids

  @property
  def fingerprint(self) -> str:
    """The name of the vocabulary, with the number of extra ids."""
    return f"bytes-{self.extra_ids}"

  def encode(self, text: str) -> list[int]:
    """Returns the ids of `text`, without an end of sequence."""
    return [byte + _NUM_SPECIAL_IDS for byte in text.encode("utf-8")]

  def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
    """Returns the ids of every text."""
    return [self.encode(text) for text in texts]

  def decode(self, ids: Iterable[int]) -> str:
    """Returns the text of `ids` up to the first end of sequence.

    Fixed ids and extra ids are left out, and so are bytes that are not UTF-8.
    """
    top = _NUM_SPECIAL_IDS + _NUM_BYTES
    kept = self._until_eos(ids, top)
    text = bytes(i - _NUM_SPECIAL_IDS for i in kept if i >= _NUM_SPECIAL_IDS)
    return text.decode("utf-8", errors="ignore")

  def piece(self, token_id: int) -> str:
    """Returns the byte of an id, as `0x61`."""
    return f"0x{token_id - _NUM_SPECIAL_IDS:02x}"

  def seqio(self) -> Any:
    """Returns the equal seqio vocabulary, for seqio Tasks."""
    import seqio

    return seqio.ByteVocabulary(extra_ids=self.extra_ids)


def _read(path: str) -> bytes:
  try:
    return paths.read_bytes(path)
  except OSError as error:
    raise ValueError(
      f"the SentencePiece model {path!r} cannot be read: {error}"
    ) from error


def _processor(
  model: bytes, extra_ids: int, path: str
) -> sentencepiece.SentencePieceProcessor:
  """Loads a model with its extra ids added, and checks the fixed ids."""
  try:
    processor = sentencepiece.SentencePieceProcessor()
    processor.load_from_serialized_proto(_with_extra_ids(model, extra_ids))
  except Exception as error:  # The binding raises bare RuntimeErrors.
    raise ValueError(
      f"{path!r} is not a SentencePiece model ({len(model)} bytes): {error}"
    ) from error
  found = (processor.pad_id(), processor.eos_id(), processor.unk_id())
  if found != (PAD_ID, EOS_ID, UNK_ID):
    raise ValueError(
      f"the SentencePiece model {path!r} has ids {found} for padding, end of "
      f"sequence and unknown where T5 needs {(PAD_ID, EOS_ID, UNK_ID)}; train "
      "it with pad_id=0, eos_id=1, unk_id=2, bos_id=-1"
    )
  return processor


def _with_extra_ids(model: bytes, extra_ids: int) -> bytes:
  # Generated code, whose names no type checker sees.
  from sentencepiece import sentencepiece_model_pb2 as generated

  protos: Any = generated
  proto = protos.ModelProto.FromString(model)
  if not proto.pieces:
    raise ValueError("it holds no pieces")
  for index in reversed(range(extra_ids)):
    proto.pieces.add(
      piece=_EXTRA_ID.format(index),
      score=0.0,
      type=protos.ModelProto.SentencePiece.USER_DEFINED,
    )
  return proto.SerializeToString()
