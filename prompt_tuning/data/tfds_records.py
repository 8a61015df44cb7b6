"""Records of TensorFlow Datasets, as plain Python.

TensorFlow is imported when they are read.
"""

import contextlib
import dataclasses
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

_SCHEME = "tfds:"
_FORM = re.compile(r"(?P<name>[\w/-]+)(?::(?P<version>[\d.]+))?@(?P<split>\S+)")


@dataclasses.dataclass(frozen=True)
class TfdsSplit:
  """A split of a data set.

  Attributes:
    name: Name, configuration and version, such as "c4/en:2.2.0".
    split: As TFDS writes it: "train", "train[:1%]", "train+validation".
    data_dir: Where TFDS has it or puts it; None where --tfds_data_dir says, or
      else in TFDS's own folder.
  """

  name: str
  split: str
  data_dir: str | None = None

  @classmethod
  def parse(cls, text: str) -> "TfdsSplit | None":
    """Reads "tfds:c4/en:2.2.0@train"; returns None of what is no such text.

    Raises:
      ValueError: It begins so and names no version or no split.
    """
    if not text.startswith(_SCHEME):
      return None
    match = _FORM.fullmatch(text.removeprefix(_SCHEME))
    if match is None or match["version"] is None:
      raise ValueError(
        f"{text!r} is no split of TFDS; write name, version and split, such as "
        "tfds:c4/en:2.2.0@train or tfds:c4/en:2.2.0@train[:1%]"
      )
    return cls(f"{match['name']}:{match['version']}", match["split"])

  def __str__(self):
    """Returns the text that `parse` reads."""
    return f"{_SCHEME}{self.name}@{self.split}"

  def records(self) -> Iterator[dict[str, Any]]:
    """Yields the records in TFDS's order, preparing the data set if need be."""
    import tensorflow as tf
    import tensorflow_datasets as tfds

    # TensorFlow reads text here, and would take the accelerator's memory. Where
    # it runs already, its devices can no longer be changed.
    with contextlib.suppress(RuntimeError):
      tf.config.set_visible_devices([], "GPU")
    # Decorators hide its parameters from the type checker.
    builder: Any = tfds.builder(self.name, data_dir=self.data_dir)
    builder.download_and_prepare()
    dataset = builder.as_dataset(split=self.split, shuffle_files=False)
    for record in tfds.as_numpy(dataset):
      yield plain(record)


def plain(value: Any) -> Any:
  """Returns str for bytes, and plain numbers, lists and dicts."""
  if isinstance(value, Mapping):
    return {name: plain(each) for name, each in value.items()}
  if isinstance(value, bytes):
    return value.decode("utf-8")
  if isinstance(value, np.ndarray | np.generic):
    value = value.tolist()
  return list(map(plain, value)) if isinstance(value, list) else value
