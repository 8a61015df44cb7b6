"""Fixtures that register seqio Tasks and Mixtures for one test."""

import uuid

import pytest

from prompt_tuning.data import vocabularies


def _unique(prefix):
  return f"{prefix}_{uuid.uuid4().hex[:8]}"


@pytest.fixture
def task_names():
  """Names of tasks that are removed after the test."""
  seqio = pytest.importorskip("seqio", reason="this is what is tested")
  names = []
  yield names
  for name in names:
    seqio.TaskRegistry.remove(name)


@pytest.fixture
def add_task(task_names):
  """Registers byte-level text tasks under unique names."""
  from prompt_tuning.data import seqio_tasks, text_tasks

  def add(rows=None, *, prefix="task", source=None, **options):
    task_names.append(_unique(prefix))
    if source is None:
      splits = text_tasks.in_memory({"train": rows, "validation": rows[:2]})
      source = seqio_tasks.ExamplesSource(task_names[-1], splits)
    seqio_tasks.add_text_task(
      task_names[-1],
      source,
      vocabulary=vocabularies.ByteVocabulary(),
      **options,
    )
    return task_names[-1]

  return add


@pytest.fixture
def add_plain_task(add_task, task_names):
  """Registers tasks with seqio itself, with the preprocessors given."""
  import seqio

  def add(rows, preprocessors):
    like = seqio.TaskRegistry.get(add_task(rows))
    task_names.append(_unique("plain"))
    seqio.TaskRegistry.add(
      task_names[-1],
      source=like.source,
      preprocessors=preprocessors,
      output_features=like.output_features,
    )
    return task_names[-1]

  return add


@pytest.fixture
def add_mixture():
  """Registers mixtures of `(task, rate)` under unique names."""
  seqio = pytest.importorskip("seqio", reason="this is what is tested")
  names = []

  def add(tasks):
    names.append(_unique("mixture"))
    seqio.MixtureRegistry.add(names[-1], tasks)
    return names[-1]

  yield add
  for name in names:
    seqio.MixtureRegistry.remove(name)


@pytest.fixture
def restored_cache_dirs():
  """Forgets the folders that a test has seqio look for cached tasks in."""
  seqio = pytest.importorskip("seqio", reason="this is what is tested")
  before = list(seqio.utils.get_global_cache_dirs())
  seqio.set_global_cache_dirs([])
  yield
  seqio.set_global_cache_dirs(before)
