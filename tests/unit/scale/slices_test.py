import os

import pytest

from prompt_tuning.scale import slices
from prompt_tuning.scale.slices import Slice


@pytest.mark.parametrize(
  ("text", "chips"),
  [("v5e:1x1", 1), ("v5e:2x4", 8), ("v6e:16x16", 256), ("v4:2x2x4", 16)],
)
def test_a_slice_is_read_and_written(text, chips):
  slice_ = Slice.parse(text)
  assert slice_.name == text
  assert slice_.num_chips == chips


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("v5e", "expected a chip"),
    ("v99:2x2", "expected a chip"),
    ("v5e:0x2", "expected a chip"),
    ("v5e:4x4x4", "has 2 dimensions"),
    ("v5p:4x4", "has 3 dimensions"),
    ("v5e:3x4", "does not divide into hosts of 2x2 chips"),
    ("v4:1x1x1", "does not divide into hosts of 2x2x1 chips"),
  ],
)
def test_no_slice_is_like_that(text, message):
  with pytest.raises(ValueError, match=message):
    Slice.parse(text)


def test_the_environment_of_the_user_stands(monkeypatch):
  monkeypatch.setattr(os, "environ", {"TPU_LOG_DIR": "logs"})
  slices.prepare_environment()
  assert os.environ["TPU_LOG_DIR"] == "logs"
  assert os.environ["TPU_SKIP_MDS_QUERY"] == "1"
