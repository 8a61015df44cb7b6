"""Tasks that a recipe describes by their files alone."""

import json

import pytest

from prompt_tuning.data.file_task import file_task
from prompt_tuning.data.vocabularies import ByteVocabulary

pytest.importorskip("seqio", reason="this is what is tested")

from prompt_tuning.data import seqio_input

_ROWS = [
  {"text": "so good", "label": 1, "task": 2},
  {"text": "so bad", "label": 0, "task": 0},
]


@pytest.fixture
def describe(tmp_path, task_names):
  """Describes a task of two lines, with what a test adds."""
  file = tmp_path / "train.jsonl"
  file.write_text("".join(json.dumps(row) + "\n" for row in _ROWS))

  def describe(name, **settings):
    task_names.append(name)
    return file_task(
      name=name,
      files={"train": str(file)},
      inputs="{text}",
      targets="label",
      vocabulary=ByteVocabulary(),
      verbalizers=("bad", "good"),
      **settings,
    )

  return describe


def test_examples_name_the_prompt_of_a_bank(describe):
  name = describe("file_task_of_a_bank", prompt_index="task")
  examples = seqio_input.read_task(name, "train")
  assert [example["prompt_index"] for example in examples] == [2, 0]
  texts = [example["targets_pretokenized"] for example in examples]
  assert texts == ["good", "bad"]


def test_examples_name_no_prompt_where_there_is_no_bank(describe):
  name = describe("file_task_of_one_prompt")
  for example in seqio_input.read_task(name, "train"):
    assert "prompt_index" not in example


def test_a_task_is_described_wherever_it_is_used(describe, task_names):
  name = describe("file_task_twice", prompt_index="task")
  assert describe("file_task_twice", prompt_index="task") == name
  with pytest.raises(ValueError, match="file_task_twice"):
    describe("file_task_twice")
  # It was registered once.
  task_names[:] = [name]
