"""Starts a program as several processes that are one run, on this machine.

They talk over the loopback interface, as the hosts of a pod slice do over their
network.
"""

import os
import pathlib
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

from prompt_tuning.runs import distributed


def start(
  program: Sequence[str], *, count: int, devices: int = 1
) -> list[subprocess.Popen[str]]:
  """Starts a Python program `count` times; of one, without its knowing.

  Args:
    program: What follows the interpreter on the command line.
    count: The number of processes.
    devices: Virtual CPU devices of each.
  """
  coordinator = f"127.0.0.1:{_free_port()}"
  return [
    subprocess.Popen(
      [sys.executable, *program],
      env=os.environ
      | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
      }
      | (_membership(coordinator, count, index) if count > 1 else {}),
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    for index in range(count)
  ]


def finish(
  processes: Sequence[subprocess.Popen[str]], *, timeout: float
) -> list[tuple[str, str]]:
  """Returns what each process wrote to its output and to its log.

  Raises:
    AssertionError: If one of them failed; all are ended.
    subprocess.TimeoutExpired: If one did not end; all are ended.
  """
  end = time.monotonic() + timeout
  try:
    written = [p.communicate(timeout=end - time.monotonic()) for p in processes]
  finally:
    kill(processes)
  for process, (_, log) in zip(processes, written, strict=True):
    assert process.returncode == 0, log[-3000:]
  return written


def kill(processes: Sequence[subprocess.Popen[str]]) -> None:
  """Ends processes that still run, at once, and leaves nothing of any open."""
  for process in processes:
    if process.poll() is None:
      process.kill()
  for process in processes:
    process.wait()
    for stream in (process.stdout, process.stderr):
      if stream is not None:
        stream.close()


def wait_for(
  path: pathlib.Path,
  processes: Sequence[subprocess.Popen[str]],
  *,
  timeout: float,
) -> None:
  """Waits until a run has written a file or folder.

  Raises:
    AssertionError: If a process ends before, or the time is up; all are ended.
  """
  end = time.monotonic() + timeout
  while not path.exists():
    ended = [p for p in processes if p.poll() is not None]
    if ended or time.monotonic() > end:
      logs = [p.communicate()[1][-3000:] for p in ended]
      kill(processes)
      raise AssertionError(f"{path} did not appear: {logs}")
    time.sleep(0.05)


def _membership(coordinator: str, count: int, index: int) -> dict[str, str]:
  return {
    distributed.COORDINATOR: coordinator,
    distributed.NUM_PROCESSES: str(count),
    distributed.PROCESS_ID: str(index),
  }


def _free_port() -> int:
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    return free.getsockname()[1]
