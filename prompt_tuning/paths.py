"""Files and folders, local or on gs://, and where the project's own ones lie.

Whatever is written here appears whole or not at all: into a temporary neighbour
first, renamed when complete. A failure leaves the old file as it was.
"""

import contextlib
import errno
import importlib.util
import os
import pathlib
import shutil
import uuid
from collections.abc import Iterable, Iterator
from typing import IO, Any, cast

# Read by etils at each use: without it gs:// paths would go through TensorFlow
# wherever that happens to be installed, and cost seconds of import.
os.environ.setdefault("EPATH_USE_TF", "0")

PathLike = str | os.PathLike[str]

_PACKAGE = pathlib.Path(__file__).resolve().parent
_FULL = (errno.ENOSPC, errno.EDQUOT)
_DENIED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)


def is_remote(path: PathLike) -> bool:
  """Returns whether the path is on an object store (gs://...)."""
  return os.fspath(path).startswith("gs://")


def as_path(path: PathLike) -> pathlib.Path:
  """Returns a path with pathlib's methods.

  Args:
    path: A local path, in which `~` is expanded and which is made absolute (as
      Orbax and TensorStore require), or a gs:// one.

  Returns:
    A `pathlib.Path`; for gs:// an `etils.epath.Path`, which differs in type
    only.
  """
  if not is_remote(path):
    return pathlib.Path(path).expanduser().absolute()
  from etils import epath  # Local work should not pay for this import.

  # etils would fail much later and less clearly.
  if importlib.util.find_spec("gcsfs") is None:
    raise ImportError(
      f"Reaching {os.fspath(path)} needs the package gcsfs; install it with "
      "`pip install gcsfs`."
    )
  return cast(pathlib.Path, epath.Path(path))


def exists(path: PathLike) -> bool:
  """Returns whether there is a file or folder at `path`."""
  return as_path(path).exists()


def is_dir(path: PathLike) -> bool:
  """Returns whether there is a folder at `path`."""
  return as_path(path).is_dir()


def list_dir(path: PathLike) -> list[str]:
  """Returns the names in a folder, sorted; none if there is no folder."""
  path = as_path(path)
  return sorted(child.name for child in path.iterdir()) if path.is_dir() else []


def open_file(path: PathLike, mode: str = "r") -> IO[Any]:
  """Opens a file to read ("r", "rb") or to append to ("a").

  Text is UTF-8. Complete files are written with `write_bytes` or `write_text`.

  Args:
    path: Where the file is.
    mode: "r", "rb" or "a".

  Raises:
    ValueError: For another mode.
    OSError: If it cannot be opened.
  """
  if mode not in ("r", "rb", "a"):
    raise ValueError(
      f"open_file: mode must be 'r', 'rb' or 'a', got {mode!r}; use "
      "write_bytes or write_text to write whole files."
    )
  encoding = None if "b" in mode else "utf-8"
  with _explained(path):
    return as_path(path).open(mode, encoding=encoding)


def read_bytes(path: PathLike) -> bytes:
  """Returns the content of a file."""
  return as_path(path).read_bytes()


def read_text(path: PathLike) -> str:
  """Returns the content of a UTF-8 text file."""
  return read_bytes(path).decode("utf-8")


def write_bytes(path: PathLike, data: bytes) -> None:
  """Writes a whole file atomically; replaces an old one.

  Args:
    path: Where to; its folder must exist.
    data: The content.

  Raises:
    OSError: If the disk is full or the folder cannot be written; an old file is
      then untouched.
  """
  write_chunks(path, [data], num_bytes=len(data))


def write_chunks(
  path: PathLike, chunks: Iterable[bytes], *, num_bytes: int | None = None
) -> None:
  """Writes a file as `write_bytes`, of content that comes in chunks.

  Args:
    path: Where to; its folder must exist. In an object store the content is
      joined in memory.
    chunks: The content.
    num_bytes: About how much it is, for the message on a full disk.

  Raises:
    OSError: As `write_bytes`.
  """
  path = as_path(path)
  if is_remote(path):
    # Object stores publish only complete objects.
    path.write_bytes(b"".join(chunks))
    return
  temporary = _temporary(path)
  with _explained(path, num_bytes=num_bytes):
    try:
      with open(temporary, "wb") as file:
        file.writelines(chunks)
        file.flush()
        os.fsync(file.fileno())
      os.replace(temporary, path)
    finally:
      # Gone after a successful replacement.
      temporary.unlink(missing_ok=True)


def write_text(path: PathLike, text: str) -> None:
  """Writes a whole UTF-8 text file atomically; see `write_bytes`."""
  write_bytes(path, text.encode("utf-8"))


@contextlib.contextmanager
def atomic_directory(
  path: PathLike, *, num_bytes: int | None = None
) -> Iterator[pathlib.Path]:
  """Gives an empty folder that becomes `path` when the block ends well.

  Args:
    path: The folder to make. Its parents are made too.
    num_bytes: About how much will be written, for the message on a full disk.

  Yields:
    The temporary folder. It is deleted if the block raises.

  Raises:
    FileExistsError: If there is something at `path` already.
    OSError: If the disk is full or the parent cannot be written.
  """
  path = as_path(path)
  if path.exists():
    raise FileExistsError(
      errno.EEXIST,
      "will not overwrite it; delete it or choose another name",
      str(path),
    )
  temporary = _temporary(path)
  with _explained(path, num_bytes=num_bytes):
    try:
      temporary.mkdir(parents=True)
      yield temporary
      temporary.rename(path)
    except BaseException:
      delete_dir(temporary)
      raise


def delete_dir(path: PathLike) -> None:
  """Deletes a folder with all that is in it; what resists stays."""
  path = as_path(path)
  if is_remote(path):
    if path.exists():
      cast(Any, path).rmtree()  # epath has it, pathlib has not.
  else:
    shutil.rmtree(path, ignore_errors=True)


def make_writable_dir(path: PathLike) -> pathlib.Path:
  """Makes a folder if need be and checks that it can be written.

  Called before a run starts, so that hours of work do not end in an error.

  Args:
    path: The folder.

  Returns:
    It, as `as_path` gives it.

  Raises:
    OSError: If it cannot be made or written, saying which and what to do.
  """
  path = as_path(path)
  with _explained(path, otherwise="cannot be made"):
    path.mkdir(parents=True, exist_ok=True)
    if not is_remote(path):
      probe = _temporary(path / "probe")
      probe.touch()
      probe.unlink()
  return path


def check_writable_dir(path: PathLike) -> None:
  """Checks that a folder can be written, or made, and leaves nothing there.

  Called before anything large is read, so that a mistyped folder costs no
  minutes. Of a bucket nothing is checked.

  Args:
    path: The folder, which need not exist.

  Raises:
    OSError: As `make_writable_dir`.
  """
  path = as_path(path)
  if is_remote(path):
    return
  with _explained(path, otherwise="cannot be made"):
    whole = path.absolute()
    there = next(p for p in (whole, *whole.parents) if p.exists())
    probe = _temporary(there / "probe")
    probe.touch()
    probe.unlink()


def check_writable_file(path: PathLike) -> None:
  """Checks that a file can be written, and leaves nothing there.

  Raises:
    OSError: It is a folder, or cannot stand in its own; see
      `check_writable_dir`.
  """
  path = as_path(path)
  if not is_remote(path) and path.is_dir():
    raise OSError(
      errno.EISDIR, "is a folder; give the name of a file", str(path)
    )
  check_writable_dir(path.parent)


def recipe_roots() -> tuple[pathlib.Path, ...]:
  """Returns the folders that hold the project's gin recipes, best first.

  A checkout's `gin/` comes before the one that travels in the wheel.
  """
  candidates = (_PACKAGE.parent / "gin", _PACKAGE / "gin")
  # Beside an installed package, `gin` is the gin library itself.
  return tuple(
    root
    for root in candidates
    if root.is_dir() and not (root / "__init__.py").exists()
  )


def embedded_dir() -> pathlib.Path:
  """Returns the folder of the small model that the project ships."""
  return _PACKAGE / "embedded"


def embedded_path(name: str) -> str:
  """Returns the path of a file or folder of the embedded model."""
  return str(embedded_dir() / name)


def _temporary(path: pathlib.Path) -> pathlib.Path:
  # The dot hides it from anything that looks for checkpoints by name.
  return path.with_name(f".{path.name}.tmp-{uuid.uuid4().hex[:8]}")


@contextlib.contextmanager
def _explained(
  path: PathLike,
  *,
  num_bytes: int | None = None,
  otherwise: str | None = None,
) -> Iterator[None]:
  """Re-raises errors of the operating system with the path and what to do.

  Args:
    path: What to name.
    num_bytes: About how much was to be written.
    otherwise: What to call a failure that is neither a full disk nor a lack of
      permission; by default it passes as it is.
  """
  try:
    yield
  except OSError as error:
    if error.errno in _FULL:
      need = "" if num_bytes is None else f" ({num_bytes:,} bytes needed)"
      message = (
        f"disk full: not written{need}, and what was there before is "
        "untouched; free space or choose another disk"
      )
    elif error.errno in _DENIED:
      message = (
        f"cannot be written ({os.strerror(error.errno)}); give yourself "
        "permission or choose another folder"
      )
    elif otherwise is not None:
      reason = os.strerror(error.errno) if error.errno else error
      message = f"{otherwise} ({reason}); choose another folder"
    else:
      raise
    # The three-argument form picks PermissionError and the like by number.
    raise OSError(error.errno, message, str(path)) from error
