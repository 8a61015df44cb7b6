"""The weight files of Hugging Face folders: safetensors or PyTorch's own."""

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from prompt_tuning import paths

_SAFETENSORS = "model.safetensors"
_PYTORCH = "pytorch_model.bin"


def read(folder: paths.PathLike, *, dtype: str) -> dict[str, np.ndarray]:
  """Reads all weights of a folder, split over several files or not.

  Args:
    folder: A local folder.
    dtype: The type to return.

  Returns:
    Arrays by their names in the file.

  Raises:
    ValueError: If there are no weights, a file is truncated or corrupt, or the
      folder is not local.
    ImportError: If the package that reads the format is missing.
  """
  if paths.is_remote(folder):
    # The formats are mapped into memory, which takes a file.
    raise ValueError(
      f"Hugging Face folders are read from local disk only; copy "
      f"{os.fspath(folder)} to one."
    )
  readers = {_SAFETENSORS: _read_safetensors, _PYTORCH: _read_pytorch}
  for name, reader in readers.items():
    files = _files(folder, name)
    if files:
      weights: dict[str, np.ndarray] = {}
      for file in files:
        weights |= reader(file, jnp.dtype(dtype))
      return weights
  raise ValueError(
    f"{os.fspath(folder)} holds neither {_SAFETENSORS} nor {_PYTORCH}; it "
    f"holds {', '.join(paths.list_dir(folder)) or 'nothing'}."
  )


def write(folder: paths.PathLike, weights: Mapping[str, np.ndarray]) -> None:
  """Writes all weights into one safetensors file.

  Args:
    folder: The folder to write into.
    weights: Contiguous arrays by name.

  Raises:
    ImportError: If the package safetensors is missing.
  """
  library = _import_safetensors()
  # transformers refuses a file that does not name the framework.
  packed = library.numpy.save(dict(weights), metadata={"format": "pt"})
  paths.write_bytes(paths.as_path(folder) / _SAFETENSORS, packed)


def _files(folder: paths.PathLike, name: str) -> list[pathlib.Path]:
  folder = paths.as_path(folder)
  if (folder / name).exists():
    return [folder / name]
  index = folder / f"{name}.index.json"
  if not index.exists():
    return []
  shards = json.loads(paths.read_text(index))["weight_map"].values()
  return [folder / shard for shard in sorted(set(shards))]


def _read_safetensors(
  path: pathlib.Path, dtype: np.dtype
) -> dict[str, np.ndarray]:
  library = _import_safetensors()
  try:
    with library.safe_open(path, framework="np") as file:
      return {
        name: file.get_tensor(name).astype(dtype, copy=False)
        for name in file.keys()  # noqa: SIM118  # It is not a dictionary.
      }
  except (library.SafetensorError, OSError) as error:
    raise _broken(path, error) from error


def _read_pytorch(path: pathlib.Path, dtype: np.dtype) -> dict[str, np.ndarray]:
  try:
    import torch  # pyright: ignore[reportMissingImports]
  except ImportError as error:
    raise ImportError(
      f"Reading {path} needs PyTorch (`pip install torch`), or convert it to "
      f"{_SAFETENSORS}."
    ) from error
  try:
    # weights_only: an ordinary pickle could run any code.
    tensors = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
  except Exception as error:  # PyTorch raises many types.
    raise _broken(path, error) from error
  # numpy has no bfloat16 of its own; float32 holds every value of it.
  return {
    name: tensor.to(torch.float32).numpy().astype(dtype, copy=False)
    for name, tensor in tensors.items()
  }


def _broken(path: pathlib.Path, error: Exception) -> ValueError:
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
