"""Checkpoints on gs://, by a server on this machine that speaks as one does."""

import http.server
import importlib.util
import threading
import urllib.parse

import jax
import numpy as np
import pytest

from prompt_tuning.checkpoints import load
from prompt_tuning.checkpoints.stored import Stored
from prompt_tuning.model import t5
from prompt_tuning.testing import fakes
from prompt_tuning.testing.checkpoints import FORMS, write
from prompt_tuning.train import mesh as mesh_lib

pytestmark = pytest.mark.multidevice
CONFIG = fakes.tiny_config()


@pytest.fixture(scope="module")
def params():
  return fakes.tiny_params(fakes.tiny_model())


class _Handler(http.server.BaseHTTPRequestHandler):
  """Answers what TensorStore asks of an object store: parts of objects."""

  def do_GET(self):
    path = urllib.parse.urlsplit(self.path).path
    name = urllib.parse.unquote(path.removeprefix("/storage/v1/b/bucket/o/"))
    file = self.server.folder / name
    if not file.is_file():
      self.send_error(404)
      return
    content = file.read_bytes()
    span = self.headers.get("Range", "")[len("bytes=") :]
    first, _, last = span.partition("-")
    part = content[int(first or 0) : int(last or len(content)) + 1]
    self.send_response(206 if first else 200)
    self.send_header("Content-Length", str(len(part)))
    self.send_header("x-goog-generation", "1")
    if first:
      end = int(first) + len(part) - 1
      self.send_header("Content-Range", f"bytes {first}-{end}/{len(content)}")
    self.end_headers()
    self.wfile.write(part)
    self.server.served.append((name, len(part)))

  def log_message(self, *args):
    pass


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
  """A folder that is gs://bucket, and what was served of it."""
  registry = pytest.importorskip(
    "fsspec.registry", reason="etils reads buckets with it"
  )
  local = pytest.importorskip("fsspec.implementations.local")
  folder = tmp_path_factory.mktemp("bucket")

  class Bucket(local.LocalFileSystem):
    """The folder under names of a bucket."""

    protocol = ("gs", "gcs")
    cachable = False

    def __init__(self, **kwargs):
      kwargs.pop("finalize_on_close", None)
      super().__init__(**kwargs)

    @classmethod
    def _strip_protocol(cls, path):
      return str(path).replace("gs://bucket", str(folder), 1)

  server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
  server.folder, server.served = folder, []
  threading.Thread(target=server.serve_forever, daemon=True).start()
  find_spec = importlib.util.find_spec
  with pytest.MonkeyPatch.context() as patch:
    url = f"http://127.0.0.1:{server.server_port}"
    patch.setenv("TENSORSTORE_GCS_HTTP_URL", url)
    patch.setenv("GOOGLE_AUTH_TOKEN_FOR_TESTING", "none")
    patch.setattr(
      importlib.util,
      "find_spec",
      lambda name, *rest: name == "gcsfs" or find_spec(name, *rest),
    )
    for protocol in Bucket.protocol:
      patch.setitem(registry._registry, protocol, Bucket)
    yield server
  server.shutdown()
  server.server_close()


@pytest.mark.parametrize("form", FORMS)
def test_a_checkpoint_in_a_bucket_is_read_as_on_a_disk(form, bucket, params):
  place = write(form, bucket.folder / form.replace(", ", "_"), CONFIG, params)
  path = str(place).replace(str(bucket.folder), "gs://bucket", 1)
  here = load.load_backbone(place, config=CONFIG)
  del bucket.served[:]
  opened = load.load_backbone(path, config=CONFIG, in_parts=True)
  assert opened.fingerprint == here.fingerprint
  assert all(isinstance(x, Stored) for x in jax.tree.leaves(opened.params))
  mesh = mesh_lib.make_mesh(data=1, model=8)
  axes = t5.logical_axes(t5.T5(CONFIG))
  shardings = mesh_lib.param_shardings(opened.params, axes, mesh=mesh)
  placed = mesh_lib.place(opened.params, shardings)
  jax.tree.map(np.testing.assert_array_equal, placed, here.params)
  # Safetensors, and all in one file, go through etils.
  assert bool(bucket.served) == (form not in ("Hugging Face", "T5X, one file"))
