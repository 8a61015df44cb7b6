"""A MODEL_DIR goes on with the data that it began with, noise included."""

import json

import pytest

from prompt_tuning.backbone import Backbone
from prompt_tuning.data.inputs import CorpusInputs
from prompt_tuning.data.vocabularies import ByteVocabulary
from prompt_tuning.runs import train
from prompt_tuning.testing import fakes
from prompt_tuning.train import optimizers, plan


@pytest.fixture(scope="module")
def pretrain(tmp_path_factory):
  """Pre-trains for a number of steps, always into the same MODEL_DIR."""
  folder = tmp_path_factory.mktemp("other_data")
  file = folder / "corpus.jsonl"
  file.write_text(json.dumps({"text": "abc " * 100}) + "\n")

  def pretrain(steps, **noise):
    return train.train(
      model_dir=str(folder / "run"),
      backbone=Backbone(
        config=fakes.tiny_config(vocab_size=384),
        vocabulary=ByteVocabulary(extra_ids=125),
      ),
      inputs=CorpusInputs(
        files=[str(file)],
        cache=str(folder / "tokens"),
        objective="span_corruption",
        **noise,
      ),
      feature_lengths={"inputs": 16, "targets": 16},
      batch_size=8,
      trainable=(".*",),
      optimizer=optimizers.adafactor(
        learning_rate=optimizers.constant(learning_rate=0.01)
      ),
      plan=plan.Plan(total_steps=steps),
      from_scratch=True,
    )

  pretrain(1)
  return pretrain


@pytest.mark.parametrize(
  ("noise", "line"),
  [
    ({"noise_density": 0.3}, "data/objective/noise_density: 0.15 -> 0.3"),
    ({"mean_span_length": 2.0}, "data/objective/mean_span_length: 3.0 -> 2.0"),
  ],
)
def test_other_noise_is_another_run(pretrain, noise, line):
  with pytest.raises(ValueError, match="another run") as caught:
    pretrain(2, **noise)
  assert line in str(caught.value)


def test_the_same_noise_goes_on(pretrain):
  assert pretrain(2, noise_density=0.15).step == 2
