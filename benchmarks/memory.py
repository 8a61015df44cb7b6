"""The memory of this process, as Linux counts it."""

import pathlib

_STATUS = pathlib.Path("/proc/self/status")
_CLEAR = pathlib.Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # See proc_pid_clear_refs(5).


def resident() -> int:
  """Returns the bytes of this process that are in memory now."""
  return _read("VmRSS")


def peak() -> int:
  """Returns the most bytes that were in memory since `reset_peak`, or ever.

  `resource.getrusage` would also count what the parent held when it started
  this process.
  """
  return _read("VmHWM")


def reset_peak() -> None:
  """Makes `peak` start again from what is in memory now."""
  _CLEAR.write_text(_RESET_PEAK)


def _read(name: str) -> int:
  if not _STATUS.exists():
    raise OSError(
      f"Memory is read from {_STATUS}, which this system lacks; measure on "
      "Linux."
    )
  for line in _STATUS.read_text().splitlines():
    key, _, value = line.partition(":")
    if key == name:
      return int(value.split()[0]) * 1024  # Stated in kB, meant in KiB.
  raise OSError(f"{_STATUS} has no {name}; measure on a plain Linux kernel.")
