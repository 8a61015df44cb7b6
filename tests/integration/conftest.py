"""What whole runs share."""

import pytest

from prompt_tuning.backbone import Backbone
from prompt_tuning.checkpoints import t5x
from prompt_tuning.data.vocabularies import ByteVocabulary
from prompt_tuning.testing import fakes


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
  """A tiny T5 of bytes with random weights, read from a checkpoint."""
  model = fakes.tiny_model(vocab_size=384)
  folder = tmp_path_factory.mktemp("backbone")
  path = t5x.save(fakes.tiny_params(model), folder, step=7)
  return Backbone(
    config=model.config,
    vocabulary=ByteVocabulary(extra_ids=125),
    checkpoint=str(path),
  )
