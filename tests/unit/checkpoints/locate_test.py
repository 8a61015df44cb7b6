import pytest

from prompt_tuning.checkpoints import t5x
from prompt_tuning.checkpoints.locate import find_checkpoint
from prompt_tuning.testing import fakes

PARAMS = fakes.tiny_params(fakes.tiny_model())


def test_takes_the_latest_of_a_folder(tmp_path):
  for step in (9, 10, 2):
    t5x.save(PARAMS, tmp_path, step=step)
  (tmp_path / "checkpoint_11.tmp-123").mkdir()
  (tmp_path / "prompts").mkdir()
  assert find_checkpoint(tmp_path) == tmp_path / "checkpoint_10"


def test_accepts_the_file_of_a_legacy_checkpoint(tmp_path):
  path = t5x.save(PARAMS, tmp_path, step=1)
  assert find_checkpoint(path / "checkpoint") == path


def test_unknown_path_lists_near_names(tmp_path):
  (tmp_path / "t5_1_1_lm100k_base").mkdir()
  with pytest.raises(ValueError, match=r"Near names .*: t5_1_1_lm100k_base\."):
    find_checkpoint(tmp_path / "t5_1_1_lm10k_base")


def test_unknown_path_in_an_unknown_folder(tmp_path):
  with pytest.raises(ValueError, match=r"/a does not exist or is empty"):
    find_checkpoint(tmp_path / "a" / "b")


def test_a_folder_without_checkpoints(tmp_path):
  (tmp_path / "notes.txt").touch()
  with pytest.raises(ValueError, match=r"holds notes\.txt"):
    find_checkpoint(tmp_path)
