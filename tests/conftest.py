"""What every test runs under."""

import os
import sys

import pytest

# Tests of meshes need several devices; everything else runs on the first. It
# costs nothing (measured), and has to be set before JAX starts its backend.
_NUM_DEVICES = 8


def pytest_configure(config):
  _set_up_jax(config)
  if "PYTEST_XDIST_WORKER" in os.environ:
    # Several workers share the cores already.
    for library in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"):
      os.environ.setdefault(library, "1")
  from absl import flags

  # Libraries read absl's flags, which no absl main parses here.
  flags.FLAGS.mark_as_parsed()


def _set_up_jax(config):
  """Sets what JAX reads from the environment, for subprocesses too."""
  assert "jax" not in sys.modules, "a plugin imported JAX before this file"
  os.environ["XLA_FLAGS"] = " ".join(
    [
      os.environ.get("XLA_FLAGS", ""),
      f"--xla_force_host_platform_device_count={_NUM_DEVICES}",
    ]
  ).strip()
  # Most of a test's time goes into compilation. Kept between runs and shared by
  # workers; `pytest --cache-clear` empties it.
  if hasattr(config, "cache"):
    cache = {
      "JAX_COMPILATION_CACHE_DIR": str(config.cache.mkdir("jax")),
      "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
      "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    for name, value in cache.items():
      os.environ.setdefault(name, value)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
  """Lets no comparison with another system be skipped where they are required.

  See `prompt_tuning.testing.oracles`: this also covers tests that skip by other
  means.
  """
  del call
  report = yield
  is_required = os.environ.get("PROMPT_TUNING_REQUIRE_ORACLES") == "1"
  is_skip = report.skipped and not hasattr(report, "wasxfail")
  if is_skip and is_required and item.get_closest_marker("oracle"):
    report.outcome = "failed"
    report.longrepr = f"{item.nodeid} may not be skipped: {report.longrepr[2]}"
  return report


@pytest.fixture(autouse=True)
def _fresh_gin():
  """Forgets what a test has configured."""
  yield
  if "gin" in sys.modules:
    sys.modules["gin"].clear_config()
