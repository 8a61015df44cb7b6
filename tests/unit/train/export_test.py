"""Tests of writing prompts beside checkpoints."""

import jax.numpy as jnp
import numpy as np
import pytest

from prompt_tuning import paths
from prompt_tuning.prompts.artifact import PromptCard, load_prompt
from prompt_tuning.train.export import PromptExporter

CARD = PromptCard(length=3, width=2, backbone="abc", step=0, task="toy")


def _export(exporter, step, value, *, is_best, metrics=None):
  exporter(
    {"prompt": {"embedding": jnp.full((3, 2), value)}},
    step=step,
    metrics=metrics or {},
    is_best=is_best,
  )


def test_every_save_has_its_prompt_and_the_best_is_marked(tmp_path):
  exporter = PromptExporter(tmp_path, CARD, metric="toy/accuracy")
  _export(exporter, 5, 1.0, is_best=True, metrics={"toy/accuracy": 90.0})
  _export(exporter, 10, 2.0, is_best=False, metrics={"toy/accuracy": 80.0})
  _export(exporter, 12, 3.0, is_best=False)
  best = load_prompt(tmp_path / "prompts" / "best.npy")
  assert (best.card.step, best.card.metric_value) == (5, 90.0)
  np.testing.assert_array_equal(best.array, np.full((3, 2), 1.0))
  last = load_prompt(tmp_path / "prompts" / "prompt_12.npy")
  assert (last.card.step, last.card.metric_name) == (12, None)
  assert (last.card.backbone, last.card.task) == ("abc", "toy")
  np.testing.assert_array_equal(last.array, np.full((3, 2), 3.0))


def test_a_crash_within_a_save_is_told_and_mended(tmp_path, monkeypatch):
  exporter = PromptExporter(tmp_path, CARD, metric="toy/accuracy")
  better = {"is_best": True, "metrics": {"toy/accuracy": 95.0}}
  _export(exporter, 5, 1.0, is_best=True, metrics={"toy/accuracy": 90.0})
  write_text = paths.write_text

  def crash(path, text):
    if path.name == "best.json":
      raise KeyboardInterrupt
    write_text(path, text)

  monkeypatch.setattr(paths, "write_text", crash)
  with pytest.raises(KeyboardInterrupt):
    _export(exporter, 10, 2.0, **better)
  best = tmp_path / "prompts" / "best.npy"
  with pytest.raises(ValueError, match=r"another array.*prompt_10\.npy beside"):
    load_prompt(best, allow_missing_card=True)
  assert load_prompt(best.with_name("prompt_10.npy")).card.metric_value == 95.0
  monkeypatch.undo()
  _export(exporter, 10, 2.0, **better)
  assert load_prompt(best).card.step == 10
  np.testing.assert_array_equal(load_prompt(best).array, np.full((3, 2), 2.0))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_the_file_is_float32(tmp_path, dtype):
  exporter = PromptExporter(tmp_path, CARD)
  embedding = jnp.full((3, 2), 0.5, dtype)
  exporter(
    {"prompt": {"embedding": embedding}}, step=1, metrics={}, is_best=False
  )
  array = np.load(tmp_path / "prompts" / "prompt_1.npy")
  assert array.dtype == np.float32
  np.testing.assert_array_equal(array, 0.5)


def test_a_prompt_that_is_not_trained_is_not_written(tmp_path):
  exporter = PromptExporter(tmp_path, CARD)
  exporter({"encoder": {}}, step=1, metrics={}, is_best=True)
  assert not list(tmp_path.iterdir())
