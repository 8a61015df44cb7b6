"""TensorBoard's event files, for scalars.

A file is a sequence of records of TensorFlow's TFRecord format, each of which
holds a protocol buffer `Event`. Of both, what scalars need is a few bytes
around each. Written here, they take no library: tensorboardX would import
PyTorch where there is one, which takes seconds.
"""

import itertools
import os
import socket
import struct
import time

import numpy as np

from prompt_tuning import paths

# Wire types of protocol buffers.
_VARINT, _DOUBLE, _BYTES, _FLOAT = 0, 1, 2, 5
_STARTED = 1  # SessionLog.START.
_CASTAGNOLI = 0x82F63B78

_numbers = itertools.count()


class EventFile:
  """One new event file in a folder.

  Events wait until `flush`; the file appears with the first.
  """

  def __init__(self, folder: paths.PathLike, *, first_step: int | None = None):
    """Starts the file.

    Args:
      folder: Where it stands; made when it is needed.
      first_step: TensorBoard hides what other files have of this step and
        later; None for nothing.
    """
    name = (
      f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}"
      f".{os.getpid()}.{next(_numbers)}"
    )
    self._path = paths.as_path(folder) / name
    self._written = b""
    self._waiting = [_event(_field(3, b"brain.Event:2"), step=0)]
    if first_step is not None:
      started = _field(7, _key(1, _VARINT) + _varint(_STARTED))
      self._waiting.append(_event(started, step=first_step))

  def add(self, tag: str, value: float, step: int) -> None:
    """Takes a scalar."""
    with np.errstate(over="ignore"):  # What is too large is infinite.
      single = _key(2, _FLOAT) + np.asarray(value, "<f4").tobytes()
    summary = _field(1, _field(1, tag.encode()) + single)
    self._waiting.append(_event(_field(5, summary), step=step))

  def flush(self) -> None:
    """Writes the events that wait."""
    data, self._waiting = b"".join(map(_record, self._waiting)), []
    if not data:
      return
    self._path.parent.mkdir(parents=True, exist_ok=True)
    if paths.is_remote(self._path):
      # An object cannot be appended to.
      self._written += data
      paths.write_bytes(self._path, self._written)
    else:
      with paths.open_file(self._path, "ab") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _event(content: bytes, *, step: int) -> bytes:
  now = _key(1, _DOUBLE) + struct.pack("<d", time.time())
  return now + _key(2, _VARINT) + _varint(step) + content


def _field(number: int, content: bytes) -> bytes:
  return _key(number, _BYTES) + _varint(len(content)) + content


def _key(number: int, wire_type: int) -> bytes:
  return _varint(number << 3 | wire_type)


def _varint(number: int) -> bytes:
  """Returns seven bits a byte, the lowest first; all but the last have more."""
  assert number >= 0
  encoded = bytearray()
  while number > 0x7F:
    encoded.append(number & 0x7F | 0x80)
    number >>= 7
  return bytes([*encoded, number])


def _record(data: bytes) -> bytes:
  length = struct.pack("<Q", len(data))
  return length + _checksum(length) + data + _checksum(data)


def _checksum(data: bytes) -> bytes:
  """Returns CRC-32C, masked, as a record is checked by."""
  crc = 0xFFFFFFFF
  for byte in data:
    crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
  crc ^= 0xFFFFFFFF
  masked = (crc >> 15 | crc << 17) + 0xA282EAD8
  return struct.pack("<I", masked & 0xFFFFFFFF)


def _remainder(byte: int) -> int:
  for _ in range(8):
    byte = byte >> 1 ^ (_CASTAGNOLI if byte & 1 else 0)
  return byte


_TABLE = [_remainder(byte) for byte in range(256)]
