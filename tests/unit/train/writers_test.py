"""Tests of metric writers."""

import json
import math
import struct

import pytest
from tensorboardX.proto import event_pb2

from prompt_tuning.train import writers


def _lines(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


def _write(writer, *steps):
  for step in steps:
    writer.write("train", step, {"loss": step / 2})


@pytest.fixture
def path(tmp_path):
  return tmp_path / "metrics.jsonl"


def test_a_line_names_scope_step_and_values(path):
  writer = writers.JsonlWriter(path)
  writer.write("training_eval/sst2", 5, {"accuracy": 91.5, "f1": 0.1 + 0.2})
  writer.flush()
  assert _lines(path) == [
    {
      "scope": "training_eval/sst2",
      "step": 5,
      "accuracy": 91.5,
      "f1": 0.1 + 0.2,  # every bit
    }
  ]


def test_nothing_is_in_the_file_before_a_flush(path):
  writer = writers.JsonlWriter(path)
  _write(writer, 1)
  assert not path.exists()
  writer.close()
  assert len(_lines(path)) == 1


def test_numbers_that_are_not_finite_are_null(path):
  writer = writers.JsonlWriter(path)
  writer.write("train", 1, {"a": math.nan, "b": math.inf, "c": 1.0})
  writer.flush()
  assert _lines(path)[0] | {"a": None, "b": None, "c": 1.0} == _lines(path)[0]


def test_rewinding_drops_what_comes_again(path):
  writer = writers.JsonlWriter(path)
  _write(writer, 1, 2, 3)
  writer.flush()
  resumed = writers.JsonlWriter(path)
  resumed.rewind(2)
  _write(resumed, 3, 4)
  resumed.flush()
  assert [line["step"] for line in _lines(path)] == [1, 2, 3, 4]


@pytest.mark.parametrize("torn", ['{"scope": "tr', '{"scope"', "\0\0\0", "7"])
def test_rewinding_drops_a_torn_line(path, torn):
  path.write_text('{"scope": "train", "step": 1}\n' + torn)
  writer = writers.JsonlWriter(path)
  writer.rewind(9)
  _write(writer, 2)
  writer.flush()
  assert [line["step"] for line in _lines(path)] == [1, 2]


def test_rewinding_to_before_the_start_empties_the_file(path):
  path.write_text('{"scope": "training_eval/a", "step": 0}\n')
  writers.JsonlWriter(path).rewind(-1)
  assert path.read_text() == ""


def test_rewinding_forgets_lines_that_wait(path):
  writer = writers.JsonlWriter(path)
  _write(writer, 1)
  writer.rewind(0)
  writer.flush()
  assert not path.exists()


def _events(folder):
  """Reads TensorBoard's record format: length, checksum, bytes, checksum."""
  events = []
  for file in sorted(folder.iterdir()):
    data, position = file.read_bytes(), 0
    while position < len(data):
      (length,) = struct.unpack_from("<Q", data, position)
      record = data[position + 12 : position + 12 + length]
      events.append(event_pb2.Event.FromString(record))
      position += 16 + length
  return events


def test_tensorboard_has_a_folder_a_scope(tmp_path):
  writer = writers.TensorBoardWriter(tmp_path)
  writer.write("train", 3, {"loss": 0.5})
  writer.write("training_eval/sst2", 4, {"accuracy": 91.5})
  writer.close()
  found = {
    (scope, event.step, value.tag, value.simple_value)
    for scope in ("train", "training_eval/sst2")
    for event in _events(tmp_path / scope)
    for value in event.summary.value
  }
  assert found == {
    ("train", 3, "loss", 0.5),
    ("training_eval/sst2", 4, "accuracy", 91.5),
  }


def test_tensorboard_is_told_from_which_step_to_forget(tmp_path):
  writer = writers.TensorBoardWriter(tmp_path)
  writer.rewind(7)
  writer.write("train", 8, {"loss": 0.5})
  writer.close()
  starts = [
    event.step
    for event in _events(tmp_path / "train")
    if event.session_log.status == event.session_log.START
  ]
  assert starts == [8]


def test_the_log_shows_scope_step_and_values():
  lines = []
  writers.LogWriter(lines.append).write("train", 3, {"loss": 0.123456789})
  assert lines == ["step 3 train: loss 0.123457"]


def test_a_composite_passes_everything_on(tmp_path):
  parts = [writers.JsonlWriter(tmp_path / name) for name in ("a", "b")]
  writer = writers.CompositeWriter(parts)
  _write(writer, 1, 2)
  writer.flush()
  writer.rewind(1)
  _write(writer, 5)
  writer.close()
  for name in ("a", "b"):
    assert [line["step"] for line in _lines(tmp_path / name)] == [1, 5]


def test_the_default_writes_jsonl_and_tensorboard(tmp_path):
  writer = writers.default_writer(tmp_path)
  _write(writer, 1)
  writer.close()
  assert _lines(tmp_path / writers.METRICS_FILE)
  assert _events(tmp_path / "train")
