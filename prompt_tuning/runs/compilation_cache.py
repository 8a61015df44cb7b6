"""Compiled programs, kept between runs of the same user.

What is compiled once for a model, its shapes and the machine is read by the
next run, whichever it is. JAX names a program by all that decides it: its text,
the compiler's version and options, and the devices.
"""

import os
import pathlib

import jax
from absl import logging

FOLDER = "JAX_COMPILATION_CACHE_DIR"
_SHORTEST = "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"


def keep() -> None:
  """Lets JAX keep what it compiles, where nothing says otherwise.

  It is kept in `prompt_tuning/compiled` in the user's cache folder. JAX's own
  variables win: JAX_COMPILATION_CACHE_DIR names another folder, and with
  JAX_ENABLE_COMPILATION_CACHE=0 nothing is kept. A program that a run cannot
  read, such as one that another process is writing, it compiles itself, and
  JAX warns. Of several processes that are one run nothing is kept: where some
  read a program and others compile it, these may wait for what those do not do.

  Call it before anything is compiled.
  """
  # JAX has read its variables by now.
  is_said = jax.config.read("jax_compilation_cache_dir") is not None
  if is_said or jax.distributed.is_initialized():
    return
  folder = default_folder()
  try:
    folder.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    logging.warning(
      "Compiled programs are not kept: %s. Name a folder in %s.", error, FOLDER
    )
    return
  jax.config.update("jax_compilation_cache_dir", str(folder))
  if _SHORTEST not in os.environ:
    # A run starts with dozens of small programs.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)


def default_folder() -> pathlib.Path:
  """Returns where programs are kept unless a variable says otherwise."""
  given = os.environ.get("XDG_CACHE_HOME")
  cache = pathlib.Path(given) if given else pathlib.Path.home() / ".cache"
  return cache / "prompt_tuning" / "compiled"
