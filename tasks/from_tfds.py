"""Public data sets from TensorFlow Datasets, at the versions of the paper.

Records are read as NumPy and rendered in Python, by what renders files too. A
data set that is not prepared in --tfds_data_dir is downloaded when it is first
read, never when it is checked. TensorFlow is imported when it is read.
"""

import contextlib
import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from prompt_tuning.data import text_tasks
from prompt_tuning.data.vocabularies import Vocabulary
from prompt_tuning.tasks import catalog, described
from prompt_tuning.tasks.data_set import DataSet
from prompt_tuning.tasks.text_form import Rendered, TextForm, text_form_of


def add(
  data_set: str,
  *,
  vocabulary: Vocabulary,
  name: str | None = None,
  text_form: TextForm | str = TextForm.PLAIN,
  data_dir: str | None = None,
) -> text_tasks.TextTask:
  """Makes a data set of TFDS known as a task.

  Args:
    data_set: Its name in `catalog`, such as "boolq".
    vocabulary: The backbone's.
    name: The task's name; by default the data set's.
    text_form: What stands in front of an example's text, see `TextForm`.
    data_dir: Where TFDS has it or puts it; by default where --tfds_data_dir
      says, or else TFDS's own folder.

  Returns:
    The task.

  Raises:
    ValueError: As `from_files.add`.
  """
  found, form = catalog.data_set(data_set), text_form_of(text_form)
  form.check(vocabulary, index=found.index)
  return text_tasks.add(
    name or data_set,
    {
      split: functools.partial(
        _read, found, split=split, form=form, data_dir=data_dir
      )
      for split in found.tfds_splits
    },
    vocabulary=vocabulary,
    metric_fns=found.metric_fns,
    postprocess_fn=found.postprocess_fn,
  )


def data_set_task(
  *,
  data_set: str,
  vocabulary: Vocabulary,
  name: str | None = None,
  text_form: TextForm | str = TextForm.PLAIN,
) -> str:
  """As `add`, but the same task may be described again.

  Returns:
    The task's name, to be used as MIXTURE_OR_TASK_NAME.
  """
  name = name or data_set
  return described.once(
    name,
    ("tfds", data_set, text_form_of(text_form), vocabulary),
    lambda: add(
      data_set, vocabulary=vocabulary, name=name, text_form=text_form
    ),
  )


# Returns a list, unlike what reads files: a generator's first example would be
# looked at when the task is checked, and that would download the data set.
def _read(
  data_set: DataSet, *, split: str, form: TextForm, data_dir: str | None
) -> list[Rendered]:
  """Reads a split in TFDS's order."""
  import tensorflow as tf
  import tensorflow_datasets as tfds

  # TensorFlow reads text here, and would take the accelerator's memory. Where
  # it runs already, its devices can no longer be changed.
  with contextlib.suppress(RuntimeError):
    tf.config.set_visible_devices([], "GPU")
  # Decorators hide its parameters from the type checker.
  builder: Any = tfds.builder(data_set.tfds, data_dir=data_dir)
  builder.download_and_prepare()
  dataset = builder.as_dataset(
    split=data_set.tfds_splits[split], shuffle_files=False
  )
  records = map(_plain, tfds.as_numpy(dataset))
  return list(data_set.examples(records, split=split, form=form))


def _plain(value: Any) -> Any:
  """Returns str for bytes, and plain numbers, lists and dicts."""
  if isinstance(value, Mapping):
    return {name: _plain(each) for name, each in value.items()}
  if isinstance(value, bytes):
    return value.decode("utf-8")
  if isinstance(value, np.ndarray | np.generic):
    value = value.tolist()
  return list(map(_plain, value)) if isinstance(value, list) else value
