import pytest

from prompt_tuning.tasks.small_world.documents import SKILLS
from prompt_tuning.tasks.small_world.examples import examples

pytest.importorskip("seqio", reason="tasks are registered with seqio")


@pytest.fixture(scope="module")
def tasks():
  import seqio

  from prompt_tuning.tasks.small_world import tasks as module

  return {task: seqio.TaskRegistry.get(module.PREFIX + task) for task in SKILLS}


@pytest.mark.parametrize("task", tuple(SKILLS))
def test_the_dataset_holds_the_examples_tokenised(tasks, task):
  rows = tasks[task].get_dataset(split="validation", shuffle=False)
  first = next(rows.as_numpy_iterator())
  expected = examples(task, "validation")[0]
  features = tasks[task].output_features
  for key in ("inputs", "targets"):
    vocabulary = features[key].vocabulary
    assert vocabulary.decode(first[key].tolist()) == expected[key]
    assert first[key][-1] == 1
  assert len(first["targets"]) == 2


def test_the_metric_is_accuracy_in_percent(tasks):
  (metric,) = tasks["topic"].metric_fns
  assert metric(["music", "travel"], ["music", "sports"]) == {"accuracy": 50.0}
