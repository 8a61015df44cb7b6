"""What every test runs under."""

import collections
import os
import pathlib
import sys

import pytest
from absl import flags

# All of this is read when JAX is imported, which other conftest files do: so it
# is set here, and for subprocesses too.
_FLAGS = os.environ.get("XLA_FLAGS", "").split()
if not any("xla_backend_optimization_level" in flag for flag in _FLAGS):
  # Most of a test's time goes into compilation, and most of that into making
  # machine code fast. `.ci/run` gives 3, as in use, for some of the tests.
  _FLAGS.append("--xla_backend_optimization_level=0")
# Tests of meshes need several devices; everything else runs on the first.
_FLAGS.append("--xla_force_host_platform_device_count=8")
_JAX = {
  "XLA_FLAGS": " ".join(_FLAGS),
  # What is compiled is kept between runs and shared by workers; `pytest
  # --cache-clear` empties it.
  "JAX_COMPILATION_CACHE_DIR": str(
    pathlib.Path(__file__).parents[1] / ".pytest_cache" / "d" / "jax"
  ),
  "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
  "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}
assert "jax" not in sys.modules, "a plugin imported JAX before this file"
os.environ.update(_JAX)

if "PYTEST_XDIST_WORKER" in os.environ:
  # Several workers share the cores already.
  os.environ.setdefault("OMP_NUM_THREADS", "1")
  os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")


def pytest_configure(config):
  """Marks absl's flags as parsed: libraries read them, and no main runs."""
  del config
  flags.FLAGS.mark_as_parsed()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
  """Makes cases slow that come after the first few of `slow_after`."""
  seen = collections.Counter()
  for item in items:
    marker = item.get_closest_marker("slow_after")
    if marker is not None:
      name = item.nodeid.partition("[")[0]
      seen[name] += 1
      if seen[name] > marker.args[0]:
        item.add_marker(pytest.mark.slow)


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
