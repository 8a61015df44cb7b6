"""Reads the reference fixtures into this project's trees."""

import os
from typing import Any

import numpy as np
from flax import traverse_util


def read_params(path: str | os.PathLike[str]) -> dict[str, Any]:
  """Returns the nested parameters of an .npz with "/"-joined keys."""
  with np.load(path) as arrays:
    return traverse_util.unflatten_dict(dict(arrays), sep="/")
