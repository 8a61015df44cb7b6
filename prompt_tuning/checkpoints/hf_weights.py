"""The weight files of Hugging Face folders: safetensors or PyTorch's own."""

import functools
import json
import os
import pathlib
import pickle
import re
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from prompt_tuning import paths
from prompt_tuning.checkpoints.safetensors_file import open_safetensors
from prompt_tuning.checkpoints.stored import Places, Stored

_SAFETENSORS = "model.safetensors"
_PYTORCH = "pytorch_model.bin"
# What PyTorch's loader says of a pickle that wants more than tensors.
_CALLED = re.compile(r"GLOBAL ([\w.]+)")


def open_folder(folder: paths.PathLike) -> dict[str, Stored]:
  """Opens all weights of a folder, split over several files or not.

  Args:
    folder: The folder.

  Returns:
    Each weight, to be read, by its name in the file.

  Raises:
    ValueError: If there are no weights, a file is truncated or corrupt, or one
      of PyTorch's is not local.
    ImportError: If the package that reads the format is missing.
  """
  openers = {_SAFETENSORS: open_safetensors, _PYTORCH: open_pytorch}
  for name, opener in openers.items():
    files = _files(folder, name)
    if files:
      weights: dict[str, Stored] = {}
      for file in files:
        weights |= opener(file)
      return weights
  raise ValueError(
    f"{os.fspath(folder)} holds neither {_SAFETENSORS} nor {_PYTORCH}; it "
    f"holds {', '.join(paths.list_dir(folder)) or 'nothing'}."
  )


def write(folder: paths.PathLike, weights: Mapping[str, np.ndarray]) -> None:
  """Writes all weights into one safetensors file of a folder; see `write_file`.

  Raises:
    ImportError: If the package safetensors is missing.
  """
  write_file(paths.as_path(folder) / _SAFETENSORS, weights)


def write_file(path: paths.PathLike, weights: Mapping[str, np.ndarray]) -> None:
  """Writes a safetensors file.

  Args:
    path: Where to.
    weights: Contiguous arrays by name.

  Raises:
    ImportError: If the package safetensors is missing.
  """
  library = _import_safetensors()
  # transformers refuses a file that does not name the framework.
  packed = library.numpy.save(dict(weights), metadata={"format": "pt"})
  paths.write_bytes(path, packed)


def _files(folder: paths.PathLike, name: str) -> list[pathlib.Path]:
  folder = paths.as_path(folder)
  if (folder / name).exists():
    return [folder / name]
  index = folder / f"{name}.index.json"
  if not index.exists():
    return []
  try:
    read = json.loads(paths.read_text(index))
  except ValueError as error:
    raise _broken(index, error) from error
  match read:
    case {"weight_map": {} as shards} if all(
      isinstance(shard, str) for shard in shards.values()
    ):
      return [folder / shard for shard in sorted(set(shards.values()))]
  raise _broken(index, "no weight_map says which file each weight is in")


def open_pytorch(path: pathlib.Path) -> dict[str, Stored]:
  """Opens a file of PyTorch's, by a loader that runs no code.

  Raises:
    ValueError: It is missing, truncated or corrupt, would run code, or is not
      local.
    ImportError: If PyTorch is missing.
  """
  if paths.is_remote(path):
    # It is mapped into memory, which takes a file.
    raise ValueError(
      f"Files of PyTorch are read from local disk only; copy {os.fspath(path)} "
      f"to one, or convert it to {_SAFETENSORS}."
    )
  try:
    import torch  # pyright: ignore[reportMissingImports]
  except ImportError as error:
    raise ImportError(
      f"Reading {path} needs PyTorch (`pip install torch`), or convert it to "
      f"{_SAFETENSORS}."
    ) from error
  try:
    tensors = torch.load(
      path,
      map_location="cpu",
      weights_only=True,  # An ordinary pickle could run any code.
      mmap=zipfile.is_zipfile(path),  # Before version 1.6 files were no zip.
    )
  except pickle.UnpicklingError as error:
    called = _CALLED.search(str(error))
    if called is None:
      raise _broken(path, "it is no pickle of weights alone") from error
    raise ValueError(
      f"{path} is refused: reading it would call {called[1]}, which no weights "
      f"need. Get the model from elsewhere, as {_SAFETENSORS} if it can be had."
    ) from error
  except Exception as error:  # PyTorch raises many types.
    raise _broken(path, error) from error
  if not isinstance(tensors, dict) or not all(
    isinstance(tensor, torch.Tensor) for tensor in tensors.values()
  ):
    raise _broken(path, "it holds something else than weights by name")

  def read(name: str, index: Any) -> np.ndarray:
    # numpy has no bfloat16 of its own; float32 holds every value of it.
    return tensors[name][index].to(torch.float32).numpy()

  def pick(name: str, places: Places) -> np.ndarray:
    return read(name, tuple(map(torch.from_numpy, places)))

  return {
    name: Stored(
      tuple(tensor.shape),
      np.dtype(np.float32),
      functools.partial(read, name),
      functools.partial(pick, name),
    )
    for name, tensor in tensors.items()
  }


def _broken(path: pathlib.Path, error: Exception | str) -> ValueError:
  reason = str(error).split("\n", 1)[0]
  return ValueError(
    f"{path} cannot be read; it is missing, truncated or corrupt. ({reason})"
  )


def _import_safetensors() -> Any:
  try:
    import safetensors
    import safetensors.numpy
  except ImportError as error:
    raise ImportError(
      f"{_SAFETENSORS} needs the package safetensors; install it with `pip "
      "install 'prompt-tuning[huggingface]'`."
    ) from error
  return safetensors
