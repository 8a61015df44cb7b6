import pytest

from prompt_tuning.testing import golden


@pytest.fixture(autouse=True)
def _no_update(monkeypatch):
  monkeypatch.delenv("UPDATE_GOLDEN", raising=False)


def test_equal_text_passes(tmp_path):
  path = tmp_path / "a.txt"
  path.write_text("one\ntwo\n")
  golden.assert_matches("one\ntwo\n", path)


def test_difference_is_shown_with_advice(tmp_path):
  path = tmp_path / "a.txt"
  path.write_text("one\ntwo\n")
  with pytest.raises(AssertionError) as caught:
    golden.assert_matches("one\n2\n", path)
  message = str(caught.value)
  assert "-two\n+2" in message
  assert "UPDATE_GOLDEN=1 pytest 'tests/unit/testing/golden_test.py" in message
  assert "test_difference_is_shown_with_advice" in message
  assert path.read_text() == "one\ntwo\n"


def test_missing_file_is_a_failure(tmp_path):
  with pytest.raises(AssertionError, match="There is no golden file"):
    golden.assert_matches("one\n", tmp_path / "a.txt")


def test_difference_in_line_ends_is_a_failure(tmp_path):
  path = tmp_path / "a.txt"
  path.write_text("one\n")
  with pytest.raises(AssertionError, match="line ends only"):
    golden.assert_matches("one", path)


def test_long_differences_are_cut(tmp_path):
  path = tmp_path / "a.txt"
  path.write_text("")
  with pytest.raises(AssertionError, match="and 9903 lines more"):
    golden.assert_matches("line\n" * 10_000, path)


def test_update_writes_the_file(tmp_path, monkeypatch):
  monkeypatch.setenv("UPDATE_GOLDEN", "1")
  path = tmp_path / "new" / "a.txt"
  golden.assert_matches("one\n", path)
  assert path.read_text() == "one\n"
