"""What every test runs under."""

import os
import sys

import pytest

# Read when JAX starts its backend. Tests of meshes need several devices, and
# everything else runs on the first of them.
_NUM_DEVICES = 8
os.environ["XLA_FLAGS"] = " ".join(
  [
    os.environ.get("XLA_FLAGS", ""),
    f"--xla_force_host_platform_device_count={_NUM_DEVICES}",
  ]
).strip()


def pytest_configure(config):
  del config
  from absl import flags

  # Libraries read absl's flags, which no absl main parses here.
  flags.FLAGS.mark_as_parsed()


@pytest.fixture(autouse=True)
def _fresh_gin():
  """Forgets what a test has configured."""
  yield
  gin = sys.modules.get("gin")
  if gin is not None:
    gin.clear_config()
