"""Tasks that a recipe describes by their files alone."""

import json

import pytest

from prompt_tuning.data import text_tasks
from prompt_tuning.data.file_task import file_task
from prompt_tuning.data.vocabularies import ByteVocabulary

_ROWS = [
  {"text": "so good", "label": 1, "task": 2},
  {"text": "so bad", "label": 0, "task": 0},
]


@pytest.fixture
def describe(tmp_path):
  """Describes a task of two lines, with what a test adds."""
  file = tmp_path / "train.jsonl"
  file.write_text("".join(json.dumps(row) + "\n" for row in _ROWS))

  def describe(name, **settings):
    file_task(
      name=name,
      files={"train": str(file)},
      inputs="{text}",
      targets="label",
      vocabulary=ByteVocabulary(),
      verbalizers=("bad", "good"),
      **settings,
    )
    return text_tasks.get(name)

  return describe


def test_examples_name_the_prompt_of_a_bank(describe):
  task = describe("file_task_of_a_bank", prompt_index="task")
  examples = task.examples("train")
  assert [example["prompt_index"] for example in examples] == [2, 0]
  texts = [example["targets_pretokenized"] for example in examples]
  assert texts == ["good", "bad"]


def test_examples_name_no_prompt_where_there_is_no_bank(describe):
  for example in describe("file_task_of_one_prompt").examples("train"):
    assert "prompt_index" not in example


def test_a_task_is_described_wherever_it_is_used(describe):
  task = describe("file_task_twice", prompt_index="task")
  assert describe("file_task_twice", prompt_index="task") is task
  with pytest.raises(ValueError, match="file_task_twice"):
    describe("file_task_twice")
